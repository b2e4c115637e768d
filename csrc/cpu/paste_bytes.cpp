// Pastes onto bytes by the definition in core/paste_bytes.h: with the vector units where they can be used, else pixel
// by pixel. A pixel is seen once and written to every clip that shares the sight.
#include "cpu/paste_bytes.h"

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "core/paste_bytes.h"
#include "core/pose.h"
#include "core/shapes.h"
#include "cpu/byte_layer.h"
#include "cpu/byte_records.h"
#include "cpu/paint_order.h"
#include "cpu/parallel.h"
#include "cpu/same_sight.h"
#include "cpu/vector.h"

#define TUBELETX_LOOPS "cpu/paste_bytes_loops.h"
#include "cpu/in_each_instruction_set.h"

namespace tubeletx::cpu {
namespace {

/// The definition itself, pixel by pixel.
void paste_pixels(const ByteLayer& layer, const Footprint& footprint, const ByteFrame& frame) {
  const BytePose& pose = layer.pose;
  const BytePaint paint = pose.paint;
  const int32_t bias = byte_bias(paint);
  const int64_t pitch = int64_t{pose.width()} + 1;
  for (int64_t y = footprint.row_begin; y < footprint.row_end; ++y) {
    int64_t begin, end;
    footprint.span(y, begin, end);
    const int32_t row = static_cast<int32_t>(y), column = static_cast<int32_t>(begin);
    int64_t place_x = place_of(pose, column, row, 0), place_y = place_of(pose, column, row, 1);
    for (int64_t x = begin; x < end; ++x, place_x += pose.step_x[0], place_y += pose.step_x[1]) {
      const int32_t strength = byte_strength(layer.shape, pose, place_x, place_y);
      if (strength == 0) continue;
      const ByteSight sight = see_texels(pose, place_x, place_y);
      const uint8_t* record = layer.records + (sight.row * pitch + sight.column) * kRecord;
      uint32_t sums[kColours + 1];
      for (int c = 0; c <= kColours; ++c) {
        const auto tap = [&](int place) { return static_cast<int32_t>(record[4 * c + place] ^ 128u); };
        sums[c] = weigh_bytes(sight.weight, tap(0), tap(2), tap(1), tap(3), bias);
      }
      const uint32_t keep = keep_of(paint, sums[kColours], strength);
      for (int64_t v = 0; v < frame.num_clips; ++v) {
        const ClipView& clip = frame.clips[v];
        uint8_t* pixel = static_cast<uint8_t*>(clip.data) + y * clip.row_stride + x * clip.column_stride;
        for (int64_t c = 0; c < frame.channels; ++c) {
          uint8_t& byte = pixel[c * clip.channel_stride];
          byte = paint == BytePaint::kOpaque ? opaque_byte(sums[c])
                                             : blend_byte(paint, byte, keep, light_of(paint, sums[c], strength));
        }
      }
    }
  }
}

#ifdef TUBELETX_VECTOR_CODE

/// Whether what a hard edge covers of a row is one span for certain. Along an outline that runs with the rows rounding
/// decides, pixel by pixel; elsewhere the distance changes by more than it from one pixel to the next.
bool has_whole_spans(Shape shape, const Footprint& footprint) {
  constexpr double kLeastChange = 4e-6;  // some roundings of float32 at 1
  const double first = footprint.first_x, second = footprint.second_x;
  switch (shape) {
    case Shape::kRectangle:
      return true;  // in exact integers
    case Shape::kEllipse:
      return first * first + second * second > kLeastChange;
    default:
      return std::fabs(first) > kLeastChange && std::fabs(second) > kLeastChange;
  }
}

/// The loops paint one span a row; they count records in 16 bits, and places in 32: none that they visit may lie so far
/// from the patch that it seems to be in it.
bool suits_vectors(const ByteLayer& layer, const Footprint& footprint) {
  constexpr int64_t kWidest = std::numeric_limits<int16_t>::max() / kRecord - 1;
  const BytePose& pose = layer.pose;
  return pose.narrow && pose.width() <= kWidest && footprint.limit < 2 &&
         (!pose.hard || has_whole_spans(layer.shape, footprint));
}

Layout layout_of(const ByteFrame& frame) {
  const ClipView& first = frame.clips[0];
  // Pieces count in 32 bits; a row's stride may be beyond any product with the height.
  const bool countable = first.row_stride <= std::numeric_limits<int32_t>::max() / frame.height;
  bool packed = frame.channels == kColours && countable, planar = packed;
  for (int64_t v = 0; v < frame.num_clips; ++v) {
    const ClipView& clip = frame.clips[v];
    const bool alike = clip.row_stride == first.row_stride;
    packed = packed && alike && clip.channel_stride == 1 && clip.column_stride == kColours;
    planar = planar && alike && clip.column_stride == 1;
  }
  return packed ? Layout::kPacked : (planar ? Layout::kPlanar : Layout::kStrided);
}

#endif

/// One thread's room, kept from call to call: fresh memory costs more than the work in it.
struct Scratch {
  std::vector<uint8_t> records;
  std::vector<uint8_t> texels;
  std::vector<Piece> pieces;
};

Scratch& scratch() {
  static thread_local Scratch kept;
  return kept;
}

class Paster {
 public:
  Paster(const PasteArguments& arguments, const std::vector<BytePatch>& patches)
      : arguments_(arguments),
        patches_(patches),
        groups_((arguments.channels + kColours - 1) / kColours),
        per_sample_((arguments.patches_per_clip ? arguments.num_clips : 1) * arguments.num_tubelets),
        sequence_(paint_order(arguments)) {}

