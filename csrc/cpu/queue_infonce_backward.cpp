// Gradients of queue InfoNCE: O(B D), the queue is not looked at again.
#include "ops/queue_infonce_backward.h"

#include <torch/csrc/stable/library.h>

#include "cpu/parallel.h"

namespace tubeletx::cpu {
namespace {

std::tuple<Tensor, Tensor> queue_infonce_backward(const Tensor& gradient, const Tensor& query, const Tensor& key,
                                                  const Tensor& loss, const Tensor& negative_mean, double temperature,
                                                  bool need_query, bool need_key) {
  check_queue_infonce_backward(gradient, query, key, loss, negative_mean);
  const Tensor dense_query = torch::stable::contiguous(query);
  const Tensor dense_key = torch::stable::contiguous(key);
  const Tensor dense_mean = torch::stable::contiguous(negative_mean);
  const auto run = [](const auto& strided) {
    constexpr int64_t kLeastFeatures = 1 << 15;
    parallel_for(strided.batch, kLeastFeatures / strided.features + 1, [&](int64_t begin, int64_t end) {
      auto gradients = strided;
      // Known here to the compiler, so that the loops are of vectors.
      gradients.query.strides[1] = gradients.key.strides[1] = gradients.negative_mean.strides[1] = 1;
      for (int64_t index = begin; index < end; ++index) {
        const auto row = gradients.row(index);
        if (gradients.query_gradient != nullptr) {
          for (int64_t i = 0; i < gradients.features; ++i) gradients.write_query_gradient(row, index, i);
        }
        if (gradients.key_gradient != nullptr) {
          for (int64_t i = 0; i < gradients.features; ++i) gradients.write_key_gradient(row, index, i);
        }
      }
    });
  };
  return with_queue_infonce_gradients(gradient, dense_query, dense_key, loss, dense_mean, temperature, need_query,
                                      need_key, run);
}

STABLE_TORCH_LIBRARY_IMPL(tubeletx, CPU, library) {
  library.impl("queue_infonce_backward", TORCH_BOX(&queue_infonce_backward));
}

}  // namespace
}  // namespace tubeletx::cpu
