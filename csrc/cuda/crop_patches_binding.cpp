#include <torch/csrc/stable/ops.h>

#include "cuda/binding.h"
#include "cuda/crop_patches.h"
#include "ops/crop_patches.h"

namespace tubeletx::cuda {
namespace {

Tensor crop_patches(const Tensor& clip, const Tensor& patch_frame, const Tensor& patch_box, int64_t height,
                    int64_t width) {
  const CropArguments arguments = check_crop(clip, patch_frame, patch_box, height, width);
  const Device device(clip);
  const Tensor frames = torch::stable::contiguous(patch_frame);
  const Tensor boxes = torch::stable::contiguous(patch_box);
  Tensor patches = empty_patches(clip, arguments);
  launch_crop_patches(arguments, clip.element_size(), clip.const_data_ptr(),
                      static_cast<const int32_t*>(frames.const_data_ptr()),
                      static_cast<const int32_t*>(boxes.const_data_ptr()), patches.mutable_data_ptr(), device.stream());
  return patches;
}

TUBELETX_CUDA_OPERATORS(library) { library.impl("crop_patches", TORCH_BOX(&crop_patches)); }

}  // namespace
}  // namespace tubeletx::cuda
