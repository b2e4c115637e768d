// What augment_loops.h asks of the vector units, for AVX-512; names as in vector.h.
#pragma once

#include "core/blend.h"
#include "cpu/augment_frames.h"
#include "cpu/vector.h"

namespace tubeletx::cpu::avx512 {

#define TUBELETX_LOCAL TUBELETX_AVX512 TUBELETX_VECTOR_INLINE

inline constexpr int64_t kBytes = 64;

TUBELETX_LOCAL Integers load_unaligned(const void* from) { return _mm512_loadu_si512(from); }

// 16-bit words and their products.
TUBELETX_LOCAL Integers interleave_low(Integers a, Integers b) { return _mm512_unpacklo_epi16(a, b); }
TUBELETX_LOCAL Integers interleave_high(Integers a, Integers b) { return _mm512_unpackhi_epi16(a, b); }
TUBELETX_LOCAL Integers multiply_accumulate(Integers sum, Integers a, Integers b) {
  return _mm512_dpwssd_epi32(sum, a, b);
}
template <int kCount>
TUBELETX_LOCAL Integers shift_right_signed(Integers value) {
  return _mm512_srai_epi32(value, kCount);
}
/// The inverse of both interleavings.
TUBELETX_LOCAL Integers pack_words(Integers low, Integers high) { return _mm512_packs_epi32(low, high); }
/// The first `count` words, or all, as bytes.
TUBELETX_LOCAL void store_words_as_bytes(uint8_t* to, Integers words, int64_t count) {
  const __mmask32 mask = _bzhi_u32(0xffffffffu, static_cast<uint32_t>(count < 32 ? count : 32));
  _mm512_mask_cvtepi16_storeu_epi8(to, mask, words);
}

/// Sums of eight bytes each, in 64 bits.
TUBELETX_LOCAL Integers sum_bytes(Integers bytes) { return _mm512_sad_epu8(bytes, _mm512_setzero_si512()); }
TUBELETX_LOCAL Integers add_wide(Integers a, Integers b) { return _mm512_add_epi64(a, b); }

TUBELETX_LOCAL Floats multiply(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
TUBELETX_LOCAL Floats add(Floats a, Floats b) { return _mm512_add_ps(a, b); }

/// One plane of floats a channel.
struct Planes {
  Floats channel[3];
};

/// Bytes of kLanes pixels.
TUBELETX_LOCAL Planes load_planes(const uint8_t* pixels) {
  const Integers packed = _mm512_maskz_loadu_epi8(0xffffffffffffull, pixels);
  Planes planes;
  const Integers first = _mm512_mullo_epi32(lane_numbers(), splat(3));
  for (int c = 0; c < 3; ++c) {
    const Integers bytes =
        _mm512_maskz_permutexvar_epi8(0x1111111111111111ull, _mm512_add_epi32(first, splat(c)), packed);
    planes.channel[c] = _mm512_cvtepi32_ps(bytes);
  }
  return planes;
}

/// Which lanes of (red, green) and of blue follow each other in the vector `part` of kLanes pixels.
struct Interleaving {
  alignas(64) int32_t of_two[16];
  alignas(64) int32_t of_third[16];
};
constexpr Interleaving interleaving(int part) {
  Interleaving order{};
  for (int lane = 0; lane < 16; ++lane) {
    const int pixel = (16 * part + lane) / 3, channel = (16 * part + lane) % 3;
    order.of_two[lane] = channel == 2 ? 0 : 16 * channel + pixel;
    order.of_third[lane] = channel == 2 ? 16 + pixel : lane;
  }
  return order;
}
inline constexpr Interleaving kInterleavings[3] = {interleaving(0), interleaving(1), interleaving(2)};

TUBELETX_LOCAL Floats interleaved(const Planes& planes, int part) {
  const Floats two = _mm512_permutex2var_ps(planes.channel[0], load(kInterleavings[part].of_two), planes.channel[1]);
  return _mm512_permutex2var_ps(two, load(kInterleavings[part].of_third), planes.channel[2]);
}

TUBELETX_LOCAL void store_numbers(float* to, Floats values) { _mm512_storeu_ps(to, values); }
TUBELETX_LOCAL void store_numbers(Half* to, Floats values) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtps_ph(values, _MM_FROUND_TO_NEAREST_INT));
}
TUBELETX_LOCAL void store_numbers(BFloat16* to, Floats values) {
  const Integers bits = _mm512_castps_si512(values);
  const Integers odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), splat(1));
  const Integers rounded = _mm512_add_epi32(_mm512_add_epi32(bits, splat(0x7fff)), odd);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16)));
}

/// `count` sums along x, from the tables of gather_taps.
TUBELETX_AVX512 inline void resize_row(const GatheredTaps* tables, int64_t pairs, int64_t count, const uint8_t* packed,
                                       int16_t* row) {
  for (int64_t begin = 0; begin < count; begin += kLanes) {
    Integers sum = splat(1 << (kResizeRowShift - 1));
    for (int64_t pair = 0; pair < pairs; ++pair, ++tables) {
      const Integers taps = _mm512_maskz_permutexvar_epi8(0x5555555555555555ull, load(tables->place),
                                                          load_unaligned(packed + tables->base));
      sum = multiply_accumulate(sum, taps, load(tables->weight));
    }
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(row + begin),
                        _mm512_cvtepi32_epi16(shift_right_signed<kResizeRowShift>(sum)));
  }
}

#undef TUBELETX_LOCAL

}  // namespace tubeletx::cpu::avx512
