// Vector code in intrinsics, for two instruction sets under the same names: a loop that is written once on these names
// is included in both namespaces, avx512 and avx2 (see paste_bytes_loops.h), and the processor at hand decides at run
// time which is called. Every function carries its instruction set as an attribute, so that no other code of a file is
// compiled for it: the library loads on a processor that has neither. There are no static tables for the same reason.
//
// A vector holds kLanes 32-bit lanes. "In quads" means within each four of them, which is as far as most shuffles
// reach.
#pragma once

#include <cstdint>

namespace tubeletx::cpu {

enum class Instructions : int32_t { kBaseline = 0, kAvx2 = 1, kAvx512 = 2 };

/// The best instruction set that this processor has, and that the operator limit_instructions lets pass.
Instructions instructions();

}  // namespace tubeletx::cpu

// TUBELETX_PLAIN_CODE leaves it out, as on a processor of another kind (tests/building/torch_headers.py).
#if defined(__x86_64__) && defined(__GNUC__) && !defined(TUBELETX_PLAIN_CODE)
#define TUBELETX_VECTOR_CODE 1
#pragma GCC diagnostic push
// The intrinsics of GCC 11 and 12 hand on vectors that they leave open on purpose.
#pragma GCC diagnostic ignored "-Wuninitialized"
#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
#pragma GCC diagnostic pop

#include <cstring>

#define TUBELETX_AVX2 __attribute__((target("avx2,bmi2")))
#define TUBELETX_AVX512 \
  __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi,avx2,bmi2,prfchw")))
#define TUBELETX_VECTOR_INLINE inline __attribute__((always_inline))

namespace tubeletx::cpu {

/// How the three channels of a row of pixels lie: side by side, in planes of adjacent pixels, or any other way.
enum class Layout { kPacked, kPlanar, kStrided };

/// A permutation of bytes, for vectors of kBytes.
template <int kBytes>
struct ByteOrder {
  alignas(kBytes) uint8_t from[kBytes];
};

/// Where in a quad of four lanes, one a channel, the bytes of its four pixels stand.
inline constexpr int kPlaceInLane[4] = {0, 2, 1, 3};

// Tables are made by the compiler, so that nothing runs when the library is loaded.

/// From quads to rows of pixels, over the whole vector.
template <int kBytes>
constexpr ByteOrder<kBytes> order_of_rows(bool planar) {
  ByteOrder<kBytes> order{};
  const int pixels = kBytes / 4;
  for (int pixel = 0; pixel < pixels; ++pixel) {
    for (int channel = 0; channel < 3; ++channel) {
      const int to = planar ? channel * pixels + pixel : 3 * pixel + channel;
      order.from[to] = static_cast<uint8_t>(16 * (pixel / 4) + 4 * channel + kPlaceInLane[pixel % 4]);
    }
  }
  return order;
}

/// From rows of pixels to 16-bit halves, a quad's pixels 2 i and 2 i + 1, each byte twice: times 257.
template <int kBytes>
constexpr ByteOrder<kBytes> order_of_halves(bool planar, int pair) {
  ByteOrder<kBytes> order{};
  const int pixels = kBytes / 4;
  for (int byte = 0; byte < kBytes; ++byte) {
    const int pixel = byte / 16 * 4 + 2 * pair + byte % 4 / 2;
    const int channel = byte / 4 % 4 % 3;  // the fourth means nothing
    order.from[byte] = static_cast<uint8_t>(planar ? channel * pixels + pixel : 3 * pixel + channel);
  }
  return order;
}

}  // namespace tubeletx::cpu

