#include "cuda/interpolate_keyframes.h"

#include <torch/csrc/stable/ops.h>

#include "cuda/binding.h"
#include "ops/interpolate_keyframes.h"

namespace tubeletx::cuda {
namespace {

Tensor interpolate_keyframes(const Tensor& frames, const Tensor& values, const std::optional<Tensor>& easing,
                             int64_t num_frames) {
  const KeyframeShape shape = check_interpolate_keyframes(frames, values, easing, num_frames);
  const Device device(values);
  const Tensor dense_frames = torch::stable::contiguous(frames);
  const Tensor dense_values = torch::stable::contiguous(values);
  const Tensor dense_easing = easing ? torch::stable::contiguous(*easing) : Tensor();
  Tensor output = torch::stable::new_empty(values, {shape.rows, num_frames, shape.axes});
  const auto run = [&](auto frame) {
    launch_interpolate_keyframes(shape, static_cast<const decltype(frame)*>(dense_frames.const_data_ptr()),
                                 static_cast<const float*>(dense_values.const_data_ptr()),
                                 easing ? static_cast<const int32_t*>(dense_easing.const_data_ptr()) : nullptr,
                                 static_cast<float*>(output.mutable_data_ptr()), device.stream());
  };
  if (frames.scalar_type() == ScalarType::Int) {
    run(int32_t{});
  } else {
    run(int64_t{});
  }
  return output;
}

TUBELETX_CUDA_OPERATORS(library) { library.impl("interpolate_keyframes", TORCH_BOX(&interpolate_keyframes)); }

}  // namespace
}  // namespace tubeletx::cuda
