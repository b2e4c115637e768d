// Pastes onto bytes by the definition in core/paste_bytes.h, in any layout: pixel by pixel, each seen once and written
// to every clip that shares the sight.
#include "cpu/paste_bytes.h"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "core/paste_bytes.h"
#include "core/pose.h"
#include "core/shapes.h"
#include "cpu/paint_order.h"
#include "cpu/parallel.h"
#include "cpu/same_sight.h"

namespace tubeletx::cpu {
namespace {

/// The patches of a call, premultiplied and with their borders repeated: (height + 2, width + 2, channels + 1), the
/// alpha last.
class ByteTexels {
 public:
  explicit ByteTexels(const PasteArguments& arguments)
      : length_(arguments.channels + 1),
        clips_(arguments.patches_per_clip ? arguments.num_clips : 1),
        tubelets_(arguments.num_tubelets),
        first_(static_cast<size_t>(arguments.batch * clips_ * tubelets_ + 1)) {
    const int64_t count = static_cast<int64_t>(first_.size()) - 1;
    for (int64_t index = 0; index < count; ++index) {
      const int32_t* size = arguments.patch_size + 2 * tubelet_of(index);
      const int64_t texels = size[0] > 0 && size[1] > 0 ? (int64_t{size[0]} + 2) * (int64_t{size[1]} + 2) : 0;
      first_[index + 1] = first_[index] + texels * length_;
    }
    data_.reset(new uint8_t[first_[count]]);
    parallel_for(count, 8, [&](int64_t begin, int64_t end) {
      for (int64_t index = begin; index < end; ++index) fill(arguments, index);
    });
  }

  /// Of tubelet m of sample b as clip v sees it.
  const uint8_t* get(int64_t b, int64_t v, int64_t m) const {
    return data_.get() + first_[(b * clips_ + (clips_ == 1 ? 0 : v)) * tubelets_ + m];
  }
  int64_t length() const { return length_; }

 private:
  int64_t tubelet_of(int64_t index) const { return index / (clips_ * tubelets_) * tubelets_ + index % tubelets_; }

  void fill(const PasteArguments& arguments, int64_t index) {
    const int32_t* size = arguments.patch_size + 2 * tubelet_of(index);
    if (first_[index + 1] == first_[index]) return;
    const int64_t width = size[0], height = size[1], pitch = (width + 2) * length_;
    const uint8_t* source =
        static_cast<const uint8_t*>(arguments.patches) + index / (clips_ * tubelets_) * arguments.patch_batch_stride +
        index / tubelets_ % clips_ * arguments.patch_clip_stride + index % tubelets_ * arguments.patch_tubelet_stride;
    uint8_t* first = data_.get() + first_[index];
    for (int64_t y = 0; y < height; ++y) {
      const uint8_t* from = source + y * arguments.patch_row_stride;
      uint8_t* row = first + (y + 1) * pitch;
      for (int64_t x = 0; x < width; ++x, from += arguments.patch_column_stride) {
        uint8_t* texel = row + (x + 1) * length_;
        const uint8_t alpha = arguments.has_alpha ? from[arguments.channels * arguments.patch_channel_stride] : 255;
        for (int64_t c = 0; c < arguments.channels; ++c) {
          texel[c] = premultiply(from[c * arguments.patch_channel_stride], alpha);
        }
        texel[arguments.channels] = alpha;
      }
      std::copy(row + length_, row + 2 * length_, row);
      std::copy(row + width * length_, row + (width + 1) * length_, row + (width + 1) * length_);
    }
    std::copy(first + pitch, first + 2 * pitch, first);
    std::copy(first + height * pitch, first + (height + 1) * pitch, first + (height + 1) * pitch);
  }

  int64_t length_, clips_, tubelets_;
  std::vector<int64_t> first_;
  std::unique_ptr<uint8_t[]> data_;
};

/// One tubelet in one frame, onto clips first .. last - 1, which see it at the same place.
struct ByteLayer {
  const PasteArguments& arguments;
  const uint8_t* texels;
  int64_t texel_length;
  BytePose pose;
  Shape shape;
  int64_t b, t, first, last;

