// Arguments of the pasting kernels, as plain pointers, extents and strides (in elements).
#pragma once

#include <cstdint>

#include "core/macros.h"
#include "core/pose.h"
#include "core/tubelet_geometry.h"

namespace tubeletx {

/// How many clips one call can take: the arguments travel by value to a device.
inline constexpr int64_t kMaxClips = 8;

struct ClipView {
  void* data;
  int64_t batch_stride, channel_stride, frame_stride, row_stride, column_stride;
};

struct PasteArguments : TubeletGeometry {
  int64_t batch, num_clips, num_tubelets, channels, frames, height, width;
  int64_t patch_channels, patch_height, patch_width;
  bool has_alpha;         ///< the last patch channel is the patch's own alpha
  bool patches_per_clip;  ///< else the clips share them

  ClipView clips[kMaxClips];

  const void* patches;
  int64_t patch_batch_stride, patch_clip_stride, patch_tubelet_stride;
  int64_t patch_channel_stride, patch_row_stride, patch_column_stride;

  const int32_t* patch_size;  ///< (B, M, 2)
  const float* offsets;       ///< (B, V, M, 2) or null
};

/// Where tubelet m of sample b lies in frame t with a patch of this size, as clip v sees it; false where it is not
/// painted.
TUBELETX_HOST_DEVICE inline bool placement_of(const PasteArguments& arguments, int64_t b, int64_t v, int64_t m,
                                              int64_t t, int32_t width, int32_t height, Placement& placement) {
  const int64_t tubelet = b * arguments.num_tubelets + m;
  const int64_t frame = tubelet * arguments.frames + t;
  const float* offset = nullptr;
  if (arguments.offsets != nullptr) {
    offset = arguments.offsets + 2 * ((b * arguments.num_clips + v) * arguments.num_tubelets + m);
  }
  return place_patch(arguments.centers + 2 * frame, offset, arguments.linear + 4 * frame, width, height,
                     arguments.opacity[frame], placement);
}

TUBELETX_HOST_DEVICE inline bool placement_of(const PasteArguments& arguments, int64_t b, int64_t v, int64_t m,
                                              int64_t t, Placement& placement) {
  const int32_t* size = arguments.patch_size + 2 * (b * arguments.num_tubelets + m);
  return placement_of(arguments, b, v, m, t, size[0], size[1], placement);
}

/// Its pose, from its placement.
template <typename Real>
TUBELETX_HOST_DEVICE inline Pose<Real> pose_of(const PasteArguments& arguments, int64_t b, int64_t m, int64_t t,
                                               const Placement& placement) {
  const int64_t tubelet = b * arguments.num_tubelets + m;
  return make_pose<Real>(placement, arguments.edge[tubelet], arguments.opacity[tubelet * arguments.frames + t]);
}

}  // namespace tubeletx