namespace tubeletx::cpu::avx512 {

#define TUBELETX_LOCAL TUBELETX_AVX512 TUBELETX_VECTOR_INLINE

inline constexpr int32_t kLanes = 16;
using Integers = __m512i;
using Floats = __m512;
using Doubles = __m512d;  ///< half as many lanes
using Mask = __mmask16;

TUBELETX_LOCAL Integers splat(int32_t value) { return _mm512_set1_epi32(value); }
TUBELETX_LOCAL Floats splat(float value) { return _mm512_set1_ps(value); }
TUBELETX_LOCAL Doubles splat(double value) { return _mm512_set1_pd(value); }
TUBELETX_LOCAL Integers lane_numbers() {
  return _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
}
TUBELETX_LOCAL Doubles half_lane_numbers() { return _mm512_set_pd(7, 6, 5, 4, 3, 2, 1, 0); }

TUBELETX_LOCAL Integers load(const void* from) { return _mm512_load_si512(from); }
TUBELETX_LOCAL void store(void* to, Integers value) { _mm512_store_si512(to, value); }

TUBELETX_LOCAL Integers add(Integers a, Integers b) { return _mm512_add_epi32(a, b); }
TUBELETX_LOCAL Integers subtract(Integers a, Integers b) { return _mm512_sub_epi32(a, b); }
TUBELETX_LOCAL Integers multiply(Integers a, Integers b) { return _mm512_mullo_epi32(a, b); }
TUBELETX_LOCAL Integers bits_and(Integers a, Integers b) { return _mm512_and_si512(a, b); }
TUBELETX_LOCAL Integers bits_or(Integers a, Integers b) { return _mm512_or_si512(a, b); }
TUBELETX_LOCAL Integers bits_xor(Integers a, Integers b) { return _mm512_xor_si512(a, b); }
/// Bits of `yes` where the mask has ones, else of `no`.
TUBELETX_LOCAL Integers choose_bits(Integers mask, Integers yes, Integers no) {
  return _mm512_ternarylogic_epi32(mask, yes, no, 0xca);
}
TUBELETX_LOCAL Integers smaller_unsigned(Integers a, Integers b) { return _mm512_min_epu32(a, b); }
TUBELETX_LOCAL Integers shift_right(Integers value, Integers count) { return _mm512_srlv_epi32(value, count); }
template <int kCount>
TUBELETX_LOCAL Integers shift_right(Integers value) {
  return _mm512_srli_epi32(value, kCount);
}
template <int kCount>
TUBELETX_LOCAL Integers shift_left(Integers value) {
  return _mm512_slli_epi32(value, kCount);
}

// 16-bit halves of the lanes, unsigned.
TUBELETX_LOCAL Integers add_halves(Integers a, Integers b) { return _mm512_add_epi16(a, b); }
TUBELETX_LOCAL Integers subtract_halves(Integers a, Integers b) { return _mm512_sub_epi16(a, b); }
TUBELETX_LOCAL Integers add_halves_saturated(Integers a, Integers b) { return _mm512_adds_epu16(a, b); }
TUBELETX_LOCAL Integers subtract_halves_saturated(Integers a, Integers b) { return _mm512_subs_epu16(a, b); }
TUBELETX_LOCAL Integers multiply_halves_high(Integers a, Integers b) { return _mm512_mulhi_epu16(a, b); }
/// Products of signed halves, added in pairs.
TUBELETX_LOCAL Integers multiply_halves_add(Integers a, Integers b) { return _mm512_madd_epi16(a, b); }

TUBELETX_LOCAL Floats to_floats(Integers value) { return _mm512_cvtepi32_ps(value); }
TUBELETX_LOCAL Integers round_to_integers(Floats value) { return _mm512_cvtps_epi32(value); }
TUBELETX_LOCAL Floats absolute(Floats value) { return _mm512_abs_ps(value); }
TUBELETX_LOCAL Floats square_root(Floats value) { return _mm512_sqrt_ps(value); }
/// These two give `b` where either is not a number.
TUBELETX_LOCAL Floats smaller(Floats a, Floats b) { return _mm512_min_ps(a, b); }
TUBELETX_LOCAL Floats larger(Floats a, Floats b) { return _mm512_max_ps(a, b); }

TUBELETX_LOCAL Doubles square_root(Doubles value) { return _mm512_sqrt_pd(value); }
TUBELETX_LOCAL Doubles smaller(Doubles a, Doubles b) { return _mm512_min_pd(a, b); }
TUBELETX_LOCAL Doubles larger(Doubles a, Doubles b) { return _mm512_max_pd(a, b); }
TUBELETX_LOCAL Integers round_up(Doubles low, Doubles high) {
  constexpr int kUp = _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC;
  const __m256i first = _mm512_cvt_roundpd_epi32(low, kUp);
  return _mm512_inserti64x4(_mm512_castsi256_si512(first), _mm512_cvt_roundpd_epi32(high, kUp), 1);
}
TUBELETX_LOCAL Integers round_down(Doubles low, Doubles high) {
  constexpr int kDown = _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC;
  const __m256i first = _mm512_cvt_roundpd_epi32(low, kDown);
  return _mm512_inserti64x4(_mm512_castsi256_si512(first), _mm512_cvt_roundpd_epi32(high, kDown), 1);
}

TUBELETX_LOCAL Mask less(Integers a, Integers b) { return _mm512_cmplt_epi32_mask(a, b); }
TUBELETX_LOCAL Mask less_unsigned(Integers a, Integers b) { return _mm512_cmplt_epu32_mask(a, b); }
TUBELETX_LOCAL Mask less(Floats a, Floats b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
TUBELETX_LOCAL Mask both(Mask a, Mask b) { return a & b; }
TUBELETX_LOCAL Mask either(Mask a, Mask b) { return a | b; }
TUBELETX_LOCAL Mask but_not(Mask a, Mask b) { return a & static_cast<Mask>(~b); }
TUBELETX_LOCAL bool any(Mask mask) { return mask != 0; }
/// a + b where the mask says so, else a.
TUBELETX_LOCAL Integers add_where(Mask mask, Integers a, Integers b) { return _mm512_mask_add_epi32(a, mask, a, b); }
TUBELETX_LOCAL Integers subtract_where(Mask mask, Integers a, Integers b) {
  return _mm512_mask_sub_epi32(a, mask, a, b);
}

/// Lane `kLane` of every quad, in all four of its lanes.
template <int kLane>
TUBELETX_LOCAL Integers repeat_in_quads(Integers value) {
  return _mm512_shuffle_epi32(value, static_cast<_MM_PERM_ENUM>(kLane * 0x55));
}
/// The lower halves of lanes 2 i and 2 i + 1 of a quad, side by side in all of its lanes.
template <int kPair>
TUBELETX_LOCAL Integers repeat_halves_in_quads(Integers value) {
  return _mm512_shuffle_epi8(value, _mm512_set1_epi32(kPair == 0 ? 0x05040100 : 0x0d0c0908));
}

/// Sixteen bytes from each of the places at index[4 quad + `first`], one a quad.
TUBELETX_LOCAL Integers gather_quads(const uint8_t* from, const uint32_t* index, int32_t first) {
  const auto at = [&](int32_t quad) __attribute__((always_inline)) {
    return reinterpret_cast<const __m128i*>(from + index[4 * quad + first]);
  };
  const __m256i low =
      _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128(at(0))), _mm_loadu_si128(at(1)), 1);
  const __m256i high =
      _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128(at(2))), _mm_loadu_si128(at(3)), 1);
  return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}

