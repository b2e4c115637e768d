// From decoded bytes to what a network takes. A few samples at a time, so that what one step leaves lies in the cache
// for the next: their frames are resized to bytes, tubelets pasted onto these, colours summed, and mapped to floats.
#include "ops/augment_clips.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <optional>
#include <vector>

#include "cpu/augment_frames.h"
#include "cpu/parallel.h"
#include "cpu/paste_bytes.h"
#include "ops/crop_patches.h"

namespace tubeletx::cpu {
namespace {

void check_augment_values(const AugmentArguments& arguments) {
  for (int64_t b = 0; b < arguments.batch; ++b) {
    for (int64_t v = 0; v < arguments.num_clips; ++v) {
      const Window window = window_of(arguments, b, v);
      const SourceClip source = source_of(arguments, b, v);
      const int32_t width = source.width, height = source.height;
      if (!(window.x0 >= 0 && window.x0 < window.x1 && window.x1 <= width && window.y0 >= 0 && window.y0 < window.y1 &&
            window.y1 <= height)) {
        fail("windows: got (", window.x0, ", ", window.y0, ", ", window.x1, ", ", window.y1,
             ") as x0, y0, x1, y1, needs a window inside ", width, " x ", height, " (width x height)");
      }
      const ColorFactors color = color_of(arguments, b, v);
      for (const float factor : {color.brightness, color.contrast, color.saturation, color.hue}) {
        if (!std::isfinite(factor)) fail("color: got ", factor, ", needs finite factors");
      }
    }
  }
}

void check_patch_values(const AugmentTubelets& tubelets, const AugmentArguments& arguments) {
  CropArguments crop = {};
  crop.batch = arguments.batch;
  crop.num_tubelets = tubelets.count;
  crop.frames = arguments.frames;
  crop.clip_height = crop.height = arguments.height;
  crop.clip_width = crop.width = arguments.width;
  check_crop_values(crop, tubelets.patch_frame, tubelets.patch_box);
}

/// One thread's room, kept from call to call.
struct Room {
  std::vector<uint8_t> pixels;
  std::vector<ResizePlan> plans;
  std::vector<std::array<int64_t, 3>> sums;
};

Room& kept_room() {
  static thread_local Room kept;
  return kept;
}

class Augmenter {
 public:
  Augmenter(const AugmentArguments& arguments, const AugmentTubelets& tubelets)
      : arguments_(arguments),
        tubelets_(tubelets),
        room_(kept_room()),
        frame_pixels_(arguments.height * arguments.width),
        frame_bytes_(kAugmentedChannels * frame_pixels_) {}

  void run() {
    const int64_t at_once = std::min<int64_t>(torch::stable::get_num_threads(), arguments_.batch);
    if (arguments_.frames * frame_pixels_ == 0) return;
    for (int64_t first = 0; first < arguments_.batch; first += at_once) {
      augment(first, std::min(at_once, arguments_.batch - first));
    }
    constexpr size_t kMostKept = size_t{1} << 26;
    if (room_.pixels.size() > kMostKept) room_.pixels = std::vector<uint8_t>();
  }

 private:
  /// Where frame t of clip v of sample b lies, among some samples from the first on.
  struct Place {
    int64_t b, v, t;
  };
  template <typename Body>
  void each_frame(int64_t samples, const Body& body) const {
    const int64_t frames = arguments_.frames, clips = arguments_.num_clips;
    parallel_for(samples * clips * frames, 1, [&](int64_t begin, int64_t end) {
      for (int64_t index = begin; index < end; ++index) {
        body(index, Place{index / frames / clips, index / frames % clips, index % frames});
      }
    });
  }

  void augment(int64_t first, int64_t samples) {
    const int64_t clips = arguments_.num_clips, frames = arguments_.frames;
    const bool to_bytes = arguments_.type == AugmentedType::kByte;
    room_.plans.resize(static_cast<size_t>(samples * clips));
    bool as_they_are = !to_bytes && tubelets_.count == 0 && (samples == 1 || arguments_.single == nullptr);
    for (int64_t index = 0; index < samples * clips; ++index) {
      const int64_t b = first + index / clips, v = index % clips;
      room_.plans[index].make(window_of(arguments_, b, v), flip_of(arguments_, b, v), arguments_.height,
                              arguments_.width);
      as_they_are = as_they_are && can_be_read_as_it_lies(room_.plans[index], source_of(arguments_, b, v));
    }
    // Bytes are made where they are wanted, or where the floats are made of.
    PasteArguments paste = augment_paste(arguments_, tubelets_);
    if (to_bytes) {
      for (int64_t v = 0; v < clips; ++v) paste.clips[v] = at_sample(arguments_.outputs[v], first, 1);
    } else if (as_they_are) {
      for (int64_t v = 0; v < clips; ++v) {
        const SourceClip source = source_of(arguments_, first, v);
        paste.clips[v] = {const_cast<uint8_t*>(source.pixels),
                          arguments_.batch_strides[v],
                          source.channel_stride,
                          source.frame_stride,
                          source.row_stride,
                          source.column_stride};
      }
    } else {
      const int64_t bytes = samples * clips * frames * frame_bytes_;
      if (static_cast<int64_t>(room_.pixels.size()) < bytes) room_.pixels.resize(static_cast<size_t>(bytes));
      for (int64_t v = 0; v < clips; ++v) {
        paste.clips[v] = {room_.pixels.data() + v * frames * frame_bytes_,
                          clips * frames * frame_bytes_,
                          1,
                          frame_bytes_,
                          kAugmentedChannels * arguments_.width,
                          kAugmentedChannels};
      }
    }
    if (!as_they_are) {
      each_frame(samples, [&](int64_t, const Place& place) {
        const SourceClip clip = source_of(arguments_, first + place.b, place.v);
        const SourceFrame source{clip.pixels + place.t * clip.frame_stride, clip.channel_stride, clip.row_stride,
                                 clip.column_stride};
        resize_frame(room_.plans[place.b * clips + place.v], source, bytes_of(paste, place));
      });
    }
    if (tubelets_.count > 0) paste_tubelets(first, samples, paste);
    if (!to_bytes) map_to_floats(first, samples, paste);
  }

