// The names of vector.h, for NEON. Included by it. A vector is one quad.
#pragma once

namespace tubeletx::cpu::neon {

#define TUBELETX_LOCAL TUBELETX_VECTOR_INLINE

inline constexpr int32_t kLanes = 4;
using Integers = int32x4_t;
using Floats = float32x4_t;
using Doubles = float64x2_t;  ///< half as many lanes
using Mask = uint32x4_t;

// The same bits as other lanes.
TUBELETX_LOCAL Integers integers(uint8x16_t value) { return vreinterpretq_s32_u8(value); }
TUBELETX_LOCAL Integers integers(uint16x8_t value) { return vreinterpretq_s32_u16(value); }
TUBELETX_LOCAL Integers integers(uint32x4_t value) { return vreinterpretq_s32_u32(value); }
TUBELETX_LOCAL uint8x16_t bytes(Integers value) { return vreinterpretq_u8_s32(value); }
TUBELETX_LOCAL uint16x8_t halves(Integers value) { return vreinterpretq_u16_s32(value); }
TUBELETX_LOCAL int16x8_t signed_halves(Integers value) { return vreinterpretq_s16_s32(value); }
TUBELETX_LOCAL uint32x4_t words(Integers value) { return vreinterpretq_u32_s32(value); }

TUBELETX_LOCAL Integers splat(int32_t value) { return vdupq_n_s32(value); }
TUBELETX_LOCAL Floats splat(float value) { return vdupq_n_f32(value); }
TUBELETX_LOCAL Doubles splat(double value) { return vdupq_n_f64(value); }
TUBELETX_LOCAL Integers lane_numbers() { return Integers{0, 1, 2, 3}; }
TUBELETX_LOCAL Doubles half_lane_numbers() { return Doubles{0, 1}; }

TUBELETX_LOCAL Integers load(const void* from) { return vld1q_s32(static_cast<const int32_t*>(from)); }
TUBELETX_LOCAL void store(void* to, Integers value) { vst1q_s32(static_cast<int32_t*>(to), value); }

TUBELETX_LOCAL Integers add(Integers a, Integers b) { return integers(vaddq_u32(words(a), words(b))); }
TUBELETX_LOCAL Integers subtract(Integers a, Integers b) { return integers(vsubq_u32(words(a), words(b))); }
TUBELETX_LOCAL Integers multiply(Integers a, Integers b) { return integers(vmulq_u32(words(a), words(b))); }
TUBELETX_LOCAL Integers bits_and(Integers a, Integers b) { return vandq_s32(a, b); }
TUBELETX_LOCAL Integers bits_or(Integers a, Integers b) { return vorrq_s32(a, b); }
TUBELETX_LOCAL Integers bits_xor(Integers a, Integers b) { return veorq_s32(a, b); }
TUBELETX_LOCAL Integers choose_bits(Integers mask, Integers yes, Integers no) {
  return vbslq_s32(words(mask), yes, no);
}
TUBELETX_LOCAL Integers smaller_unsigned(Integers a, Integers b) { return integers(vminq_u32(words(a), words(b))); }
TUBELETX_LOCAL Integers shift_right(Integers value, Integers count) {
  return integers(vshlq_u32(words(value), vnegq_s32(count)));
}
template <int kCount>
TUBELETX_LOCAL Integers shift_right(Integers value) {
  return integers(vshrq_n_u32(words(value), kCount));
}
template <int kCount>
TUBELETX_LOCAL Integers shift_left(Integers value) {
  return vshlq_n_s32(value, kCount);
}

TUBELETX_LOCAL Integers add_halves(Integers a, Integers b) { return integers(vaddq_u16(halves(a), halves(b))); }
TUBELETX_LOCAL Integers subtract_halves(Integers a, Integers b) { return integers(vsubq_u16(halves(a), halves(b))); }
TUBELETX_LOCAL Integers subtract_halves_saturated(Integers a, Integers b) {
  return integers(vqsubq_u16(halves(a), halves(b)));
}
TUBELETX_LOCAL Integers multiply_halves_high(Integers a, Integers b) {
  const uint32x4_t low = vmull_u16(vget_low_u16(halves(a)), vget_low_u16(halves(b)));
  const uint32x4_t high = vmull_high_u16(halves(a), halves(b));
  return integers(vuzp2q_u16(vreinterpretq_u16_u32(low), vreinterpretq_u16_u32(high)));
}
TUBELETX_LOCAL Integers multiply_halves_add(Integers a, Integers b) {
  const int32x4_t low = vmull_s16(vget_low_s16(signed_halves(a)), vget_low_s16(signed_halves(b)));
  return vpaddq_s32(low, vmull_high_s16(signed_halves(a), signed_halves(b)));
}

TUBELETX_LOCAL Floats to_floats(Integers value) { return vcvtq_f32_s32(value); }
TUBELETX_LOCAL Integers round_to_integers(Floats value) { return vcvtnq_s32_f32(value); }
TUBELETX_LOCAL Floats absolute(Floats value) { return vabsq_f32(value); }
TUBELETX_LOCAL Floats square_root(Floats value) { return vsqrtq_f32(value); }
TUBELETX_LOCAL Floats smaller(Floats a, Floats b) { return vbslq_f32(vcltq_f32(a, b), a, b); }
TUBELETX_LOCAL Floats larger(Floats a, Floats b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }

TUBELETX_LOCAL Doubles square_root(Doubles value) { return vsqrtq_f64(value); }
TUBELETX_LOCAL Doubles smaller(Doubles a, Doubles b) { return vbslq_f64(vcltq_f64(a, b), a, b); }
TUBELETX_LOCAL Doubles larger(Doubles a, Doubles b) { return vbslq_f64(vcgtq_f64(a, b), a, b); }
TUBELETX_LOCAL Integers round_up(Doubles low, Doubles high) {
  return vqmovn_high_s64(vqmovn_s64(vcvtpq_s64_f64(low)), vcvtpq_s64_f64(high));
}
TUBELETX_LOCAL Integers round_down(Doubles low, Doubles high) {
  return vqmovn_high_s64(vqmovn_s64(vcvtmq_s64_f64(low)), vcvtmq_s64_f64(high));
}

TUBELETX_LOCAL Mask less(Integers a, Integers b) { return vcltq_s32(a, b); }
TUBELETX_LOCAL Mask less_unsigned(Integers a, Integers b) { return vcltq_u32(words(a), words(b)); }
TUBELETX_LOCAL Mask less(Floats a, Floats b) { return vcltq_f32(a, b); }
TUBELETX_LOCAL Mask both(Mask a, Mask b) { return vandq_u32(a, b); }
TUBELETX_LOCAL Mask either(Mask a, Mask b) { return vorrq_u32(a, b); }
TUBELETX_LOCAL Mask but_not(Mask a, Mask b) { return vbicq_u32(a, b); }
TUBELETX_LOCAL bool any(Mask mask) { return vmaxvq_u32(mask) != 0; }
TUBELETX_LOCAL Integers add_where(Mask mask, Integers a, Integers b) { return add(a, bits_and(integers(mask), b)); }
TUBELETX_LOCAL Integers subtract_where(Mask mask, Integers a, Integers b) {
  return subtract(a, bits_and(integers(mask), b));
}

template <int kLane>
TUBELETX_LOCAL Integers repeat_in_quads(Integers value) {
  return vdupq_laneq_s32(value, kLane);
}
template <int kPair>
TUBELETX_LOCAL Integers repeat_halves_in_quads(Integers value) {
  return vdupq_laneq_s32(integers(vuzp1q_u16(halves(value), halves(value))), kPair);
}

TUBELETX_LOCAL Integers gather_quads(const uint8_t* from, const uint32_t* index, int32_t first) {
  return integers(vld1q_u8(from + index[first]));
}

/// The weights of the four taps of each pixel, twice side by side, and what the sign of the taps adds: the products are
/// of unsigned numbers.
struct SplitWeights {
  uint16x8_t pixel[4];
  Integers excess;
};
TUBELETX_LOCAL SplitWeights split_weights(Integers w00, Integers w01, Integers w10, Integers w11) {
  const uint16x4_t first = vmovn_u32(words(w00)), second = vmovn_u32(words(w10));
  const uint16x4_t third = vmovn_u32(words(w01)), fourth = vmovn_u32(words(w11));
  const uint32x4_t sum = vaddq_u32(vaddl_u16(first, second), vaddl_u16(third, fourth));
  SplitWeights weights;
  weights.excess = integers(vshlq_n_u32(sum, 7));
  const uint32x2_t left[2] = {vreinterpret_u32_u16(vzip1_u16(first, second)),
                              vreinterpret_u32_u16(vzip2_u16(first, second))};
  const uint32x2_t right[2] = {vreinterpret_u32_u16(vzip1_u16(third, fourth)),
                               vreinterpret_u32_u16(vzip2_u16(third, fourth))};
  for (int half = 0; half < 2; ++half) {
    const uint16x4_t even = vreinterpret_u16_u32(vzip1_u32(left[half], right[half]));
    const uint16x4_t odd = vreinterpret_u16_u32(vzip2_u32(left[half], right[half]));
    weights.pixel[2 * half] = vcombine_u16(even, even);
    weights.pixel[2 * half + 1] = vcombine_u16(odd, odd);
  }
  return weights;
}
template <int kLane>
TUBELETX_LOCAL Integers weigh(const SplitWeights& weights, Integers taps, Integers base_in_256ths) {
  const uint8x16_t above_128 = veorq_u8(bytes(taps), vdupq_n_u8(128));
  const uint16x8_t two = vmovl_u8(vget_low_u8(above_128)), others = vmovl_high_u8(above_128);
  const uint16x8_t weight = weights.pixel[kLane];
  const uint32x4_t channel0 = vmull_u16(vget_low_u16(two), vget_low_u16(weight));
  const uint32x4_t channel1 = vmull_high_u16(two, weight);
  const uint32x4_t channel2 = vmull_u16(vget_low_u16(others), vget_low_u16(weight));
  const uint32x4_t channel3 = vmull_high_u16(others, weight);
  const uint32x4_t sums = vpaddq_u32(vpaddq_u32(channel0, channel1), vpaddq_u32(channel2, channel3));
  const Integers base = subtract(shift_left<8>(base_in_256ths), repeat_in_quads<kLane>(weights.excess));
  return add(base, integers(sums));
}

inline constexpr ByteOrder<16> kRows[2] = {order_of_rows<16>(false), order_of_rows<16>(true)};
inline constexpr ByteOrder<16> kHalves[2][2] = {{order_of_halves<16>(false, 0), order_of_halves<16>(false, 1)},
                                                {order_of_halves<16>(true, 0), order_of_halves<16>(true, 1)}};

/// A vector's first twelve bytes.
TUBELETX_LOCAL Integers load_twelve(const uint8_t* from) {
  uint64_t most;
  uint32_t rest;
  memcpy(&most, from, 8);
  memcpy(&rest, from + 8, 4);
  return integers(vreinterpretq_u8_u64(vcombine_u64(vcreate_u64(most), vcreate_u64(rest))));
}

template <Layout kLayout>
TUBELETX_LOCAL Integers load_pixels(const uint8_t* from, int64_t plane, int32_t count) {
  constexpr bool kPlanar = kLayout == Layout::kPlanar;
  if (!kPlanar && count >= kLanes) return load_twelve(from);
  uint8_t rows[12] = {};
  if constexpr (kPlanar) {
    for (int channel = 0; channel < 3; ++channel) {
      copy_few<kLanes>(rows + kLanes * channel, from + channel * plane, count < kLanes ? count : kLanes);
    }
  } else {
    copy_few<12>(rows, from, 3 * count);
  }
  return load_twelve(rows);
}

template <Layout kLayout, int kPair>
TUBELETX_LOCAL Integers spread_halves(Integers pixels) {
  return integers(vqtbl1q_u8(bytes(pixels), vld1q_u8(kHalves[kLayout == Layout::kPlanar][kPair].from)));
}

template <Layout kLayout>
TUBELETX_LOCAL void store_pixels(Integers quads, uint8_t* to, int64_t plane, int32_t count) {
  constexpr bool kPlanar = kLayout == Layout::kPlanar;
  uint8_t rows[16];
  vst1q_u8(rows, vqtbl1q_u8(bytes(quads), vld1q_u8(kRows[kPlanar].from)));
  if constexpr (kPlanar) {
    for (int channel = 0; channel < 3; ++channel) {
      copy_few<kLanes>(to + channel * plane, rows + kLanes * channel, count < kLanes ? count : kLanes);
    }
  } else if (count >= kLanes) {
    memcpy(to, rows, 12);
  } else {
    copy_few<12>(to, rows, 3 * count);
  }
}

#undef TUBELETX_LOCAL

}  // namespace tubeletx::cpu::neon
