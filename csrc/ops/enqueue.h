// Arguments of enqueue_, checked once for the CPU and the GPU.
#pragma once

#include "ops/check.h"
#include "ops/write.h"

namespace tubeletx {

inline void check_enqueue(const Tensor& queue, const Tensor& pointer, const Tensor& keys) {
  check_shape(queue, "queue", {kAny, kAny}, "(K, D)");
  if (queue.size(0) == 0) fail("queue: got shape ", shape_text(queue), ", needs at least one row");
  check_shape(keys, "keys", {kAny, queue.size(1)}, "(B, D)");
  if (pointer.numel() != 1) fail("pointer: got shape ", shape_text(pointer), ", needs one element");

  check_dtype(pointer, "pointer", {ScalarType::Long});
  for (const auto& [tensor, name] : {std::pair{&queue, "queue"}, std::pair{&keys, "keys"}}) {
    check_dtype(*tensor, name, {ScalarType::Float, ScalarType::Half, ScalarType::BFloat16, ScalarType::Double});
  }
  check_device(pointer, "pointer", queue, "queue");
  check_device(keys, "keys", queue, "queue");
  check_no_overlap(queue, "queue");
  check_apart(keys, "keys", queue, "queue");
  prepare_to_write(queue, "queue");
  prepare_to_write(pointer, "pointer");
}

}  // namespace tubeletx
