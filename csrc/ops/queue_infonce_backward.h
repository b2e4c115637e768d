// Arguments of queue_infonce_backward, checked once for the CPU and the GPU.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <tuple>

#include "core/queue_infonce_gradients.h"
#include "ops/check.h"

namespace tubeletx {

inline void check_queue_infonce_backward(const Tensor& gradient, const Tensor& query, const Tensor& key,
                                         const Tensor& loss, const Tensor& negative_mean) {
  check_shape(query, "query", {kAny, kAny}, "(B, D)");
  const int64_t batch = query.size(0);
  const int64_t features = query.size(1);
  if (features == 0) fail("query: got shape ", shape_text(query), ", needs at least one feature");
  check_shape(key, "key", {batch, features}, "(B, D)");
  check_shape(gradient, "gradient", {batch}, "(B,)");
  check_shape(loss, "loss", {batch}, "(B,)");
  check_shape(negative_mean, "negative_mean", {batch, features}, "(B, D)");

  check_dtype(query, "query", {ScalarType::Float, ScalarType::Half, ScalarType::BFloat16, ScalarType::Double});
  check_dtype(key, "key", {query.scalar_type()});
  const ScalarType real = query.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
  check_dtype(gradient, "gradient", {real});
  check_dtype(loss, "loss", {real});
  check_dtype(negative_mean, "negative_mean", {real});
  check_device(gradient, "gradient", query, "query");
  check_device(key, "key", query, "query");
  check_device(loss, "loss", query, "query");
  check_device(negative_mean, "negative_mean", query, "query");
}

/// Makes the outputs, (0, D) where a gradient is not asked for, and calls `run` with the `QueueInfoNCEGradients` of the
/// query's type.
template <typename Run>
std::tuple<Tensor, Tensor> with_queue_infonce_gradients(const Tensor& gradient, const Tensor& query, const Tensor& key,
                                                        const Tensor& loss, const Tensor& negative_mean,
                                                        double temperature, bool need_query, bool need_key,
                                                        const Run& run) {
  const int64_t batch = query.size(0);
  const int64_t features = query.size(1);
  const auto make = [&](bool needed) {
    return torch::stable::new_empty(query, {needed ? batch : 0, features}, query.scalar_type());
  };
  Tensor query_gradient = make(need_query);
  Tensor key_gradient = make(need_key);
  const auto run_as = [&](auto element) {
    using Element = decltype(element);
    using T = Real<Element>;
    const auto matrix_of = [](const Tensor& tensor, auto number) {
      return Matrix<decltype(number)>{static_cast<const decltype(number)*>(tensor.const_data_ptr()),
                                      {tensor.stride(0), tensor.dim() > 1 ? tensor.stride(1) : 0}};
    };
    QueueInfoNCEGradients<Element> gradients{};
    gradients.batch = batch;
    gradients.features = features;
    gradients.scale = static_cast<T>(1 / temperature);
    gradients.gradient = matrix_of(gradient, T());
    gradients.loss = matrix_of(loss, T());
    gradients.negative_mean = matrix_of(negative_mean, T());
    gradients.query = matrix_of(query, element);
    gradients.key = matrix_of(key, element);
    if (need_query) gradients.query_gradient = static_cast<Element*>(query_gradient.mutable_data_ptr());
    if (need_key) gradients.key_gradient = static_cast<Element*>(key_gradient.mutable_data_ptr());
    run(gradients);
  };
  switch (query.scalar_type()) {
    case ScalarType::Half:
      run_as(Half{});
      break;
    case ScalarType::BFloat16:
      run_as(BFloat16{});
      break;
    case ScalarType::Float:
      run_as(float{});
      break;
    default:
      run_as(double{});
  }
  return {query_gradient, key_gradient};
}

}  // namespace tubeletx
