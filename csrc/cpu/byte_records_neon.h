// Making records of texels with NEON; see byte_records.h.
#pragma once

#include "cpu/byte_layer.h"
#include "cpu/vector.h"

namespace tubeletx::cpu::neon {

/// Texels of three bytes side by side, from the first on; returns how many.
inline int64_t fill_opaque_texels(const uint8_t* row, int64_t count, uint8_t* out) {
  const uint8x8_t sign = vdup_n_u8(128);
  int64_t x = 0;
  for (; x + 8 <= count; x += 8) {
    const uint8x8x3_t pixels = vld3_u8(row + 3 * x);
    uint8x8x4_t texels;
    for (int c = 0; c < 3; ++c) texels.val[c] = veor_u8(pixels.val[c], sign);
    texels.val[3] = vdup_n_u8(127);
    vst4_u8(out + 4 * x, texels);
  }
  return x;
}

/// Texels of three colours and an alpha side by side.
inline int64_t fill_premultiplied_texels(const uint8_t* row, int64_t count, uint8_t* out) {
  const uint8x8_t sign = vdup_n_u8(128);
  int64_t x = 0;
  for (; x + 8 <= count; x += 8) {
    uint8x8x4_t texels = vld4_u8(row + 4 * x);
    for (int c = 0; c < 3; ++c) {
      const uint16x8_t product = vmlal_u8(vdupq_n_u16(128), texels.val[c], texels.val[3]);
      texels.val[c] = vshrn_n_u16(vsraq_n_u16(product, product, 8), 8);
    }
    for (int c = 0; c < 4; ++c) texels.val[c] = veor_u8(texels.val[c], sign);
    vst4_u8(out + 4 * x, texels);
  }
  return x;
}

/// Records of a row from those texels and the ones below, in whole groups of four.
inline void join_texels(const uint8_t* upper, const uint8_t* lower, int64_t count, uint8_t* out) {
  for (int64_t x = 0; x < count; x += 4) {
    const uint8x16_t here = vld1q_u8(upper + 4 * x), below = vld1q_u8(lower + 4 * x);
    const uint8x16_t right = vld1q_u8(upper + 4 * (x + 1)), diagonal = vld1q_u8(lower + 4 * (x + 1));
    const uint16x8_t left_low = vreinterpretq_u16_u8(vzip1q_u8(here, below));
    const uint16x8_t left_high = vreinterpretq_u16_u8(vzip2q_u8(here, below));
    const uint16x8_t right_low = vreinterpretq_u16_u8(vzip1q_u8(right, diagonal));
    const uint16x8_t right_high = vreinterpretq_u16_u8(vzip2q_u8(right, diagonal));
    uint8_t* to = out + kRecord * x;
    vst1q_u8(to, vreinterpretq_u8_u16(vzip1q_u16(left_low, right_low)));
    vst1q_u8(to + 16, vreinterpretq_u8_u16(vzip2q_u16(left_low, right_low)));
    vst1q_u8(to + 32, vreinterpretq_u8_u16(vzip1q_u16(left_high, right_high)));
    vst1q_u8(to + 48, vreinterpretq_u8_u16(vzip2q_u16(left_high, right_high)));
  }
}

}  // namespace tubeletx::cpu::neon