  void run() const {
    const int64_t batch = arguments_.batch, frames = arguments_.frames;
    if (batch >= static_cast<int64_t>(torch::stable::get_num_threads())) {
      parallel_for(batch, 1, [&](int64_t begin, int64_t end) {
        for (int64_t b = begin; b < end; ++b) {
          const std::vector<int64_t> first = lay_out(b, b + 1);
          uint8_t* records = reserve(scratch().records, first.back());
          for (int64_t index = 0; index < per_sample_; ++index) fill(b, index, records + first[index]);
          for (int64_t t = 0; t < frames; ++t) paste_frame(b, t, records, first.data());
        }
      });
      return;
    }
    const std::vector<int64_t> first = lay_out(0, batch);
    uint8_t* records = reserve(scratch().records, first.back());
    parallel_for(batch * per_sample_, 8, [&](int64_t begin, int64_t end) {
      for (int64_t index = begin; index < end; ++index) {
        fill(index / per_sample_, index % per_sample_, records + first[index]);
      }
    });
    // A frame of one tubelet takes a few microseconds: handing out fewer than some of them costs more than it gains.
    constexpr int64_t kGrain = 4;
    parallel_for(batch * frames, kGrain, [&](int64_t begin, int64_t end) {
      for (int64_t frame = begin; frame < end; ++frame) {
        const int64_t b = frame / frames;
        paste_frame(b, frame % frames, records, first.data() + b * per_sample_);
      }
    });
  }

 private:
  /// Room for `count` elements; far more than that is not kept.
  template <typename Element>
  static Element* reserve(std::vector<Element>& room, int64_t count) {
    constexpr int64_t kMostSpare = int64_t{1} << 25;
    const int64_t size = static_cast<int64_t>(room.size());
    if (size > count + kMostSpare) room = std::vector<Element>();
    if (size < count || room.empty()) room.resize(static_cast<size_t>(count));
    return room.data();
  }

  const int32_t* size_of(int64_t b, int64_t index) const {
    return arguments_.patch_size + 2 * (b * arguments_.num_tubelets + index % arguments_.num_tubelets);
  }

  int64_t group_bytes(const int32_t* size) const {
    return size[0] > 0 && size[1] > 0 ? records_bytes(size[0], size[1]) : 0;
  }

  /// Where the records of each patch of some samples start, and where the last ones end.
  std::vector<int64_t> lay_out(int64_t begin, int64_t end) const {
    std::vector<int64_t> first(static_cast<size_t>((end - begin) * per_sample_ + 1));
    for (int64_t k = 0; k < (end - begin) * per_sample_; ++k) {
      first[k + 1] = first[k] + groups_ * group_bytes(size_of(begin + k / per_sample_, k % per_sample_));
    }
    return first;
  }

  /// The records of all groups of a patch.
  void fill(int64_t b, int64_t index, uint8_t* out) const {
    const int32_t* size = size_of(b, index);
    const int64_t bytes = group_bytes(size);
    if (bytes == 0) return;
    const BytePatch& patch = patches_[b * per_sample_ + index];
    for (int64_t group = 0; group < groups_; ++group) {
      const int64_t channel = group * kColours;
      PatchGroup source{patch.pixels + channel * patch.channel_stride,
                        nullptr,
                        patch.channel_stride,
                        patch.row_stride,
                        patch.column_stride,
                        std::min(kColours, arguments_.channels - channel),
                        size[0],
                        size[1]};
      if (arguments_.has_alpha) source.alpha = patch.pixels + arguments_.channels * patch.channel_stride;
      fill_records(source, reserve(scratch().texels, texels_bytes(size[0])), out + group * bytes);
    }
  }

