// The names of vector.h, for AVX2. Included by it.
#pragma once

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
