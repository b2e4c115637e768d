#include "cpu/vector.h"

#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <atomic>

namespace tubeletx::cpu {
namespace {

Instructions best_instructions() {
#if defined(TUBELETX_NEON)
  return Instructions::kNarrow;
#elif defined(TUBELETX_VECTOR_CODE)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("fma");
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                      __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vbmi");
  if (avx2 && avx512) return Instructions::kWide;
  return avx2 ? Instructions::kNarrow : Instructions::kBaseline;
#else
  return Instructions::kBaseline;
#endif
}

std::atomic<Instructions>& limit() {
  static std::atomic<Instructions> value{Instructions::kWide};
  return value;
}

/// For tests: from now on no better instruction set than this (0 baseline, 1 AVX2 or NEON, 2 AVX-512) is used; returns
/// the one that is.
int64_t limit_instructions(int64_t most) {
  limit().store(static_cast<Instructions>(std::clamp<int64_t>(most, 0, 2)), std::memory_order_relaxed);
  return static_cast<int64_t>(instructions());
}

STABLE_TORCH_LIBRARY_IMPL(tubeletx, CompositeExplicitAutograd, library) {
  library.impl("limit_instructions", TORCH_BOX(&limit_instructions));
}

}  // namespace

Instructions instructions() {
  static const Instructions best = best_instructions();
  const Instructions most = limit().load(std::memory_order_relaxed);
  return best < most ? best : most;
}

}  // namespace tubeletx::cpu