  void paste_frame(int64_t b, int64_t t, const uint8_t* records, const int64_t* first_record) const {
    for (int64_t k = 0; k < arguments_.num_tubelets; ++k) {
      const int64_t m = sequence_[b * arguments_.num_tubelets + k];
      int64_t last;
      for (int64_t first = 0; first < arguments_.num_clips; first = last) {
        last = end_of_sight(arguments_, b, m, first);
        const int64_t index = (arguments_.patches_per_clip ? first : 0) * arguments_.num_tubelets + m;
        paste_tubelet(b, t, m, first, last, records + first_record[index]);
      }
    }
  }

  /// One tubelet in one frame, onto clips first .. last - 1, which see it at the same place.
  void paste_tubelet(int64_t b, int64_t t, int64_t m, int64_t first, int64_t last, const uint8_t* records) const {
    const int64_t tubelet = b * arguments_.num_tubelets + m;
    Placement placement;
    if (!placement_of(arguments_, b, first, m, t, placement)) return;
    ByteLayer layer{{}, static_cast<Shape>(arguments_.shape[tubelet]), records};
    const float opacity = arguments_.opacity[tubelet * arguments_.frames + t];
    if (!make_byte_pose(placement, arguments_.edge[tubelet], opacity, arguments_.has_alpha, layer.pose)) return;
    const Footprint footprint(placement, layer.shape, arguments_.height, arguments_.width, place_quantum(layer.pose));
    if (footprint.row_begin >= footprint.row_end || footprint.column_begin >= footprint.column_end) return;
    ByteFrame frame;
    frame.num_clips = last - first;
    frame.height = arguments_.height;
    frame.width = arguments_.width;
    for (int64_t group = 0; group < groups_; ++group) {
      const int64_t channel = group * kColours;
      frame.channels = std::min(kColours, arguments_.channels - channel);
      for (int64_t v = 0; v < frame.num_clips; ++v) {
        frame.clips[v] = arguments_.clips[first + v];
        frame.clips[v].data = static_cast<uint8_t*>(frame.clips[v].data) + b * frame.clips[v].batch_stride +
                              t * frame.clips[v].frame_stride + channel * frame.clips[v].channel_stride;
      }
      paste_layer(layer, footprint, frame);
      layer.records += group_bytes(arguments_.patch_size + 2 * tubelet);
    }
  }

  static void paste_layer(const ByteLayer& layer, const Footprint& footprint, const ByteFrame& frame) {
#ifdef TUBELETX_VECTOR_CODE
    const Instructions set = suits_vectors(layer, footprint) ? instructions() : Instructions::kBaseline;
    const Layout layout = layout_of(frame);
    Pitch pitch{static_cast<int32_t>(frame.width), 1};
    if (layout != Layout::kStrided) pitch.row = static_cast<int32_t>(frame.clips[0].row_stride);
    if (layout == Layout::kPacked) pitch.pixel = kColours;
    const bool countable = frame.height * pitch.row <= std::numeric_limits<int32_t>::max();
    if (set != Instructions::kBaseline && countable) {
      const int64_t in_row = (footprint.column_end - footprint.column_begin) / narrow::kLanes + 1;
      Piece* pieces = reserve(scratch().pieces, (footprint.row_end - footprint.row_begin) * in_row + kAhead);
      if (set == Instructions::kWide) return wide::paste_layer(layer, footprint, frame, layout, pitch, pieces);
      return narrow::paste_layer(layer, footprint, frame, layout, pitch, pieces);
    }
#endif
    paste_pixels(layer, footprint, frame);
  }

  const PasteArguments& arguments_;
  const std::vector<BytePatch>& patches_;
  int64_t groups_;      ///< of channels
  int64_t per_sample_;  ///< patches
  std::vector<int64_t> sequence_;
};

}  // namespace

std::vector<BytePatch> byte_patches(const PasteArguments& arguments) {
  const int64_t clips = arguments.patches_per_clip ? arguments.num_clips : 1;
  std::vector<BytePatch> patches;
  patches.reserve(static_cast<size_t>(arguments.batch * clips * arguments.num_tubelets));
  for (int64_t b = 0; b < arguments.batch; ++b) {
    for (int64_t v = 0; v < clips; ++v) {
      for (int64_t m = 0; m < arguments.num_tubelets; ++m) {
        const uint8_t* pixels = static_cast<const uint8_t*>(arguments.patches) + b * arguments.patch_batch_stride +
                                v * arguments.patch_clip_stride + m * arguments.patch_tubelet_stride;
        patches.push_back(
            {pixels, arguments.patch_channel_stride, arguments.patch_row_stride, arguments.patch_column_stride});
      }
    }
  }
  return patches;
}

void paste_bytes(const PasteArguments& arguments, const std::vector<BytePatch>& patches) {
  Paster(arguments, patches).run();
}

}  // namespace tubeletx::cpu
