// Scalar product of two rows.
#pragma once

#include <cstdint>

#include "core/macros.h"

namespace tubeletx {

/// Accumulates in double, in sixteen interleaved sums that the compiler keeps in vector registers: products of float32
/// are then exact, and equal rows give equal results wherever they stand.
template <typename T>
TUBELETX_HOST_DEVICE inline double dot(const T* left, const T* right, int64_t size) {
  constexpr int lanes = 16;
  double sums[lanes] = {};
  const int64_t whole = size - size % lanes;
  for (int64_t i = 0; i < whole; i += lanes) {
    for (int lane = 0; lane < lanes; ++lane) {
      sums[lane] += static_cast<double>(left[i + lane]) * static_cast<double>(right[i + lane]);
    }
  }
  for (int64_t i = whole; i < size; ++i) {
    sums[i - whole] += static_cast<double>(left[i]) * static_cast<double>(right[i]);
  }
  double total = 0;
  for (int lane = 0; lane < lanes; ++lane) total += sums[lane];
  return total;
}

}  // namespace tubeletx
