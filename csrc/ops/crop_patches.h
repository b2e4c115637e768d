// Argument checks of crop_patches.
#pragma once

#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>

#include "ops/check.h"
#include "ops/crop_patches_arguments.h"

namespace tubeletx {

/// Places in a patch are computed in 32 bits.
inline constexpr int64_t kMaxPatchElements = std::numeric_limits<int32_t>::max();

inline CropArguments check_crop(const Tensor& clip, const Tensor& patch_frame, const Tensor& patch_box, int64_t height,
                                int64_t width) {
  check_dtype(clip, "clip",
              {ScalarType::Byte, ScalarType::Half, ScalarType::BFloat16, ScalarType::Float, ScalarType::Double});
  check_shape(clip, "clip", {kAny, kAny, kAny, kAny, kAny}, "(B, C, T, H, W)");
  check_positive(height, "height");
  check_positive(width, "width");
  const auto sizes = clip.sizes();
  const auto strides = clip.strides();
  if (height > kMaxPatchElements / std::max<int64_t>(sizes[1], 1) / width) {
    fail("height, width: got ", height, ", ", width, " for ", sizes[1],
         " channels, needs at most 2^31 - 1 elements in a patch");
  }
  check_dtype(patch_frame, "patch_frame", {ScalarType::Int});
  check_shape(patch_frame, "patch_frame", {sizes[0], kAny}, "(B, M)");
  check_device(patch_frame, "patch_frame", clip, "clip");
  const int64_t tubelets = patch_frame.size(1);
  check_dtype(patch_box, "patch_box", {ScalarType::Int});
  check_shape(patch_box, "patch_box", {sizes[0], tubelets, 4}, "(B, M, 4)");
  check_device(patch_box, "patch_box", clip, "clip");
  return CropArguments{sizes[0], tubelets,   sizes[1],   sizes[2],   sizes[3],   sizes[4],  height,
                       width,    strides[0], strides[1], strides[2], strides[3], strides[4]};
}

/// (B, M, C, Hp, Wp), uninitialised, the channels of a pixel side by side in memory.
inline Tensor empty_patches(const Tensor& clip, const CropArguments& a) {
  const std::array<int64_t, 5> sizes{a.batch, a.num_tubelets, a.channels, a.height, a.width};
  const int64_t row = a.width * a.channels, patch = a.height * row;
  const std::array<int64_t, 5> strides{a.num_tubelets * patch, patch, 1, row, a.channels};
  int32_t dtype, device_type;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_dtype(clip.get(), &dtype));
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_type(clip.get(), &device_type));
  AtenTensorHandle patches;
  TORCH_ERROR_CODE_CHECK(
      aoti_torch_empty_strided(5, sizes.data(), strides.data(), dtype, device_type, clip.get_device_index(), &patches));
  return Tensor(patches);
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
      fail("patch_box: got a box of ", box[2] - box[0], " x ", box[3] - box[1],
           " (width x height), needs one that fits ", arguments.width, " x ", arguments.height);
    }
  }
}

}  // namespace tubeletx
