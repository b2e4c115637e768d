// Analytic masks of the tubelet shapes.
#pragma once

#include <cmath>
#include <cstdint>

#include "core/macros.h"

namespace tubeletx {

enum class Shape : int32_t { kRectangle = 0, kEllipse = 1, kRhombus = 2 };

/// Distance from the patch centre, given as (x, y) in half sizes of the patch: 1 on the outline of the shape.
template <Shape kShape, typename Real>
TUBELETX_INLINE Real outline_distance(Real x, Real y) {
  const Real across = x < 0 ? -x : x;
  const Real down = y < 0 ? -y : y;
  if constexpr (kShape == Shape::kRectangle) {
    return across > down ? across : down;
  } else if constexpr (kShape == Shape::kEllipse) {
    return std::sqrt(across * across + down * down);
  } else {
    return across + down;
  }
}

/// outline_distance < 1, to the bit: the root of a number below 1 is rounded to one below 1.
template <Shape kShape, typename Real>
TUBELETX_INLINE bool inside_outline(Real x, Real y) {
  if constexpr (kShape == Shape::kEllipse) {
    return x * x + y * y < 1;
  } else {
    return outline_distance<kShape>(x, y) < 1;
  }
}

/// The reciprocal of the width of the soft edge. Infinite for a hard edge, which makes edge_mask a step.
template <typename Real>
TUBELETX_INLINE Real edge_slope(Real edge) {
  return edge > 0 ? Real(1) / edge : static_cast<Real>(INFINITY);
}

/// Mask at an outline distance: 1 deep inside, 0 outside, and between them a ramp as wide as the soft edge.
template <typename Real>
TUBELETX_INLINE Real edge_mask(Real distance, Real slope) {
  const Real ramp = (Real(1) - distance) * slope;
  const Real mask = ramp < 1 ? ramp : Real(1);
  return distance < 1 ? mask : Real(0);
}

}  // namespace tubeletx
