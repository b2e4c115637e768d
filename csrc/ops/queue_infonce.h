// Arguments of queue_infonce, checked once for the CPU and the GPU.
#pragma once

#include <cmath>
#include <optional>

#include "ops/check.h"

namespace tubeletx {

struct QueueInfoNCESize {
  int64_t batch;     // B
  int64_t queue;     // K
  int64_t features;  // D
  int64_t own;       // E, negatives of each row beside the queue
};

inline QueueInfoNCESize check_queue_infonce(const Tensor& query, const Tensor& key, const Tensor& queue,
                                            const std::optional<Tensor>& own_negatives, double temperature) {
  check_shape(query, "query", {kAny, kAny}, "(B, D)");
  const int64_t batch = query.size(0);
  const int64_t features = query.size(1);
  if (features == 0) fail("query: got shape ", shape_text(query), ", needs at least one feature");
  check_shape(key, "key", {batch, features}, "(B, D)");
  check_shape(queue, "queue", {kAny, features}, "(K, D)");

  const ScalarType dtype = query.scalar_type();
  check_dtype(query, "query", {ScalarType::Float, ScalarType::Half, ScalarType::BFloat16, ScalarType::Double});
  check_dtype(key, "key", {dtype});
  const auto check_negatives = [&](const Tensor& negatives, const char* name) {
    // float64 computes in float64, and everything else in float32.
    if (dtype == ScalarType::Double) {
      check_dtype(negatives, name, {ScalarType::Double});
    } else {
      check_dtype(negatives, name, {ScalarType::Float, ScalarType::Half, ScalarType::BFloat16});
    }
    check_device(negatives, name, query, "query");
  };
  check_device(key, "key", query, "query");
  check_negatives(queue, "queue");
  int64_t own = 0;
  if (own_negatives.has_value()) {
    check_shape(*own_negatives, "own_negatives", {batch, kAny, features}, "(B, E, D)");
    check_negatives(*own_negatives, "own_negatives");
    own = own_negatives->size(1);
  }

  // The scores are multiplied by 1 / temperature in float32, where it must not overflow.
  constexpr double kSmallest = 1.2e-38;
  if (!(temperature >= kSmallest && std::isfinite(temperature))) {
    fail("temperature: got ", temperature, ", needs a positive finite number");
  }
  return {batch, queue.size(0), features, own};
}

}  // namespace tubeletx
