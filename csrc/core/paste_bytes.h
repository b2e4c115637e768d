// Pasting onto bytes, in integers: the definition of the result, which every layout, instruction set and device follows
// to the bit. What follows is the arithmetic of one pixel; how pixels are found and grouped is free.
//
// 1. A pose in fixed point. The place of pixel (column, row) in the patch, from its upper left corner, in units of
//    2^-fraction texels, is step_x * (column - anchor_x) + step_y * (row - anchor_y) + start on either axis, in exact
//    integers. So a place does not depend on where a row is entered.
// 2. Coverage. A hard edge covers where inside() holds; its strength is then that of the opacity. A soft edge has a
// ramp
//    in float32. A strength counts in 65535ths.
// 3. Texels are premultiplied by their alpha, 255 where there is none, and the border texels are repeated outwards.
// 4. Four weights of 16 bits that sum to 65535 make an accumulator of each channel, the alpha included, in units of
//    2^-16 levels.
// 5. Blending in 16 bits, by one of three laws: see BytePaint.
//
// Against float64 arithmetic that rounds nothing (tests/ops/test_paste_bytes.py): within 0.51 levels where the patch
// hides the clip, 0.52 with a strength below 1, and 1.01 under an alpha of its own, whose premultiplied texels are
// rounded too. Where layers overlap their roundings add up: 1.4 for three with alpha.
#pragma once

#include <cmath>
#include <cstdint>
#include <type_traits>

#include "core/blend.h"
#include "core/macros.h"
#include "core/pose.h"
#include "core/shapes.h"

namespace tubeletx {

/// How a layer is laid over the background.
enum class BytePaint : int32_t {
  kOpaque,  ///< hard edge, full opacity, no alpha: the warped texels replace it
  kBlend,   ///< hard edge, full opacity, own alpha
  kSoft,    ///< all others
};

/// One patch in one frame, in fixed point.
struct BytePose {
  int64_t step_x[2];  ///< what a place gains from a pixel to the next of its row: along the patch's x, its y
  int64_t step_y[2];  ///< and from a row to the next
  int64_t start[2];   ///< the place of the centre of the anchor
  int64_t extent[2];  ///< width and height of the patch, as places
  int32_t anchor_x, anchor_y;
  int32_t fraction;    ///< bits of a place below a texel, 16 to 32
  int32_t coarseness;  ///< bits that a place loses before it becomes a float32; 0 in a narrow pose
  bool narrow;         ///< places in the patch lie below 2^30, all steps are within 2^27, and fraction below 28
  bool hard;           ///< the edge has no ramp
  BytePaint paint;
  float half[2];          ///< half the patch's width and height, in coarse places
  float inverse_half[2];  ///< their reciprocals
  float edge_slope;
  float opacity;  ///< in 65535ths