/// 16-bit weights of four taps, for dot: as their high and low bytes.
struct SplitWeights {
  Integers high, low;
};
TUBELETX_LOCAL SplitWeights split_weights(Integers w00, Integers w01, Integers w10, Integers w11) {
  const Integers lower_half = splat(0xffff), even_bytes = splat(0x00ff00ff);
  const Integers top = choose_bits(lower_half, w00, shift_left<16>(w01));
  const Integers bottom = choose_bits(lower_half, w10, shift_left<16>(w11));
  return {choose_bits(even_bytes, shift_right<8>(top), bottom), choose_bits(even_bytes, top, shift_left<8>(bottom))};
}
/// base + the sum over the four signed bytes of each lane of taps times the weights that stand in lane `kLane` of the
/// quad, modulo 2^32. No two weights that share a column may exceed 65535 together.
template <int kLane>
TUBELETX_LOCAL Integers weigh(const SplitWeights& weights, Integers taps, Integers base_in_256ths) {
  const Integers coarse = _mm512_dpbusd_epi32(base_in_256ths, repeat_in_quads<kLane>(weights.high), taps);
  return _mm512_dpbusd_epi32(shift_left<8>(coarse), repeat_in_quads<kLane>(weights.low), taps);
}

// Pixels of three bytes, kLanes or the first `count` of them.

