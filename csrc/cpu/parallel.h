// parallel_for over torch's own thread pool, so that torch.set_num_threads governs the operators too.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <cstdint>

namespace tubeletx::cpu {

/// Calls body(begin, end) on disjoint ranges that cover [0, count), each of at least `grain` items.
template <typename Body>
void parallel_for(int64_t count, int64_t grain, const Body& body) {
  if (count <= 0) return;
  torch::stable::parallel_for(0, count, grain, body);
}

}  // namespace tubeletx::cpu
