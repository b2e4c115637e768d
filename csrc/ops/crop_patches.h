// Argument checks of crop_patches.
#pragma once

#include <torch/csrc/stable/tensor.h>

#include <cstdint>

#include "core/crop_arguments.h"
#include "ops/check.h"

namespace tubeletx {

inline CropArguments check_crop(const Tensor& clip, const Tensor& patch_frame, const Tensor& patch_box, int64_t height,
                                int64_t width) {
  check_dtype(clip, "clip",
              {ScalarType::Byte, ScalarType::Half, ScalarType::BFloat16, ScalarType::Float, ScalarType::Double});
  check_shape(clip, "clip", {kAny, kAny, kAny, kAny, kAny}, "(B, C, T, H, W)");
  check_positive(height, "height");
  check_positive(width, "width");
  const auto sizes = clip.sizes();
  const auto strides = clip.strides();
  check_dtype(patch_frame, "patch_frame", {ScalarType::Int});
  check_shape(patch_frame, "patch_frame", {sizes[0], kAny}, "(B, M)");
  check_device(patch_frame, "patch_frame", clip, "clip");
  const int64_t tubelets = patch_frame.size(1);
  check_dtype(patch_box, "patch_box", {ScalarType::Int});
  check_shape(patch_box, "patch_box", {sizes[0], tubelets, 4}, "(B, M, 4)");
  check_device(patch_box, "patch_box", clip, "clip");
  return CropArguments{sizes[0],   tubelets,   sizes[1],   sizes[2],   sizes[3],   sizes[4], height, width,
                       strides[0], strides[1], strides[2], strides[3], strides[4]};
}

/// What would read outside the clip or write outside the patch.
inline void check_crop_values(const CropArguments& arguments, const int32_t* patch_frame, const int32_t* patch_box) {
  for (int64_t index = 0; index < arguments.batch * arguments.num_tubelets; ++index) {
    if (patch_frame[index] < 0 || patch_frame[index] >= arguments.frames) {
      fail("patch_frame: got ", patch_frame[index], ", needs a frame from 0 to ", arguments.frames - 1);
    }
    const int32_t* box = patch_box + 4 * index;
    const bool inside = 0 <= box[0] && box[0] <= box[2] && box[2] <= arguments.clip_width && 0 <= box[1] &&
                        box[1] <= box[3] && box[3] <= arguments.clip_height;
    if (!inside) {
      fail("patch_box: got x0, y0, x1, y1 = ", box[0], ", ", box[1], ", ", box[2], ", ", box[3],
           ", needs a box inside the frame of ", arguments.clip_width, " x ", arguments.clip_height);
    }
    if (box[2] - box[0] > arguments.width || box[3] - box[1] > arguments.height) {
      fail("patch_box: got a box of ", box[2] - box[0], " x ", box[3] - box[1], " (width x height), needs one that fits ",
           arguments.width, " x ", arguments.height);
    }
  }
}

}  // namespace tubeletx