inline constexpr ByteOrder<64> kRows[2] = {order_of_rows<64>(false), order_of_rows<64>(true)};
inline constexpr ByteOrder<64> kHalves[2][2] = {{order_of_halves<64>(false, 0), order_of_halves<64>(false, 1)},
                                                {order_of_halves<64>(true, 0), order_of_halves<64>(true, 1)}};

TUBELETX_LOCAL __mmask64 packed_mask(int32_t count) {
  return _cvtu64_mask64(_bzhi_u64(0xffffffffffffull, static_cast<uint32_t>(3 * count < 48 ? 3 * count : 48)));
}
TUBELETX_LOCAL __mmask16 planar_mask(int32_t count) {
  return static_cast<__mmask16>(_bzhi_u32(0xffff, static_cast<uint32_t>(count < 16 ? count : 16)));
}

template <Layout kLayout>
TUBELETX_LOCAL Integers load_pixels(const uint8_t* from, int64_t plane, int32_t count) {
  if constexpr (kLayout == Layout::kPlanar) {
    const __mmask16 mask = planar_mask(count);
    const __m256i first = _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_maskz_loadu_epi8(mask, from)),
                                                  _mm_maskz_loadu_epi8(mask, from + plane), 1);
    return _mm512_inserti32x4(_mm512_castsi256_si512(first), _mm_maskz_loadu_epi8(mask, from + 2 * plane), 2);
  } else {
    return _mm512_maskz_loadu_epi8(packed_mask(count), from);
  }
}

template <Layout kLayout, int kPair>
TUBELETX_LOCAL Integers spread_halves(Integers pixels) {
  return _mm512_permutexvar_epi8(load(kHalves[kLayout == Layout::kPlanar][kPair].from), pixels);
}

template <Layout kLayout>
TUBELETX_LOCAL void store_pixels(Integers quads, uint8_t* to, int64_t plane, int32_t count) {
  const Integers rows = _mm512_permutexvar_epi8(load(kRows[kLayout == Layout::kPlanar].from), quads);
  if constexpr (kLayout == Layout::kPlanar) {
    const __mmask16 mask = planar_mask(count);
    _mm_mask_storeu_epi8(to, mask, _mm512_castsi512_si128(rows));
    _mm_mask_storeu_epi8(to + plane, mask, _mm512_extracti32x4_epi32(rows, 1));
    _mm_mask_storeu_epi8(to + 2 * plane, mask, _mm512_extracti32x4_epi32(rows, 2));
  } else {
    // In two parts: a masked store of 64 bytes holds up the load of the next piece, which begins within its last 16.
    const __mmask64 mask = packed_mask(count);
    _mm256_mask_storeu_epi8(to, static_cast<__mmask32>(mask), _mm512_castsi512_si256(rows));
    _mm_mask_storeu_epi8(to + 32, static_cast<__mmask16>(mask >> 32), _mm512_extracti32x4_epi32(rows, 2));
  }
}

#undef TUBELETX_LOCAL

}  // namespace tubeletx::cpu::avx512

