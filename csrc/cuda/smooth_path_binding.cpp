#include <torch/csrc/stable/ops.h>

#include "cuda/binding.h"
#include "cuda/smooth_path.h"
#include "ops/smooth_path.h"

namespace tubeletx::cuda {
namespace {

Tensor smooth_path(const Tensor& points, double sigma, const std::optional<Tensor>& extent,
                   const std::optional<Tensor>& offset, int64_t num_frames) {
  const PathShape shape = check_smooth_path(points, sigma, extent, offset, num_frames);
  const Device device(points);
  const Tensor dense_points = torch::stable::contiguous(points);
  const Tensor dense_offset = offset ? torch::stable::contiguous(*offset) : Tensor();
  Tensor output = torch::stable::new_empty(points, {shape.rows, num_frames, shape.axes});
  launch_smooth_path({shape, sigma, static_cast<const float*>(dense_points.const_data_ptr()),
                      extent ? static_cast<const float*>(extent->const_data_ptr()) : nullptr,
                      extent ? extent->stride(0) : 0, extent && extent->dim() == 2 ? extent->stride(1) : 0,
                      offset ? static_cast<const float*>(dense_offset.const_data_ptr()) : nullptr,
                      static_cast<float*>(output.mutable_data_ptr())},
                     device.stream());
  return output;
}

TUBELETX_CUDA_OPERATORS(library) { library.impl("smooth_path", TORCH_BOX(&smooth_path)); }

}  // namespace
}  // namespace tubeletx::cuda