  void paint_row(int64_t y, int64_t begin, int64_t end) const {
    const int32_t row = static_cast<int32_t>(y), column = static_cast<int32_t>(begin);
    int64_t place_x = place_of(pose, column, row, 0), place_y = place_of(pose, column, row, 1);
    uint8_t* pixels[kMaxClips];
    for (int64_t v = first; v < last; ++v) {
      const ClipView& clip = arguments.clips[v];
      pixels[v] = static_cast<uint8_t*>(clip.data) + b * clip.batch_stride + t * clip.frame_stride +
                  y * clip.row_stride + begin * clip.column_stride;
    }
    for (int64_t x = begin; x < end; ++x) {
      const int32_t strength = byte_strength(shape, pose, place_x, place_y);
      if (strength > 0) paint_pixel(pixels, see_texels(pose, place_x, place_y), strength);
      for (int64_t v = first; v < last; ++v) pixels[v] += arguments.clips[v].column_stride;
      place_x += pose.step_x[0];
      place_y += pose.step_x[1];
    }
  }

 private:
  void paint_pixel(uint8_t* const* pixels, const ByteSight& sight, int32_t strength) const {
    const int64_t pitch = (int64_t{pose.width()} + 2) * texel_length;
    const uint8_t* tap = texels + sight.row * pitch + sight.column * texel_length;
    const int32_t bias = byte_bias(pose.paint);
    const auto accumulate = [&](int64_t c) {
      return weigh_bytes(sight.weight, tap[c], tap[c + texel_length], tap[c + pitch], tap[c + pitch + texel_length],
                         bias);
    };
    const uint32_t keep =
        pose.paint == BytePaint::kOpaque ? 0 : keep_of(pose.paint, accumulate(arguments.channels), strength);
    for (int64_t c = 0; c < arguments.channels; ++c) {
      const uint32_t sum = accumulate(c);
      const uint32_t light = light_of(pose.paint, sum, strength);
      for (int64_t v = first; v < last; ++v) {
        uint8_t& pixel = pixels[v][c * arguments.clips[v].channel_stride];
        pixel = pose.paint == BytePaint::kOpaque ? opaque_byte(sum) : blend_byte(pose.paint, pixel, keep, light);
      }
    }
  }
};

void paste_layer(const PasteArguments& arguments, const ByteTexels& texels, int64_t b, int64_t t, int64_t m,
                 int64_t first, int64_t last) {
  const int64_t tubelet = b * arguments.num_tubelets + m;
  Placement placement;
  if (!placement_of(arguments, b, first, m, t, placement)) return;
  const Shape shape = static_cast<Shape>(arguments.shape[tubelet]);
  ByteLayer layer{arguments, texels.get(b, first, m), texels.length(), {}, shape, b, t, first, last};
  if (!make_byte_pose(placement, arguments.edge[tubelet], arguments.opacity[tubelet * arguments.frames + t],
                      arguments.has_alpha, layer.pose)) {
    return;
  }
  const Footprint footprint(placement, shape, arguments.height, arguments.width, place_quantum(layer.pose));
  for (int64_t y = footprint.row_begin; y < footprint.row_end; ++y) {
    int64_t begin, end;
    footprint.span(y, begin, end);
    layer.paint_row(y, begin, end);
  }
}

}  // namespace

void paste_bytes(const PasteArguments& arguments) {
  const ByteTexels texels(arguments);
  const std::vector<int64_t> sequence = paint_order(arguments);
  // A frame of one tubelet takes a few microseconds: handing out fewer than some of them costs more than it gains.
  constexpr int64_t kGrain = 4;
  parallel_for(arguments.batch * arguments.frames, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t frame = begin; frame < end; ++frame) {
      const int64_t b = frame / arguments.frames, t = frame % arguments.frames;
      for (int64_t k = 0; k < arguments.num_tubelets; ++k) {
        const int64_t m = sequence[b * arguments.num_tubelets + k];
        int64_t last;
        for (int64_t first = 0; first < arguments.num_clips; first = last) {
          last = end_of_sight(arguments, b, m, first);
          paste_layer(arguments, texels, b, t, m, first, last);
        }
      }
    }
  });
}

}  // namespace tubeletx::cpu
