// Patches of bytes, rewritten once a call in the form in which pasting reads them; see kRecord.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "core/paste_bytes.h"
#include "cpu/byte_layer.h"
#include "cpu/vector.h"

#if defined(TUBELETX_NEON)
#include "cpu/byte_records_neon.h"
#elif defined(TUBELETX_VECTOR_CODE)
#include "cpu/byte_records_avx2.h"
#endif

namespace tubeletx::cpu {

/// Some channels of a patch and its alpha.
struct PatchGroup {
  const uint8_t* pixels;
  const uint8_t* alpha;  ///< null where the patch has none
  int64_t channel_stride, row_stride, column_stride;
  int64_t channels;  ///< 1 to kColours
  int32_t width, height;
};

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

/// Texels 0 .. width - 1 of a row behind a border texel, and the border on both sides.
inline void fill_texels(const PatchGroup& patch, int64_t y, uint8_t* out) {
  const uint8_t* row = patch.pixels + y * patch.row_stride;
  const uint8_t* alpha_row = patch.alpha == nullptr ? nullptr : patch.alpha + y * patch.row_stride;
  uint8_t* texels = out + 4;
  int64_t x = 0;
#ifdef TUBELETX_VECTOR_CODE
  if (instructions() != Instructions::kBaseline && patch.channels == kColours && patch.channel_stride == 1) {
    if (alpha_row == nullptr && patch.column_stride == 3) {
      x = narrow::fill_opaque_texels(row, patch.width, texels);
    } else if (alpha_row == row + 3 && patch.column_stride == 4) {
      x = narrow::fill_premultiplied_texels(row, patch.width, texels);
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
  if (instructions() != Instructions::kBaseline) return narrow::join_texels(upper, lower, count, out);
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
