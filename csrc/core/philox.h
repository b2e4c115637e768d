// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): four random words as a pure
// function of a counter and a key, so that any thread can make any draw without a state to carry.
#pragma once

#include <cstdint>

#include "core/macros.h"

namespace tubeletx {

struct PhiloxBlock {
  uint32_t word[4];
};

inline constexpr int kPhiloxRounds = 10;

/// One round over the block `c`, with the key words of that round.
TUBELETX_HOST_DEVICE inline void philox_round(uint32_t& c0, uint32_t& c1, uint32_t& c2, uint32_t& c3, uint32_t key0,
                                              uint32_t key1) {
  const uint64_t product0 = uint64_t{0xD2511F53u} * c0;
  const uint64_t product1 = uint64_t{0xCD9E8D57u} * c2;
  const uint32_t next0 = static_cast<uint32_t>(product1 >> 32) ^ c1 ^ key0;
  const uint32_t next2 = static_cast<uint32_t>(product0 >> 32) ^ c3 ^ key1;
  c1 = static_cast<uint32_t>(product1);
  c3 = static_cast<uint32_t>(product0);
  c0 = next0;
  c2 = next2;
}

/// The key moves on by Weyl constants after every round.
TUBELETX_HOST_DEVICE inline void philox_next_key(uint32_t& key0, uint32_t& key1) {
  key0 += 0x9E3779B9u;
  key1 += 0xBB67AE85u;
}

TUBELETX_HOST_DEVICE inline PhiloxBlock philox(PhiloxBlock counter, uint32_t key0, uint32_t key1) {
  for (int round = 0; round < kPhiloxRounds; ++round) {
    philox_round(counter.word[0], counter.word[1], counter.word[2], counter.word[3], key0, key1);
    philox_next_key(key0, key1);
  }
  return counter;
}

/// Which stream of draws: the seed is the key; sample and epoch are the upper words of the counter.
struct DrawStream {
  uint64_t seed;
  uint64_t sample_id;
  uint32_t epoch;

  TUBELETX_HOST_DEVICE PhiloxBlock block(uint32_t draw) const {
    const PhiloxBlock counter = {
        {static_cast<uint32_t>(sample_id), static_cast<uint32_t>(sample_id >> 32), epoch, draw}};
    return philox(counter, static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32));
  }
};

/// Uniform in [0, 1), a multiple of 2^-24, so that every value is exact in float32.
TUBELETX_HOST_DEVICE inline float unit_interval(uint32_t word) {
  return static_cast<float>(static_cast<int32_t>(word >> 8)) * 0x1p-24f;
}

TUBELETX_HOST_DEVICE inline float uniform(uint32_t word, float low, float high) {
  return low + unit_interval(word) * (high - low);
}

/// Uniform over 0 .. count - 1; 0 where count < 1.
TUBELETX_HOST_DEVICE inline int32_t uniform_integer(uint32_t word, int32_t count) {
  return count < 1 ? 0 : static_cast<int32_t>((static_cast<uint64_t>(word) * static_cast<uint32_t>(count)) >> 32);
}

}  // namespace tubeletx
