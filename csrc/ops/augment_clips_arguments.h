// Arguments of augment_clips_, as plain pointers, extents and strides (in elements).
#pragma once

#include <cstdint>

#include "core/augmentation_sampler.h"
#include "core/color_map.h"
#include "ops/paste_tubelets_arguments.h"

namespace tubeletx {

static_assert(kMostAugmentedClips == kMaxClips);

enum class AugmentedType : int32_t { kByte, kHalf, kBFloat16, kFloat };

inline constexpr int64_t kAugmentedChannels = 3;

/// A clip that is read.
struct SourceClip {
  const uint8_t* pixels;
  int64_t frame_stride, channel_stride, row_stride, column_stride;
  int32_t height, width;
};

struct AugmentArguments {
  int64_t batch, num_clips, frames;
  int64_t height, width;          ///< of the outputs
  SourceClip batches[kMaxClips];  ///< the first clip of each batch that is read
  int64_t batch_strides[kMaxClips];
  const SourceClip* single;               ///< (B, V) instead, where each clip is a tensor of its own; else null
  int32_t largest_height, largest_width;  ///< of what is read
  ClipView outputs[kMaxClips];            ///< frames are dense, channels last
  AugmentedType type;
  const int32_t* windows;  ///< (B, V, 4), or null: the whole frames
  const bool* flips;       ///< (B, V), or null: none
  const float* colors;     ///< (B, V, 4), or null: as they are
  Normalization normalization;
};

/// Number v of sample b among all clips.
TUBELETX_HOST_DEVICE inline int64_t clip_number(const AugmentArguments& arguments, int64_t b, int64_t v) {
  return b * arguments.num_clips + v;
}

TUBELETX_HOST_DEVICE inline SourceClip source_of(const AugmentArguments& arguments, int64_t b, int64_t v) {
  if (arguments.single != nullptr) return arguments.single[clip_number(arguments, b, v)];
  SourceClip source = arguments.batches[v];
  source.pixels += b * arguments.batch_strides[v];
  return source;
}

TUBELETX_HOST_DEVICE inline Window window_of(const AugmentArguments& arguments, int64_t b, int64_t v) {
  if (arguments.windows == nullptr) {
    const SourceClip source = source_of(arguments, b, v);
    return {0, 0, source.width, source.height};
  }
  const int32_t* window = arguments.windows + 4 * clip_number(arguments, b, v);
  return {window[0], window[1], window[2], window[3]};
}

TUBELETX_HOST_DEVICE inline bool flip_of(const AugmentArguments& arguments, int64_t b, int64_t v) {
  return arguments.flips != nullptr && arguments.flips[clip_number(arguments, b, v)];
}

TUBELETX_HOST_DEVICE inline ColorFactors color_of(const AugmentArguments& arguments, int64_t b, int64_t v) {
  if (arguments.colors == nullptr) return {1, 1, 1, 0};
  const float* color = arguments.colors + 4 * clip_number(arguments, b, v);
  return {color[0], color[1], color[2], color[3]};
}

}  // namespace tubeletx
