// Scalar product of two rows.
#pragma once

#include <cstdint>

namespace tubeletx::cpu {

/// Sums in double, in which products of float32 are exact, and in sixteen interleaved parts, so that it vectorises. The
/// order depends on the size alone: equal rows give equal results wherever they stand.
template <typename T>
[[gnu::always_inline]] inline double dot(const T* left, const T* right, int64_t size) {
  constexpr int kLanes = 16;
  double sums[kLanes] = {};
  const int64_t whole = size - size % kLanes;
  for (int64_t i = 0; i < whole; i += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) {
      sums[lane] += static_cast<double>(left[i + lane]) * static_cast<double>(right[i + lane]);
    }
  }
  for (int64_t i = whole; i < size; ++i) {
    sums[i - whole] += static_cast<double>(left[i]) * static_cast<double>(right[i]);
  }
  for (int half = kLanes / 2; half > 0; half /= 2) {
    for (int lane = 0; lane < half; ++lane) sums[lane] += sums[lane + half];
  }
  return sums[0];
}

}  // namespace tubeletx::cpu
