// Ring-buffer write of the queue of negatives.
#include "ops/enqueue.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>

namespace tubeletx::cpu {
namespace {

void enqueue_(const Tensor& queue, const Tensor& pointer, const Tensor& keys) {
  check_enqueue(queue, pointer, keys);
  const int64_t slots = queue.size(0);
  const int64_t batch = keys.size(0);
  int64_t& next = *pointer.mutable_data_ptr<int64_t>();
  if (next < 0 || next >= slots) fail("pointer: holds ", next, ", needs 0 <= pointer < K = ", slots);

  // Of more keys than slots only the last ones survive, each in the slot where a row by row write would leave it.
  Tensor target = queue;
  Tensor source = keys;
  int64_t row = std::max<int64_t>(batch - slots, 0);
  while (row < batch) {
    const int64_t slot = (next + row) % slots;
    const int64_t count = std::min(batch - row, slots - slot);
    Tensor destination = torch::stable::narrow(target, 0, slot, count);
    torch::stable::copy_(destination, torch::stable::narrow(source, 0, row, count));
    row += count;
  }
  next = (next + batch) % slots;
}

STABLE_TORCH_LIBRARY_IMPL(tubeletx, CPU, library) { library.impl("enqueue_", TORCH_BOX(&enqueue_)); }

}  // namespace
}  // namespace tubeletx::cpu
