// Ring-buffer write of the MoCo queue.
#include <torch/csrc/stable/ops.h>

#include "cpu/operators.h"
#include "ops/check.h"

namespace tubeletx::cpu {

void enqueue_(const Tensor& queue, const Tensor& pointer, const Tensor& keys) {
  check_shape(queue, "queue", {kAny, kAny}, "(K, D)");
  if (queue.size(0) == 0) fail("queue: is empty; it needs at least one row");
  fail("probe");
}

}  // namespace tubeletx::cpu