namespace tubeletx::cpu::avx2 {

#define TUBELETX_LOCAL TUBELETX_AVX2 TUBELETX_VECTOR_INLINE

inline constexpr int32_t kLanes = 8;
using Integers = __m256i;
using Floats = __m256;
using Doubles = __m256d;  ///< half as many lanes
using Mask = __m256i;

TUBELETX_LOCAL Integers splat(int32_t value) { return _mm256_set1_epi32(value); }
TUBELETX_LOCAL Floats splat(float value) { return _mm256_set1_ps(value); }
TUBELETX_LOCAL Doubles splat(double value) { return _mm256_set1_pd(value); }
TUBELETX_LOCAL Integers lane_numbers() { return _mm256_set_epi32(7, 6, 5, 4, 3, 2, 1, 0); }
TUBELETX_LOCAL Doubles half_lane_numbers() { return _mm256_set_pd(3, 2, 1, 0); }

TUBELETX_LOCAL Integers load(const void* from) { return _mm256_load_si256(static_cast<const __m256i*>(from)); }
TUBELETX_LOCAL void store(void* to, Integers value) { _mm256_store_si256(static_cast<__m256i*>(to), value); }

TUBELETX_LOCAL Integers add(Integers a, Integers b) { return _mm256_add_epi32(a, b); }
TUBELETX_LOCAL Integers subtract(Integers a, Integers b) { return _mm256_sub_epi32(a, b); }
TUBELETX_LOCAL Integers multiply(Integers a, Integers b) { return _mm256_mullo_epi32(a, b); }
TUBELETX_LOCAL Integers bits_and(Integers a, Integers b) { return _mm256_and_si256(a, b); }
TUBELETX_LOCAL Integers bits_or(Integers a, Integers b) { return _mm256_or_si256(a, b); }
TUBELETX_LOCAL Integers bits_xor(Integers a, Integers b) { return _mm256_xor_si256(a, b); }
TUBELETX_LOCAL Integers choose_bits(Integers mask, Integers yes, Integers no) {
  return _mm256_or_si256(_mm256_and_si256(mask, yes), _mm256_andnot_si256(mask, no));
}
TUBELETX_LOCAL Integers smaller_unsigned(Integers a, Integers b) { return _mm256_min_epu32(a, b); }
TUBELETX_LOCAL Integers shift_right(Integers value, Integers count) { return _mm256_srlv_epi32(value, count); }
template <int kCount>
TUBELETX_LOCAL Integers shift_right(Integers value) {
  return _mm256_srli_epi32(value, kCount);
}
template <int kCount>
TUBELETX_LOCAL Integers shift_left(Integers value) {
  return _mm256_slli_epi32(value, kCount);
}

TUBELETX_LOCAL Integers add_halves(Integers a, Integers b) { return _mm256_add_epi16(a, b); }
TUBELETX_LOCAL Integers subtract_halves(Integers a, Integers b) { return _mm256_sub_epi16(a, b); }
TUBELETX_LOCAL Integers add_halves_saturated(Integers a, Integers b) { return _mm256_adds_epu16(a, b); }
TUBELETX_LOCAL Integers subtract_halves_saturated(Integers a, Integers b) { return _mm256_subs_epu16(a, b); }
TUBELETX_LOCAL Integers multiply_halves_high(Integers a, Integers b) { return _mm256_mulhi_epu16(a, b); }
TUBELETX_LOCAL Integers multiply_halves_add(Integers a, Integers b) { return _mm256_madd_epi16(a, b); }

TUBELETX_LOCAL Floats to_floats(Integers value) { return _mm256_cvtepi32_ps(value); }
TUBELETX_LOCAL Integers round_to_integers(Floats value) { return _mm256_cvtps_epi32(value); }
TUBELETX_LOCAL Floats absolute(Floats value) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), value); }
TUBELETX_LOCAL Floats square_root(Floats value) { return _mm256_sqrt_ps(value); }
TUBELETX_LOCAL Floats smaller(Floats a, Floats b) { return _mm256_min_ps(a, b); }
TUBELETX_LOCAL Floats larger(Floats a, Floats b) { return _mm256_max_ps(a, b); }

TUBELETX_LOCAL Doubles square_root(Doubles value) { return _mm256_sqrt_pd(value); }
TUBELETX_LOCAL Doubles smaller(Doubles a, Doubles b) { return _mm256_min_pd(a, b); }
TUBELETX_LOCAL Doubles larger(Doubles a, Doubles b) { return _mm256_max_pd(a, b); }
TUBELETX_LOCAL Integers round_up(Doubles low, Doubles high) {
  const __m128i first = _mm256_cvttpd_epi32(_mm256_ceil_pd(low));
  return _mm256_inserti128_si256(_mm256_castsi128_si256(first), _mm256_cvttpd_epi32(_mm256_ceil_pd(high)), 1);
}
TUBELETX_LOCAL Integers round_down(Doubles low, Doubles high) {
  const __m128i first = _mm256_cvttpd_epi32(_mm256_floor_pd(low));
  return _mm256_inserti128_si256(_mm256_castsi128_si256(first), _mm256_cvttpd_epi32(_mm256_floor_pd(high)), 1);
}

