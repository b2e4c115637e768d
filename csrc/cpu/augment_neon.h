// What augment_loops.h asks of the vector units, for NEON; names as in vector.h and augment_avx512.h.
#pragma once

#include "core/blend.h"
#include "cpu/augment_frames.h"
#include "cpu/vector.h"

namespace tubeletx::cpu::neon {

#define TUBELETX_LOCAL TUBELETX_VECTOR_INLINE

inline constexpr int64_t kBytes = 16;

TUBELETX_LOCAL Integers load_unaligned(const void* from) {
  return integers(vld1q_u8(static_cast<const uint8_t*>(from)));
}

TUBELETX_LOCAL Integers interleave_low(Integers a, Integers b) { return integers(vzip1q_u16(halves(a), halves(b))); }
TUBELETX_LOCAL Integers interleave_high(Integers a, Integers b) { return integers(vzip2q_u16(halves(a), halves(b))); }
TUBELETX_LOCAL Integers multiply_accumulate(Integers sum, Integers a, Integers b) {
  return add(sum, multiply_halves_add(a, b));
}
template <int kCount>
TUBELETX_LOCAL Integers shift_right_signed(Integers value) {
  return vshrq_n_s32(value, kCount);
}
TUBELETX_LOCAL Integers pack_words(Integers low, Integers high) {
  return vreinterpretq_s32_s16(vqmovn_high_s32(vqmovn_s32(low), high));
}
TUBELETX_LOCAL void store_words_as_bytes(uint8_t* to, Integers words, int64_t count) {
  const uint8x8_t narrowed = vqmovun_s16(signed_halves(words));
  if (count >= 8) {
    vst1_u8(to, narrowed);
  } else {
    uint8_t kept[8];
    vst1_u8(kept, narrowed);
    std::memcpy(to, kept, static_cast<size_t>(count));
  }
}

TUBELETX_LOCAL Integers sum_bytes(Integers value) {
  return vreinterpretq_s32_u64(vpaddlq_u32(vpaddlq_u16(vpaddlq_u8(bytes(value)))));
}
TUBELETX_LOCAL Integers add_wide(Integers a, Integers b) {
  return vreinterpretq_s32_s64(vaddq_s64(vreinterpretq_s64_s32(a), vreinterpretq_s64_s32(b)));
}

TUBELETX_LOCAL Floats multiply(Floats a, Floats b) { return vmulq_f32(a, b); }
TUBELETX_LOCAL Floats add(Floats a, Floats b) { return vaddq_f32(a, b); }

struct Planes {
  Floats channel[3];
};

/// The bytes of a channel as words; 255 is nowhere.
constexpr ByteOrder<16> widening(int channel) {
  ByteOrder<16> order{};
  for (int byte = 0; byte < 16; ++byte) {
    order.from[byte] = static_cast<uint8_t>(byte % 4 == 0 ? 3 * (byte / 4) + channel : 255);
  }
  return order;
}
inline constexpr ByteOrder<16> kWidenings[3] = {widening(0), widening(1), widening(2)};

TUBELETX_LOCAL Planes load_planes(const uint8_t* pixels) {
  const uint8x16_t packed = bytes(load_twelve(pixels));
  Planes planes;
  for (int c = 0; c < 3; ++c) {
    planes.channel[c] = to_floats(integers(vqtbl1q_u8(packed, vld1q_u8(kWidenings[c].from))));
  }
  return planes;
}

/// Where the bytes of part `part` of the interleaved floats stand in the three planes.
constexpr ByteOrder<16> interleaving(int part) {
  ByteOrder<16> order{};
  for (int byte = 0; byte < 16; ++byte) {
    const int number = 4 * part + byte / 4;
    order.from[byte] = static_cast<uint8_t>(16 * (number % 3) + 4 * (number / 3) + byte % 4);
  }
  return order;
}
inline constexpr ByteOrder<16> kInterleavings[3] = {interleaving(0), interleaving(1), interleaving(2)};

TUBELETX_LOCAL Floats interleaved(const Planes& planes, int part) {
  const uint8x16x3_t all = {vreinterpretq_u8_f32(planes.channel[0]), vreinterpretq_u8_f32(planes.channel[1]),
                            vreinterpretq_u8_f32(planes.channel[2])};
  return vreinterpretq_f32_u8(vqtbl3q_u8(all, vld1q_u8(kInterleavings[part].from)));
}

TUBELETX_LOCAL void store_numbers(float* to, Floats values) { vst1q_f32(to, values); }
template <typename Pixel>
TUBELETX_LOCAL void store_numbers(Pixel* to, Floats values) {
  float kept[4];
  vst1q_f32(kept, values);
  for (int i = 0; i < 4; ++i) to[i] = from_real<Pixel>(kept[i]);
}

/// Where the two taps of each channel stand, as words.
constexpr ByteOrder<16> tap_words() {
  ByteOrder<16> order{};
  for (int byte = 0; byte < 16; ++byte) {
    const int channel = byte / 4, tap = byte % 4 / 2;
    order.from[byte] = static_cast<uint8_t>(byte % 2 == 0 && channel < 3 ? 3 * tap + channel : 255);
  }
  return order;
}
inline constexpr ByteOrder<16> kTapWords = tap_words();

/// Sums along x: a pixel at a time, its fourth number is overwritten by the next pixel.
inline void resize_row(const ResizeAxis& axis, const uint8_t* packed, int16_t* row) {
  const uint8x16_t order = vld1q_u8(kTapWords.from);
  for (int64_t x = 0; x < axis.out; ++x) {
    const uint8_t* from = packed + 3 * axis.first[x];
    const int16_t* weights = axis.weights_of(x);
    Integers sum = splat(1 << (kResizeRowShift - 1));
    for (int64_t pair = 0; pair < axis.pairs; ++pair) {
      int32_t both;
      std::memcpy(&both, weights + 2 * pair, sizeof both);
      const uint8x16_t taps = vqtbl1q_u8(vld1q_u8(from + 6 * pair), order);
      sum = multiply_accumulate(sum, integers(taps), splat(both));
    }
    vst1_s16(row + 3 * x, vqmovn_s32(shift_right_signed<kResizeRowShift>(sum)));
  }
}

#undef TUBELETX_LOCAL

}  // namespace tubeletx::cpu::neon
