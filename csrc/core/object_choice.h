// Which object a tubelet shows: a pure function of (seed, sample id, epoch, tubelet), by the finaliser of SplitMix64
// (Steele, Lea, Flood 2014).
#pragma once

#include <cstdint>

#include "core/macros.h"

namespace tubeletx {

inline constexpr uint64_t kGolden = 0x9E3779B97F4A7C15u;
inline constexpr uint64_t kFirstMultiplier = 0xBF58476D1CE4E5B9u;
inline constexpr uint64_t kSecondMultiplier = 0x94D049BB133111EBu;

TUBELETX_INLINE uint64_t mix_bits(uint64_t value) {
  value = (value ^ (value >> 30)) * kFirstMultiplier;
  value = (value ^ (value >> 27)) * kSecondMultiplier;
  return value ^ (value >> 31);
}

TUBELETX_INLINE uint64_t object_key(uint64_t seed, uint64_t epoch) {
  return mix_bits(mix_bits(seed + kGolden) + epoch + kGolden);
}

/// Each of `count` objects with the same chance, to one part in 2^31 / count.
TUBELETX_INLINE int64_t choose_object(uint64_t key, uint64_t sample_id, uint64_t tubelet, int64_t count) {
  const uint64_t bits = mix_bits(sample_id * kFirstMultiplier + tubelet * kGolden + key);
  return static_cast<int64_t>(((bits >> 33) * static_cast<uint64_t>(count)) >> 31);
}

}  // namespace tubeletx
