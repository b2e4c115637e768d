#include "cuda/binding.h"
#include "cuda/queue_infonce_backward.h"
#include "ops/queue_infonce_backward.h"

namespace tubeletx::cuda {
namespace {

std::tuple<Tensor, Tensor> queue_infonce_backward(const Tensor& gradient, const Tensor& query, const Tensor& key,
                                                  const Tensor& loss, const Tensor& negative_mean, double temperature,
                                                  bool need_query, bool need_key) {
  check_queue_infonce_backward(gradient, query, key, loss, negative_mean);
  const Device device(query);
  return with_queue_infonce_gradients(
      gradient, query, key, loss, negative_mean, temperature, need_query, need_key,
      [&](const auto& gradients) { launch_queue_infonce_backward(gradients, device.stream()); });
}

TUBELETX_CUDA_OPERATORS(library) { library.impl("queue_infonce_backward", TORCH_BOX(&queue_infonce_backward)); }

}  // namespace
}  // namespace tubeletx::cuda
