// Gaussian smoothing of a whole path in vector registers.
#pragma once

#include <cstdint>

#include "core/gaussian.h"

namespace tubeletx::cpu {

/// Eight doubles at any address. Written out, since the compiler left to itself vectorises along the taps, shuffling.
typedef double Lanes __attribute__((vector_size(64), aligned(8), may_alias));
inline constexpr int64_t kLanes = 8;

/// Every smoothed_point, with the same bits: each lane adds in the same order. Inline into a multiversioned function.
inline void smooth(const double* padded, const double* taps, int64_t radius, int64_t count, double* smoothed) {
  constexpr int64_t kBlock = 2 * kLanes;  // two sums, so that one can be added to while the other's add is under way
  int64_t begin = 0;
  for (; begin + kBlock <= count; begin += kBlock) {
    const double* middle = padded + radius + begin;
    const auto at = [middle](int64_t offset) -> const Lanes& {
      return *reinterpret_cast<const Lanes*>(middle + offset);
    };
    Lanes first = taps[0] * at(0);
    Lanes second = taps[0] * at(kLanes);
    for (int64_t k = 1; k <= radius; ++k) {
      first += taps[k] * (at(-k) + at(k));
      second += taps[k] * (at(kLanes - k) + at(kLanes + k));
    }
    *reinterpret_cast<Lanes*>(smoothed + begin) = first;
    *reinterpret_cast<Lanes*>(smoothed + begin + kLanes) = second;
  }
  for (; begin < count; ++begin) smoothed[begin] = smoothed_point(padded, taps, radius, begin);
}

}  // namespace tubeletx::cpu
