// From decoded bytes to network input: the launchers.
#pragma once

#include <cstdint>

#include "cuda/stream.h"
#include "ops/augment_clips_arguments.h"

namespace tubeletx::cuda {

/// Where the patches of tubelets lie in the first clip, as they are given and as they are used: moved inside.
struct AugmentPatches {
  int64_t count;  ///< of each sample
  int32_t largest_height, largest_width;
  const int32_t* given_frame;  ///< (B, M)
  const int32_t* given_box;    ///< (B, M, 4)
  int32_t* frame;
  int32_t* box;
};

/// Device memory that the kernels hand on to each other.
struct AugmentWorkspace {
  int32_t taps_x, taps_y;  ///< room for those of one output pixel
  int32_t parts;           ///< in which the colours of a clip are summed
  int32_t* taps;           ///< (B V, width + height, 2): first and count
  SourceClip* single;      ///< (B V), where each clip is a tensor of its own
  int16_t* weights_x;      ///< (B V, width, taps_x)
  int16_t* weights_y;      ///< (B V, height, taps_y)
  uint8_t* pixels;         ///< (B, V, T, height, width, 3), or null where the outputs hold them
  int64_t* sums;           ///< (B V, parts, 3)
  ColorMap* maps;          ///< (B V)
};

struct AugmentClips {
  AugmentArguments arguments;
  AugmentPatches patches;
  AugmentWorkspace workspace;
  ClipView pixels[kMaxClips];  ///< bytes before colours
};

/// Lays out the workspace from `memory` on, aligned to 16 bytes, and returns how many bytes it takes; null only counts.
int64_t lay_out_workspace(AugmentClips& clips, void* memory);

/// Puts what the host says of single clips into the workspace, and lets the arguments point there. First of all.
void launch_write_sources(AugmentClips& clips, Stream stream);
/// Up to the bytes; tubelets are pasted onto these before the rest.
void launch_resize_clips(const AugmentClips& clips, Stream stream);
void launch_map_clips(const AugmentClips& clips, Stream stream);

}  // namespace tubeletx::cuda
