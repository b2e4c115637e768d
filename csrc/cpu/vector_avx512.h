// The names of vector.h, for AVX-512; what they mean is said here. Included by it.
#pragma once

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