  /// Whether the pixels of a window are those of the output, one after the other from the first of the clip on.
  bool can_be_read_as_it_lies(const ResizePlan& plan, const SourceClip& clip) const {
    return plan.identity && plan.window.x0 == 0 && plan.window.y0 == 0 && clip.channel_stride == 1 &&
           clip.column_stride == kAugmentedChannels && clip.row_stride == kAugmentedChannels * arguments_.width;
  }

  static ClipView at_sample(ClipView view, int64_t sample, int64_t element_bytes) {
    view.data = static_cast<uint8_t*>(view.data) + sample * view.batch_stride * element_bytes;
    return view;
  }

  static uint8_t* bytes_of(const PasteArguments& paste, const Place& place) {
    const ClipView& clip = paste.clips[place.v];
    return static_cast<uint8_t*>(clip.data) + place.b * clip.batch_stride + place.t * clip.frame_stride;
  }

  void paste_tubelets(int64_t first, int64_t samples, PasteArguments& paste) const {
    const int64_t count = tubelets_.count, skipped = first * count;
    paste.batch = samples;
    paste.centers += skipped * arguments_.frames * 2;
    paste.linear += skipped * arguments_.frames * 4;
    paste.opacity += skipped * arguments_.frames;
    paste.shape += skipped;
    paste.edge += skipped;
    paste.order += skipped;
    std::vector<int32_t> size(static_cast<size_t>(2 * samples * count));
    std::vector<BytePatch> patches(static_cast<size_t>(samples * count));
    for (int64_t index = 0; index < samples * count; ++index) {
      const int32_t* box = tubelets_.patch_box + 4 * (skipped + index);
      size[2 * index] = box[2] - box[0];
      size[2 * index + 1] = box[3] - box[1];
      const uint8_t* frame = bytes_of(paste, {index / count, 0, tubelets_.patch_frame[skipped + index]});
      patches[index] = {frame + kAugmentedChannels * (box[1] * arguments_.width + box[0]), 1,
                        kAugmentedChannels * arguments_.width, kAugmentedChannels};
    }
    paste.patch_size = size.data();
    paste.patch_width = arguments_.width;
    paste.patch_height = arguments_.height;
    check_paste_values(paste);
    paste_bytes(paste, patches);
  }

  void map_to_floats(int64_t first, int64_t samples, const PasteArguments& paste) {
    const int64_t clips = arguments_.num_clips, frames = arguments_.frames;
    room_.sums.assign(static_cast<size_t>(samples * clips * frames), {});
    each_frame(samples, [&](int64_t index, const Place& place) {
      if (color_of(arguments_, first + place.b, place.v).contrast == 1.0f) return;
      int64_t sums[3] = {};
      add_colors(bytes_of(paste, place), frame_pixels_, sums);
      std::copy(sums, sums + 3, room_.sums[index].begin());
    });
    std::vector<ColorMap> maps(static_cast<size_t>(samples * clips));
    for (int64_t index = 0; index < samples * clips; ++index) {
      int64_t sums[3] = {};
      for (int64_t t = 0; t < frames; ++t) {
        for (int c = 0; c < 3; ++c) sums[c] += room_.sums[index * frames + t][c];
      }
      maps[index] = make_color_map(color_of(arguments_, first + index / clips, index % clips), sums,
                                   frames * frame_pixels_, arguments_.normalization);
    }
    const int64_t element_bytes = arguments_.type == AugmentedType::kFloat ? 4 : 2;
    each_frame(samples, [&](int64_t, const Place& place) {
      const ClipView& output = arguments_.outputs[place.v];
      uint8_t* out = static_cast<uint8_t*>(output.data) +
                     ((first + place.b) * output.batch_stride + place.t * output.frame_stride) * element_bytes;
      map_colors(bytes_of(paste, place), frame_pixels_, maps[place.b * clips + place.v], arguments_.type, out);
    });
  }

  const AugmentArguments& arguments_;
  const AugmentTubelets& tubelets_;
  Room& room_;
  int64_t frame_pixels_, frame_bytes_;
};

void augment_clips_(const TensorList& outputs, const TensorList& clips, const std::optional<Tensor>& windows,
                    const std::optional<Tensor>& flips, const std::optional<Tensor>& color,
                    const std::vector<double>& normalization, const TensorList& tubelets,
                    const std::vector<int64_t>& /*largest_patch*/) {
  const AugmentInputs inputs = check_augment_clips(outputs, clips, windows, flips, color, normalization);
  const AugmentTubelets fields = check_augment_tubelets(tubelets, inputs.arguments, outputs.front());
  check_augment_values(inputs.arguments);
  check_patch_values(fields, inputs.arguments);
  prepare_to_write(outputs, "outputs");
  Augmenter(inputs.arguments, fields).run();
}

STABLE_TORCH_LIBRARY_IMPL(tubeletx, CPU, library) { library.impl("augment_clips_", TORCH_BOX(&augment_clips_)); }

}  // namespace
}  // namespace tubeletx::cpu