TUBELETX_LOCAL Mask less(Integers a, Integers b) { return _mm256_cmpgt_epi32(b, a); }
TUBELETX_LOCAL Mask less_unsigned(Integers a, Integers b) {
  const Integers sign = _mm256_set1_epi32(static_cast<int32_t>(0x80000000u));
  return less(bits_xor(a, sign), bits_xor(b, sign));
}
TUBELETX_LOCAL Mask less(Floats a, Floats b) { return _mm256_castps_si256(_mm256_cmp_ps(a, b, _CMP_LT_OQ)); }
TUBELETX_LOCAL Mask both(Mask a, Mask b) { return _mm256_and_si256(a, b); }
TUBELETX_LOCAL Mask either(Mask a, Mask b) { return _mm256_or_si256(a, b); }
TUBELETX_LOCAL Mask but_not(Mask a, Mask b) { return _mm256_andnot_si256(b, a); }
TUBELETX_LOCAL bool any(Mask mask) { return _mm256_movemask_epi8(mask) != 0; }
TUBELETX_LOCAL Integers add_where(Mask mask, Integers a, Integers b) { return add(a, bits_and(mask, b)); }
TUBELETX_LOCAL Integers subtract_where(Mask mask, Integers a, Integers b) { return subtract(a, bits_and(mask, b)); }

template <int kLane>
TUBELETX_LOCAL Integers repeat_in_quads(Integers value) {
  return _mm256_shuffle_epi32(value, kLane * 0x55);
}
template <int kPair>
TUBELETX_LOCAL Integers repeat_halves_in_quads(Integers value) {
  return _mm256_shuffle_epi8(value, _mm256_set1_epi32(kPair == 0 ? 0x05040100 : 0x0d0c0908));
}

TUBELETX_LOCAL Integers gather_quads(const uint8_t* from, const uint32_t* index, int32_t first) {
  const __m128i low = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + index[first]));
  const __m128i high = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + index[4 + first]));
  return _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1);
}

/// As high and low bytes; the low ones of even and of odd places apart, since pairs of products with both would
/// overflow 16 bits, while those of the high bytes cannot: they add up to 255 at most.
struct SplitWeights {
  Integers high, low_even, low_odd;
};
TUBELETX_LOCAL SplitWeights split_weights(Integers w00, Integers w01, Integers w10, Integers w11) {
  const Integers top = _mm256_blend_epi16(w00, shift_left<16>(w01), 0xaa);
  const Integers bottom = _mm256_blend_epi16(w10, shift_left<16>(w11), 0xaa);
  const Integers even_bytes = splat(0x00ff00ff);
  return {choose_bits(even_bytes, shift_right<8>(top), bottom), bits_and(even_bytes, top),
          _mm256_andnot_si256(even_bytes, shift_left<8>(bottom))};
}
template <int kLane>
TUBELETX_LOCAL Integers weigh(const SplitWeights& weights, Integers taps, Integers base_in_256ths) {
  const Integers high = _mm256_maddubs_epi16(repeat_in_quads<kLane>(weights.high), taps);
  const Integers even = _mm256_maddubs_epi16(repeat_in_quads<kLane>(weights.low_even), taps);
  const Integers odd = _mm256_maddubs_epi16(repeat_in_quads<kLane>(weights.low_odd), taps);
  const Integers one = _mm256_set1_epi16(1);
  const Integers coarse = add(base_in_256ths, _mm256_madd_epi16(high, one));
  const Integers fine = add(_mm256_madd_epi16(even, one), _mm256_madd_epi16(odd, one));
  return add(shift_left<8>(coarse), fine);
}

/// At most kMost bytes, 8 or 24.
template <int kMost>
TUBELETX_LOCAL void copy_few(uint8_t* to, const uint8_t* from, int32_t count) {
  int32_t done = 0;
  if (kMost > 16 && (count & 16)) memcpy(to, from, 16), done += 16;
  if (count & 8) memcpy(to + done, from + done, 8), done += 8;
  if (count & 4) memcpy(to + done, from + done, 4), done += 4;
  if (count & 2) memcpy(to + done, from + done, 2), done += 2;
  if (count & 1) to[done] = from[done];
}

