// The sequence in which the tubelets of each sample are painted.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <vector>

#include "ops/paste_tubelets_arguments.h"

namespace tubeletx::cpu {

/// (B, M): the tubelets of each sample by rising rank, equal ranks by index.
inline std::vector<int64_t> paint_order(const PasteArguments& arguments) {
  const int64_t tubelets = arguments.num_tubelets;
  std::vector<int64_t> sequence(static_cast<size_t>(arguments.batch * tubelets));
  for (int64_t b = 0; b < arguments.batch; ++b) {
    const auto first = sequence.begin() + b * tubelets;
    std::iota(first, first + tubelets, int64_t{0});
    const int32_t* rank = arguments.order + b * tubelets;
    std::stable_sort(first, first + tubelets, [rank](int64_t m, int64_t other) { return rank[m] < rank[other]; });
  }
  return sequence;
}

}  // namespace tubeletx::cpu
