// Patches of bytes, rewritten once a call in the form in which pasting reads them; see kRecord.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "core/paste_bytes.h"
#include "cpu/byte_layer.h"
#include "cpu/vector.h"

namespace tubeletx::cpu {

/// Some channels of a patch and its alpha.
struct PatchGroup {
  const uint8_t* pixels;
  const uint8_t* alpha;  ///< null where the patch has none
  int64_t channel_stride, row_stride, column_stride;
  int64_t channels;  ///< 1 to kColours
  int32_t width, height;
};

/// Records that are written at a time, past the end of a row too.
inline constexpr int64_t kRecordsAtOnce = 8;

/// Room for the records of a patch.
inline int64_t records_bytes(int32_t width, int32_t height) {
  return ((int64_t{width} + 1) * (int64_t{height} + 1) + kRecordsAtOnce) * kRecord;
}

/// Room that making them takes: two rows of texels, which have a border on either side.
inline int64_t texels_row_bytes(int32_t width) { return (int64_t{width} + 2 + kRecordsAtOnce) * 4; }
inline int64_t texels_bytes(int32_t width) { return 2 * texels_row_bytes(width); }

/// Texel x of a row as the taps of a record want it: three colours and the alpha.
inline void fill_texel(const PatchGroup& patch, const uint8_t* row, const uint8_t* alpha_row, int64_t x, uint8_t* out) {
  const uint8_t* pixel = row + x * patch.column_stride;
  const uint8_t alpha = alpha_row == nullptr ? 255 : alpha_row[x * patch.column_stride];
  for (int64_t c = 0; c < kColours; ++c) {
    const uint8_t colour = c < patch.channels ? pixel[c * patch.channel_stride] : 0;
    out[c] = premultiply(colour, alpha) ^ 128u;
  }
  out[kColours] = alpha ^ 128u;
}

#ifdef TUBELETX_VECTOR_CODE

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

/// Records of a row from those texels and the ones below.
TUBELETX_AVX2 inline void join_texels_avx2(const uint8_t* upper, const uint8_t* lower, int64_t count, uint8_t* out) {
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

#endif

/// Texels 0 .. width - 1 of a row behind a border texel, and the border on both sides.
inline void fill_texels(const PatchGroup& patch, int64_t y, uint8_t* out) {
  const uint8_t* row = patch.pixels + y * patch.row_stride;
  const uint8_t* alpha_row = patch.alpha == nullptr ? nullptr : patch.alpha + y * patch.row_stride;
  uint8_t* texels = out + 4;
  int64_t x = 0;
#ifdef TUBELETX_VECTOR_CODE
  if (instructions() != Instructions::kBaseline && patch.channels == kColours && patch.channel_stride == 1) {
    if (alpha_row == nullptr && patch.column_stride == 3) {
      x = fill_opaque_texels(row, patch.width, texels);
    } else if (alpha_row == row + 3 && patch.column_stride == 4) {
      x = fill_premultiplied_texels(row, patch.width, texels);
    }
  }
#endif
  for (; x < patch.width; ++x) fill_texel(patch, row, alpha_row, x, texels + 4 * x);
  memcpy(out, texels, 4);
  for (int64_t behind = 0; behind <= kRecordsAtOnce; ++behind) {
    memcpy(texels + 4 * (patch.width + behind), texels + 4 * (patch.width - 1), 4);
  }
}

inline void join_texels(const uint8_t* upper, const uint8_t* lower, int64_t count, uint8_t* out) {
#ifdef TUBELETX_VECTOR_CODE
  if (instructions() != Instructions::kBaseline) return join_texels_avx2(upper, lower, count, out);
#endif
  for (int64_t x = 0; x < count; ++x) {
    for (int64_t c = 0; c <= kColours; ++c) {
      uint8_t* tap = out + kRecord * x + 4 * c;
      tap[0] = upper[4 * x + c];
      tap[1] = lower[4 * x + c];
      tap[2] = upper[4 * (x + 1) + c];
      tap[3] = lower[4 * (x + 1) + c];
    }
  }
}

/// Writes the records of a patch; `texels` is scratch.
inline void fill_records(const PatchGroup& patch, uint8_t* texels, uint8_t* out) {
  const int64_t row_bytes = texels_row_bytes(patch.width);
  const int64_t places = int64_t{patch.width} + 1;
  uint8_t* upper = texels;
  uint8_t* lower = texels + row_bytes;
  fill_texels(patch, 0, lower);
  for (int64_t y = 0; y <= patch.height; ++y) {
    // The first and the last row of records see the border row twice.
    if (y == 0) {
      memcpy(upper, lower, row_bytes);
    } else {
      std::swap(upper, lower);
      if (y < patch.height) {
        fill_texels(patch, y, lower);
      } else {
        memcpy(lower, upper, row_bytes);
      }
    }
    join_texels(upper, lower, places, out + y * places * kRecord);
  }
}

}  // namespace tubeletx::cpu
