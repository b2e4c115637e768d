// Making records of texels with AVX2; see byte_records.h.
#pragma once

#include "cpu/byte_layer.h"
#include "cpu/vector.h"

namespace tubeletx::cpu::avx2 {

/// Texels of three bytes side by side, from the first on; returns how many.
TUBELETX_AVX2 inline int64_t fill_opaque_texels(const uint8_t* row, int64_t count, uint8_t* out) {
  const __m256i spread = _mm256_set_epi8(-1, 15, 14, 13, -1, 12, 11, 10, -1, 9, 8, 7, -1, 6, 5, 4,  //
                                         -1, 11, 10, 9, -1, 8, 7, 6, -1, 5, 4, 3, -1, 2, 1, 0);
  const __m256i opaque = _mm256_set1_epi32(static_cast<int32_t>(0xff000000u)), sign = _mm256_set1_epi8(-128);
  int64_t x = 0;
  for (; x + 8 <= count; x += 8) {
    const __m128i low = _mm_loadu_si128(reinterpret_cast<const __m128i*>(row + 3 * x));
    const __m128i high = _mm_loadu_si128(reinterpret_cast<const __m128i*>(row + 3 * x + 8));
    const __m256i pixels = _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1);
    const __m256i texels = _mm256_or_si256(_mm256_shuffle_epi8(pixels, spread), opaque);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + 4 * x), _mm256_xor_si256(texels, sign));
  }
  return x;
}

/// Texels of three colours and an alpha side by side.
TUBELETX_AVX2 inline int64_t fill_premultiplied_texels(const uint8_t* row, int64_t count, uint8_t* out) {
  const __m256i of_colours = _mm256_set1_epi64x(0x0000ffffffffffff), full = _mm256_set1_epi16(255);
  const __m256i half = _mm256_set1_epi16(128), sign = _mm256_set1_epi8(-128);
  int64_t x = 0;
  for (; x + 8 <= count; x += 8) {
    __m256i scaled[2];
    for (int k = 0; k < 2; ++k) {
      const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(row + 4 * x + 16 * k));
      const __m256i texels = _mm256_cvtepu8_epi16(bytes);
      const __m256i alphas = _mm256_shufflehi_epi16(_mm256_shufflelo_epi16(texels, 0xff), 0xff);
      const __m256i factors = _mm256_blendv_epi8(full, alphas, of_colours);  // the alpha itself stays
      const __m256i products = _mm256_add_epi16(_mm256_mullo_epi16(texels, factors), half);
      scaled[k] = _mm256_srli_epi16(_mm256_add_epi16(products, _mm256_srli_epi16(products, 8)), 8);
    }
    const __m256i joined = _mm256_permute4x64_epi64(_mm256_packus_epi16(scaled[0], scaled[1]), 0xd8);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + 4 * x), _mm256_xor_si256(joined, sign));
  }
  return x;
}

/// Records of a row from those texels and the ones below, in whole groups of kRecordsAtOnce.
TUBELETX_AVX2 inline void join_texels(const uint8_t* upper, const uint8_t* lower, int64_t count, uint8_t* out) {
  for (int64_t x = 0; x < count; x += kRecordsAtOnce) {
    const auto at = [&](const uint8_t* row, int64_t shift) {
      return reinterpret_cast<const __m256i*>(row + 4 * (x + shift));
    };
    const __m256i here = _mm256_loadu_si256(at(upper, 0)), below = _mm256_loadu_si256(at(lower, 0));
    const __m256i right = _mm256_loadu_si256(at(upper, 1)), diagonal = _mm256_loadu_si256(at(lower, 1));
    const __m256i left_low = _mm256_unpacklo_epi8(here, below), left_high = _mm256_unpackhi_epi8(here, below);
    const __m256i right_low = _mm256_unpacklo_epi8(right, diagonal), right_high = _mm256_unpackhi_epi8(right, diagonal);
    const __m256i first = _mm256_unpacklo_epi16(left_low, right_low);
    const __m256i second = _mm256_unpackhi_epi16(left_low, right_low);
    const __m256i third = _mm256_unpacklo_epi16(left_high, right_high);
    const __m256i fourth = _mm256_unpackhi_epi16(left_high, right_high);
    __m256i* to = reinterpret_cast<__m256i*>(out + kRecord * x);
    _mm256_storeu_si256(to, _mm256_permute2x128_si256(first, second, 0x20));
    _mm256_storeu_si256(to + 1, _mm256_permute2x128_si256(third, fourth, 0x20));
    _mm256_storeu_si256(to + 2, _mm256_permute2x128_si256(first, second, 0x31));
    _mm256_storeu_si256(to + 3, _mm256_permute2x128_si256(third, fourth, 0x31));
  }
}

}  // namespace tubeletx::cpu::avx2
