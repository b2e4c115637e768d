// Resizing of bytes, in integers: the definition of the result, which every instruction set and device follows to the
// bit. It is the antialiased bilinear resize of Pillow and of torch's interpolate(antialias=True): a triangle, as wide
// as two pixels of the smaller of the two grids, weighs the source pixels, which end at the window.
//
// 1. Output pixel j of `out` looks from (2 j + 1) in / (2 out); source pixel k of `in` stands at k + 1/2. In units of
//    1 / (2 out) all of this is integers, and so are the weights before they are scaled to a sum of 2^14. They are the
//    differences of their rounded running sum, so the sum is exact.
// 2. Along x first: a sum of bytes times weights, rounded to 2^-7 levels, which fits 16 bits.
// 3. Then along y: a sum of those times weights, rounded to levels. Either sum is exact in 32 bits, in any order.
//
// Against float64 that rounds nothing but the result (tests/ops/test_augment_clips.py): within 0.55 levels up to an
// eightfold reduction.
#pragma once

#include <cstdint>

#include "core/macros.h"

namespace tubeletx {

inline constexpr int32_t kResizeWeightBits = 14;
/// Bits below a level of what is resized along x only.
inline constexpr int32_t kResizeRowBits = 7;
inline constexpr int32_t kResizeRowShift = kResizeWeightBits - kResizeRowBits;
inline constexpr int32_t kResizeLevelShift = kResizeWeightBits + kResizeRowBits;

/// The longest side of a frame, before and after: longer ones would leave 64 bits.
inline constexpr int64_t kMostResizedSide = 1 << 15;

/// The source pixels that an output pixel sees.
struct ResizeTaps {
  int32_t first, count;
};

TUBELETX_INLINE int64_t resize_support(int32_t in, int32_t out) { return 2 * int64_t{in > out ? in : out}; }

/// No output pixel has more taps.
TUBELETX_INLINE int32_t most_resize_taps(int32_t in, int32_t out) {
  return static_cast<int32_t>((resize_support(in, out) + out - 1) / out);
}

TUBELETX_INLINE ResizeTaps resize_taps(int32_t index, int32_t in, int32_t out) {
  const int64_t center = (2 * int64_t{index} + 1) * in, support = resize_support(in, out), unit = 2 * int64_t{out};
  // Source pixel k weighs something where |(2 k + 1) out - center| < support. The numerators below may be negative only
  // where the frame ends first.
  const int64_t before = center - support - out, behind = center + support - out;
  const int64_t first = before < 0 ? 0 : before / unit + 1;
  const int64_t end = (behind + unit - 1) / unit;
  return {static_cast<int32_t>(first), static_cast<int32_t>((end < in ? end : in) - first)};
}

/// The weights of an output pixel, taps.count numbers of 0 or more that sum to 2^14.
TUBELETX_INLINE void resize_weights(int32_t index, int32_t in, int32_t out, const ResizeTaps& taps, int16_t* weights) {
  const int64_t center = (2 * int64_t{index} + 1) * in, support = resize_support(in, out);
  const auto weight_of = [&](int32_t tap) {
    const int64_t distance = (2 * int64_t{taps.first + tap} + 1) * out - center;
    return support - (distance < 0 ? -distance : distance);
  };
  int64_t total = 0;
  for (int32_t tap = 0; tap < taps.count; ++tap) total += weight_of(tap);
  int64_t sum = 0, last = 0;
  for (int32_t tap = 0; tap < taps.count; ++tap) {
    sum += weight_of(tap);
    const int64_t next = ((sum << (kResizeWeightBits + 1)) + total) / (2 * total);
    weights[tap] = static_cast<int16_t>(next - last);
    last = next;
  }
}

/// A sum along x in 2^-7 levels, and one along y of these in levels.
TUBELETX_INLINE int32_t round_resized_row(int32_t sum) {
  return (sum + (1 << (kResizeRowShift - 1))) >> kResizeRowShift;
}
TUBELETX_INLINE int32_t round_resized_level(int32_t sum) {
  return (sum + (1 << (kResizeLevelShift - 1))) >> kResizeLevelShift;
}

}  // namespace tubeletx