/// Rows of pixels, over the halves of the vector: those of the first four pixels in the lower one.
constexpr ByteOrder<32> order_in_halves_of_rows(bool planar) {
  ByteOrder<32> order{};
  for (int byte = 0; byte < 32; ++byte) {
    const int place = byte % 16;
    const int channel = planar ? place / 4 : place % 3, pixel = planar ? place % 4 : place / 3;
    order.from[byte] = static_cast<uint8_t>(place < 12 ? 4 * channel + kPlaceInLane[pixel] : 128);
  }
  return order;
}
/// As order_of_halves, from the halves of the vector as load_pixels fills them.
constexpr ByteOrder<32> order_of_halves_here(bool planar, int pair) {
  ByteOrder<32> order{};
  for (int byte = 0; byte < 32; ++byte) {
    const int pixel = 2 * pair + byte % 4 / 2;
    const int channel = byte / 4 % 4 % 3;
    order.from[byte] = static_cast<uint8_t>(planar ? 4 * channel + pixel : (byte < 16 ? 0 : 4) + 3 * pixel + channel);
  }
  return order;
}
inline constexpr ByteOrder<32> kRows[2] = {order_in_halves_of_rows(false), order_in_halves_of_rows(true)};
inline constexpr ByteOrder<32> kHalves[2][2] = {{order_of_halves_here(false, 0), order_of_halves_here(false, 1)},
                                                {order_of_halves_here(true, 0), order_of_halves_here(true, 1)}};

template <Layout kLayout>
TUBELETX_LOCAL Integers load_pixels(const uint8_t* from, int64_t plane, int32_t count) {
  if constexpr (kLayout == Layout::kPlanar) {
    alignas(32) uint8_t quads[2][16] = {};
    for (int channel = 0; channel < 3; ++channel) {
      alignas(8) uint8_t row[8] = {};
      copy_few<8>(row, from + channel * plane, count < 8 ? count : 8);
      memcpy(quads[0] + 4 * channel, row, 4);
      memcpy(quads[1] + 4 * channel, row + 4, 4);
    }
    return load(quads);
  } else {
    alignas(16) uint8_t last[24] = {};
    if (count < 8) {
      copy_few<24>(last, from, 3 * count);
      from = last;
    }
    const __m128i low = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
    const __m128i high = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + 8));
    return _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1);
  }
}

template <Layout kLayout, int kPair>
TUBELETX_LOCAL Integers spread_halves(Integers pixels) {
  return _mm256_shuffle_epi8(pixels, load(kHalves[kLayout == Layout::kPlanar][kPair].from));
}

template <Layout kLayout>
TUBELETX_LOCAL void store_pixels(Integers quads, uint8_t* to, int64_t plane, int32_t count) {
  const Integers rows = _mm256_shuffle_epi8(quads, load(kRows[kLayout == Layout::kPlanar].from));
  if constexpr (kLayout == Layout::kPlanar) {
    alignas(32) uint8_t halves[2][16];
    store(halves, rows);
    for (int channel = 0; channel < 3; ++channel) {
      alignas(8) uint8_t row[8];
      memcpy(row, halves[0] + 4 * channel, 4);
      memcpy(row + 4, halves[1] + 4 * channel, 4);
      copy_few<8>(to + channel * plane, row, count < 8 ? count : 8);
    }
  } else {
    const Integers dense = _mm256_permutevar8x32_epi32(rows, _mm256_set_epi32(7, 3, 6, 5, 4, 2, 1, 0));
    if (count >= 8) {
      _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm256_castsi256_si128(dense));
      _mm_storel_epi64(reinterpret_cast<__m128i*>(to + 16), _mm256_extracti128_si256(dense, 1));
    } else {
      alignas(32) uint8_t last[32];
      store(last, dense);
      copy_few<24>(to, last, 3 * count);
    }
  }
}

#undef TUBELETX_LOCAL

}  // namespace tubeletx::cpu::avx2

#endif
