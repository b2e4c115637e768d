// What augment_loops.h asks of the vector units, for AVX2; names as in vector.h.
#pragma once

#include "core/blend.h"
#include "cpu/augment_frames.h"
#include "cpu/vector.h"

namespace tubeletx::cpu::avx2 {

#define TUBELETX_LOCAL TUBELETX_AVX2 TUBELETX_VECTOR_INLINE

inline constexpr int64_t kBytes = 32;

TUBELETX_LOCAL Integers load_unaligned(const void* from) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(from));
}

TUBELETX_LOCAL Integers interleave_low(Integers a, Integers b) { return _mm256_unpacklo_epi16(a, b); }
TUBELETX_LOCAL Integers interleave_high(Integers a, Integers b) { return _mm256_unpackhi_epi16(a, b); }
TUBELETX_LOCAL Integers multiply_accumulate(Integers sum, Integers a, Integers b) {
  return _mm256_add_epi32(sum, _mm256_madd_epi16(a, b));
}
template <int kCount>
TUBELETX_LOCAL Integers shift_right_signed(Integers value) {
  return _mm256_srai_epi32(value, kCount);
}
TUBELETX_LOCAL Integers pack_words(Integers low, Integers high) { return _mm256_packs_epi32(low, high); }
TUBELETX_LOCAL void store_words_as_bytes(uint8_t* to, Integers words, int64_t count) {
  const __m128i bytes = _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
  if (count >= 16) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), bytes);
  } else {
    alignas(16) uint8_t kept[16];
    _mm_store_si128(reinterpret_cast<__m128i*>(kept), bytes);
    std::memcpy(to, kept, static_cast<size_t>(count));
  }
}

TUBELETX_LOCAL Integers sum_bytes(Integers bytes) { return _mm256_sad_epu8(bytes, _mm256_setzero_si256()); }
TUBELETX_LOCAL Integers add_wide(Integers a, Integers b) { return _mm256_add_epi64(a, b); }

TUBELETX_LOCAL Floats multiply(Floats a, Floats b) { return _mm256_mul_ps(a, b); }
TUBELETX_LOCAL Floats add(Floats a, Floats b) { return _mm256_add_ps(a, b); }

struct Planes {
  Floats channel[3];
};

TUBELETX_LOCAL Planes load_planes(const uint8_t* pixels) {
  // Four pixels a half; the second half is read up to its end, no further.
  const __m128i first = _mm_loadu_si128(reinterpret_cast<const __m128i*>(pixels));
  const __m128i second = _mm_srli_si128(_mm_loadu_si128(reinterpret_cast<const __m128i*>(pixels + 8)), 4);
  const Integers packed = _mm256_inserti128_si256(_mm256_castsi128_si256(first), second, 1);
  Planes planes;
  for (int c = 0; c < 3; ++c) {
    const char zero = -1, one = static_cast<char>(c), two = static_cast<char>(3 + c), three = static_cast<char>(6 + c),
               four = static_cast<char>(9 + c);
    const __m128i order =
        _mm_setr_epi8(one, zero, zero, zero, two, zero, zero, zero, three, zero, zero, zero, four, zero, zero, zero);
    planes.channel[c] = to_floats(_mm256_shuffle_epi8(packed, _mm256_broadcastsi128_si256(order)));
  }
  return planes;
}

/// Which pixel stands in each lane of the vector `part` of kLanes pixels.
struct Interleaving {
  alignas(32) int32_t pixel[8];
};
constexpr Interleaving interleaving(int part) {
  Interleaving order{};
  for (int lane = 0; lane < 8; ++lane) order.pixel[lane] = (8 * part + lane) / 3;
  return order;
}
inline constexpr Interleaving kInterleavings[3] = {interleaving(0), interleaving(1), interleaving(2)};

/// Lane i of part `part` is of channel (8 part + i) % 3.
TUBELETX_LOCAL Floats interleaved(const Planes& planes, int part) {
  const Integers order = load(kInterleavings[part].pixel);
  const Floats red = _mm256_permutevar8x32_ps(planes.channel[0], order);
  const Floats green = _mm256_permutevar8x32_ps(planes.channel[1], order);
  const Floats blue = _mm256_permutevar8x32_ps(planes.channel[2], order);
  // Bit i of a mask is lane i.
  if (part == 0) return _mm256_blend_ps(_mm256_blend_ps(red, green, 0x92), blue, 0x24);
  if (part == 1) return _mm256_blend_ps(_mm256_blend_ps(red, green, 0x24), blue, 0x49);
  return _mm256_blend_ps(_mm256_blend_ps(red, green, 0x49), blue, 0x92);
}

TUBELETX_LOCAL void store_numbers(float* to, Floats values) { _mm256_storeu_ps(to, values); }
template <typename Pixel>
TUBELETX_LOCAL void store_numbers(Pixel* to, Floats values) {
  alignas(32) float kept[8];
  _mm256_store_ps(kept, values);
  for (int i = 0; i < 8; ++i) to[i] = from_real<Pixel>(kept[i]);
}

/// Sums along x: a pixel in each half, its fourth number is overwritten by the next pixel.
TUBELETX_AVX2 inline void resize_row(const ResizeAxis& axis, const uint8_t* packed, int16_t* row) {
  // Both taps of a channel side by side, as words.
  const Integers order =
      _mm256_broadcastsi128_si256(_mm_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1));
  const Integers half = splat(1 << (kResizeRowShift - 1));
  for (int64_t x = 0; x < axis.out; x += 2) {
    const int64_t next = x + 1 < axis.out ? x + 1 : x;
    const uint8_t* from[2] = {packed + 3 * axis.first[x], packed + 3 * axis.first[next]};
    const int16_t* weights[2] = {axis.weights_of(x), axis.weights_of(next)};
    Integers sum = half;
    for (int64_t pair = 0; pair < axis.pairs; ++pair) {
      const auto taps_of = [&](int which) __attribute__((always_inline)) {
        return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from[which] + 6 * pair));
      };
      const auto weights_of = [&](int which) __attribute__((always_inline)) {
        int32_t both;
        std::memcpy(&both, weights[which] + 2 * pair, sizeof both);
        return _mm_set1_epi32(both);
      };
      const Integers taps = _mm256_inserti128_si256(_mm256_castsi128_si256(taps_of(0)), taps_of(1), 1);
      const Integers weight = _mm256_inserti128_si256(_mm256_castsi128_si256(weights_of(0)), weights_of(1), 1);
      sum = multiply_accumulate(sum, _mm256_shuffle_epi8(taps, order), weight);
    }
    const Integers shifted = shift_right_signed<kResizeRowShift>(sum);
    const Integers words = _mm256_packs_epi32(shifted, shifted);
    _mm_storel_epi64(reinterpret_cast<__m128i*>(row + 3 * x), _mm256_castsi256_si128(words));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(row + 3 * next), _mm256_extracti128_si256(words, 1));
  }
}

#undef TUBELETX_LOCAL

}  // namespace tubeletx::cpu::avx2
