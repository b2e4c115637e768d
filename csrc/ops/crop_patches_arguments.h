// Arguments of the cropping kernels, as plain extents and strides (in elements).
#pragma once

#include <cstdint>

namespace tubeletx {

struct CropArguments {
  int64_t batch, num_tubelets, channels, frames, clip_height, clip_width;
  int64_t height, width;  ///< of the padded patches
  int64_t batch_stride, channel_stride, frame_stride, row_stride, column_stride;
};

}  // namespace tubeletx
