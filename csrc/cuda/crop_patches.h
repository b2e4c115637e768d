// Cropping: the launcher.
#pragma once

#include <cstdint>

#include "cuda/stream.h"
#include "ops/crop_patches_arguments.h"

namespace tubeletx::cuda {

/// `element_size` is 1, 2, 4 or 8 bytes; `patches` is (B, M, height, width, C), contiguous.
void launch_crop_patches(const CropArguments& arguments, int64_t element_size, const void* clip,
                         const int32_t* patch_frame, const int32_t* patch_box, void* patches, Stream stream);

}  // namespace tubeletx::cuda
