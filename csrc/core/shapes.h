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

/// Whether a place in the patch, in pixels from its centre, lies inside a hard edge. Straight edges are half open, the
/// left and the upper ones belong to the shape, so that shapes that abut leave no pixel out and paint none twice; the
/// curved one does not belong to it.
template <Shape kShape, typename Real>
TUBELETX_INLINE bool inside_outline(Real x, Real y, Real half_width, Real half_height, const Real (&inverse_half)[2]) {
  if constexpr (kShape == Shape::kRectangle) {
    return (-half_width <= x) & (x < half_width) & (-half_height <= y) & (y < half_height);
  } else if constexpr (kShape == Shape::kEllipse) {
    const Real across = x * inverse_half[0];
    const Real down = y * inverse_half[1];
    return across * across + down * down < 1;
  } else {
    const Real across = x * half_height;
    const Real down = y * half_width;
    const Real limit = half_width * half_height;
    return (-limit <= across + down) & (across + down < limit) & (-limit <= across - down) & (across - down < limit);
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