  TUBELETX_INLINE int32_t width() const { return static_cast<int32_t>(extent[0] >> fraction); }
  TUBELETX_INLINE int32_t height() const { return static_cast<int32_t>(extent[1] >> fraction); }
};

/// Rounds to the nearest integer, a half upwards.
TUBELETX_INLINE double round_place(double value) { return std::floor(value + 0.5); }

/// Rounds 0 <= value < 2^22 to the nearest integer, ties to even: as the vector units do, on every device.
TUBELETX_INLINE int32_t round_to_even(float value) { return static_cast<int32_t>((value + 0x1p23f) - 0x1p23f); }

/// How many bits an integer of 0 or more takes.
TUBELETX_INLINE int32_t bit_length(int64_t value) {
#ifdef __CUDA_ARCH__
  return 64 - __clzll(value);
#else
  int32_t length = 0;
  for (; value > 0; value >>= 1) ++length;
  return length;
#endif
}

inline constexpr int32_t kByteWeightBits = 16;
inline constexpr int32_t kFullWeight = 65535;

/// Puts a placement into fixed point; false where it is too far away to be seen.
TUBELETX_HOST_DEVICE inline bool make_byte_pose(const Placement& placement, float edge, float opacity, bool has_alpha,
                                                BytePose& pose) {
  constexpr int32_t kNarrowPlaceBits = 30, kNarrowStepBits = 27, kWideStepBits = 36, kWideFraction = 32;
  constexpr double kFarthestPlace = 0x1p61;
  const int32_t size[2] = {placement.width, placement.height};
  double largest = 1;
  for (double entry : placement.inverse) largest = std::fabs(entry) > largest ? std::fabs(entry) : largest;
  const int32_t shrinking = bit_length(static_cast<int64_t>(std::ceil(largest)) - 1);  // largest <= 2^shrinking

  // As many bits below a texel as leave room for the steps and, in a narrow pose, for the patch and its border.
  const int32_t side = (size[0] > size[1] ? size[0] : size[1]);
  const int32_t place_bits = bit_length(int64_t{side} + 2);
  int32_t fraction = kNarrowPlaceBits - place_bits;
  if (fraction > kNarrowStepBits - shrinking) fraction = kNarrowStepBits - shrinking;
  pose.narrow = fraction >= kByteWeightBits;
  if (!pose.narrow) {
    fraction = kWideStepBits - shrinking;
    if (fraction > kWideFraction) fraction = kWideFraction;
  }
  pose.fraction = fraction;
  const int32_t excess = fraction + place_bits - kNarrowPlaceBits;
  pose.coarseness = excess > 0 ? excess : 0;

  const double unit = static_cast<double>(int64_t{1} << fraction);
  for (int axis = 0; axis < 2; ++axis) {
    const double across = placement.inverse[2 * axis], down = placement.inverse[2 * axis + 1];
    pose.step_x[axis] = static_cast<int64_t>(round_place(across * unit));
    pose.step_y[axis] = static_cast<int64_t>(round_place(down * unit));
    const double start = round_place((across * placement.rest_x + down * placement.rest_y) * unit);
    if (!(std::fabs(start) <= kFarthestPlace)) return false;
    pose.extent[axis] = int64_t{size[axis]} << fraction;
    pose.start[axis] = static_cast<int64_t>(start) + (pose.extent[axis] >> 1);
    pose.half[axis] = static_cast<float>(pose.extent[axis] >> pose.coarseness) * 0.5f;
    pose.inverse_half[axis] = 1.0f / pose.half[axis];
  }
  pose.anchor_x = placement.anchor_x;
  pose.anchor_y = placement.anchor_y;
  pose.edge_slope = edge_slope(edge);
  pose.hard = !is_finite(pose.edge_slope);
  pose.opacity = static_cast<float>(kFullWeight) * (opacity < 1 ? opacity : 1.0f);
  const bool plain = pose.hard && opacity >= 1;
  pose.paint = !plain ? BytePaint::kSoft : (has_alpha ? BytePaint::kBlend : BytePaint::kOpaque);
  return true;
}

/// For a Footprint of a byte pose.
TUBELETX_INLINE double place_quantum(const BytePose& pose) {
  const int64_t smaller = pose.extent[0] < pose.extent[1] ? pose.extent[0] : pose.extent[1];
  return 2.0 / static_cast<double>(smaller);
}

/// Where a pixel lies in the patch, along the patch's x (axis 0) or y.
TUBELETX_INLINE int64_t place_of(const BytePose& pose, int32_t column, int32_t row, int axis) {
  return pose.step_x[axis] * (int64_t{column} - pose.anchor_x) + pose.step_y[axis] * (int64_t{row} - pose.anchor_y) +
         pose.start[axis];
}

// What follows takes places as int64_t or, where the pose is narrow and they are known to fit, as int32_t, and any pose
// that has the members it reads.

/// Whether a place lies in the patch. No shape reaches beyond it, and beyond it there are no texels.
template <typename SomePose, typename Place>
TUBELETX_INLINE bool in_patch(const SomePose& pose, Place place_x, Place place_y) {
  using Unsigned = std::make_unsigned_t<Place>;
  return (static_cast<Unsigned>(place_x) < static_cast<Unsigned>(pose.extent[0])) &
         (static_cast<Unsigned>(place_y) < static_cast<Unsigned>(pose.extent[1]));
}

TUBELETX_INLINE int32_t coarseness_of(const BytePose& pose) { return pose.coarseness; }

/// A place as float32 from the patch centre, in coarse places. It means nothing beyond the patch.
template <typename SomePose, typename Place>
TUBELETX_INLINE float from_center(const SomePose& pose, Place place, int axis) {
  const Place offset = place - static_cast<Place>(pose.extent[axis] >> 1);
  return static_cast<float>(static_cast<int32_t>(offset >> coarseness_of(pose)));
}

/// How strongly a layer covers a pixel, in 65535ths; 0: not at all.
template <Shape kShape, typename SomePose, typename Place>
TUBELETX_INLINE int32_t byte_strength(const SomePose& pose, Place place_x, Place place_y) {
  const bool in = in_patch(pose, place_x, place_y);
  if (pose.hard && kShape == Shape::kRectangle) return in ? round_to_even(pose.opacity) : 0;
  const float x = from_center(pose, place_x, 0), y = from_center(pose, place_y, 1);
  if (pose.hard) {
    const bool inside = in & inside_outline<kShape>(x, y, pose.half[0], pose.half[1], pose.inverse_half);
    return inside ? round_to_even(pose.opacity) : 0;
  }
  const float distance = outline_distance<kShape>(x * pose.inverse_half[0], y * pose.inverse_half[1]);
  const int32_t strength = round_to_even(edge_mask(distance, pose.edge_slope) * pose.opacity);
  return in ? strength : 0;
}

template <typename SomePose, typename Place>
TUBELETX_INLINE int32_t byte_strength(Shape shape, const SomePose& pose, Place place_x, Place place_y) {
  switch (shape) {
    case Shape::kRectangle:
      return byte_strength<Shape::kRectangle>(pose, place_x, place_y);
    case Shape::kEllipse:
      return byte_strength<Shape::kEllipse>(pose, place_x, place_y);
    default:
      return byte_strength<Shape::kRhombus>(pose, place_x, place_y);
  }
}

/// Where a pixel looks at its patch: the texel left and above, counted with the border: 0 is the repeated one, 1 the
/// first of the patch; and how far it lies towards the next, in 65536ths.
struct ByteTexel {
  int32_t column, row;  ///< 0 to width, 0 to height
  int32_t right, lower;
};

template <typename SomePose, typename Place>
TUBELETX_INLINE ByteTexel find_texel(const SomePose& pose, Place place_x, Place place_y) {
  const Place half_texel = Place{1} << (pose.fraction - 1);
  const Place x = place_x + half_texel, y = place_y + half_texel;
  const int32_t below = pose.fraction - kByteWeightBits;
  return {static_cast<int32_t>(x >> pose.fraction), static_cast<int32_t>(y >> pose.fraction),
          static_cast<int32_t>((x >> below) & kFullWeight), static_cast<int32_t>((y >> below) & kFullWeight)};
}

/// The weights of a texel, its right, its lower and its diagonal neighbour.
TUBELETX_INLINE void weigh_texels(int32_t right, int32_t lower, int32_t (&weight)[4]) {
  const int32_t diagonal = static_cast<int32_t>((static_cast<uint32_t>(right) * static_cast<uint32_t>(lower)) >> 16);
  const int32_t first = kFullWeight - right - (lower - diagonal);
  weight[0] = first > 0 ? first : 0;
  weight[1] = right - diagonal;
  weight[2] = lower - diagonal;
  weight[3] = diagonal;
}

/// The four texels that a pixel shows, as (column, row), its right, its lower and its diagonal neighbour, and their
/// weights.
struct ByteSight {
  int32_t column, row;
  int32_t weight[4];
};

template <typename SomePose, typename Place>
TUBELETX_INLINE ByteSight see_texels(const SomePose& pose, Place place_x, Place place_y) {
  const ByteTexel texel = find_texel(pose, place_x, place_y);
  ByteSight sight;
  sight.column = texel.column;
  sight.row = texel.row;
  weigh_texels(texel.right, texel.lower, sight.weight);
  return sight;
}

/// A colour by its alpha, both bytes: their product in 255ths, rounded.
TUBELETX_INLINE uint8_t premultiply(uint8_t colour, uint8_t alpha) {
  const uint32_t product = uint32_t{colour} * uint32_t{alpha} + 128u;
  return static_cast<uint8_t>((product + (product >> 8)) >> 8);
}

/// What is added to an accumulator. Texels are weighed as their difference from 128, for which the weights lack one
/// part in 65536: the bias makes it up, with half a level where the accumulator is the pixel, and with the part of it
/// that keeps a plain texel exact where it is scaled by a strength.
TUBELETX_INLINE int32_t byte_bias(BytePaint paint) {
  return (128 << 16) + (paint == BytePaint::kSoft ? 1 << 8 : 1 << 15);
}

/// The accumulator of one channel.
TUBELETX_INLINE uint32_t weigh_bytes(const int32_t (&weight)[4], int32_t tap0, int32_t tap1, int32_t tap2, int32_t tap3,
                                     int32_t bias) {
  return static_cast<uint32_t>(bias + weight[0] * (tap0 - 128) + weight[1] * (tap1 - 128) + weight[2] * (tap2 - 128) +
                               weight[3] * (tap3 - 128));
}

/// A byte that a layer hides.
TUBELETX_INLINE uint8_t opaque_byte(uint32_t accumulator) { return static_cast<uint8_t>(accumulator >> 16); }

/// What a layer leaves of the background, in 65280ths (and one more, so that a half is not below a half).
TUBELETX_INLINE uint32_t keep_of(BytePaint paint, uint32_t alpha_accumulator, int32_t strength) {
  const uint32_t alpha = alpha_accumulator >> 8;
  if (paint == BytePaint::kSoft) return 65281u - ((alpha * static_cast<uint32_t>(strength)) >> 16);
  return 65408u - alpha;
}

/// What a layer adds to a channel, in 256ths of a level, with what rounds the sum.
TUBELETX_INLINE uint32_t light_of(BytePaint paint, uint32_t accumulator, int32_t strength) {
  const uint32_t light = accumulator >> 8;
  if (paint == BytePaint::kSoft) return ((light * static_cast<uint32_t>(strength)) >> 16) + 127u;
  return light;
}

/// A byte under a layer. A sum that lies between two levels goes to the even one, so that an opacity of one half does
/// not brighten. Nothing overflows 16 bits.
TUBELETX_INLINE uint8_t blend_byte(BytePaint paint, uint8_t background, uint32_t keep, uint32_t light) {
  uint32_t sum = light + ((uint32_t{background} * 257u * keep) >> 16);
  if (paint == BytePaint::kSoft) sum += (sum >> 8) & 1u;
  return static_cast<uint8_t>(sum >> 8);
}

}  // namespace tubeletx
