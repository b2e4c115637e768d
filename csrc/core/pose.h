// Where a patch stands in one frame: from a pixel of the frame to the place in the patch that it shows.
#pragma once

#include <cmath>
#include <cstdint>

#include "core/macros.h"
#include "core/shapes.h"

namespace tubeletx {

template <typename Real>
TUBELETX_INLINE bool is_finite(Real value) {
  return value - value == 0;
}

/// One patch in one frame, in double precision: what the poses of all pixel types are made of. Pixels are counted from
/// an anchor, the pixel under the patch centre, so that their distances from it are exact in frames of any size.
struct Placement {
  int32_t width, height;       ///< of the patch
  int32_t anchor_x, anchor_y;  ///< column and row
  double rest_x, rest_y;       ///< from the patch centre to the centre of the anchor
  double inverse[4];           ///< image axes to patch axes, row-major
};

/// Frames are up to this wide and high, and anchors lie no farther from the origin.
inline constexpr int32_t kFarthestAnchor = 1 << 24;

/// A patch that is shrunk more than this is no longer a patch.
inline constexpr double kMostShrunk = 1 << 20;

TUBELETX_HOST_DEVICE inline void place_axis(double center, int32_t& anchor, double& rest) {
  constexpr double kFarthest = kFarthestAnchor;
  const double cell = std::floor(center);
  const double nearest = cell < kFarthest ? (cell > -kFarthest ? cell : -kFarthest) : kFarthest;
  anchor = static_cast<int32_t>(nearest);
  rest = (nearest - center) + 0.5;
}

/// Fills `placement`; false where nothing is to be painted: a pose that is singular, shrinks the patch to nothing or is
/// not finite, an empty patch, no opacity. The rule is the same for all pixel types.
TUBELETX_HOST_DEVICE inline bool place_patch(const float* center, const float* offset, const float* linear,
                                             int32_t width, int32_t height, float opacity, Placement& placement) {
  if (width <= 0 || height <= 0 || !(opacity > 0)) return false;
  double x = center[0], y = center[1];
  if (offset != nullptr) {
    x = x + offset[0];
    y = y + offset[1];
  }
  const double xx = linear[0], xy = linear[1], yx = linear[2], yy = linear[3];
  const double determinant = xx * yy - xy * yx;
  if (!is_finite(x) || !is_finite(y) || !is_finite(determinant) || determinant == 0) return false;
  placement.inverse[0] = yy / determinant;
  placement.inverse[1] = -xy / determinant;
  placement.inverse[2] = -yx / determinant;
  placement.inverse[3] = xx / determinant;
  for (double entry : placement.inverse) {
    if (!(std::fabs(entry) <= kMostShrunk)) return false;
  }
  place_axis(x, placement.anchor_x, placement.rest_x);
  place_axis(y, placement.anchor_y, placement.rest_y);
  placement.width = width;
  placement.height = height;
  return true;
}

/// One patch in one frame, prepared for the arithmetic of every pixel that is not a byte.
template <typename Real>
struct Pose {
  int32_t anchor_x, anchor_y;
  Real rest_x, rest_y;
  Real inverse[4];
  Real half_width, half_height;
  Real inverse_half[2];               ///< 1 / half_width, 1 / half_height
  Real first_texel_x, first_texel_y;  ///< from the patch centre to the centre of its first texel
  Real last_texel_x, last_texel_y;    ///< width - 1, height - 1
  Real edge_slope;
  Real opacity;
};

template <typename Real>
TUBELETX_HOST_DEVICE inline Pose<Real> make_pose(const Placement& placement, float edge, float opacity) {
  Pose<Real> pose;
  pose.anchor_x = placement.anchor_x;
  pose.anchor_y = placement.anchor_y;
  pose.rest_x = static_cast<Real>(placement.rest_x);
  pose.rest_y = static_cast<Real>(placement.rest_y);
  for (int i = 0; i < 4; ++i) pose.inverse[i] = static_cast<Real>(placement.inverse[i]);
  pose.half_width = Real(placement.width) * Real(0.5);
  pose.half_height = Real(placement.height) * Real(0.5);
  pose.inverse_half[0] = Real(1) / pose.half_width;
  pose.inverse_half[1] = Real(1) / pose.half_height;
  pose.first_texel_x = Real(placement.width - 1) * Real(0.5);
  pose.first_texel_y = Real(placement.height - 1) * Real(0.5);
  pose.last_texel_x = Real(placement.width - 1);
  pose.last_texel_y = Real(placement.height - 1);
  pose.edge_slope = edge_slope(Real(edge));
  pose.opacity = opacity < 1 ? Real(opacity) : Real(1);
  return pose;
}

/// What a pixel of the frame sees of a patch: the texel left and above, the bilinear weights of it and its right, lower
/// and diagonal neighbours, and how strongly the tubelet covers the pixel (mask times opacity).
template <typename Real>
struct Sight {
  int32_t column, row;
  Real weight[4];
  Real strength;
};

/// What a caller promises about the slope of the edge; it changes no bit.
enum class Edge { kAny, kSoft, kHard };

/// The arithmetic of one pixel. Its operations and their order fix the bits of the result, on every processor.
template <Shape kShape, Edge kEdge = Edge::kAny, typename Real>
TUBELETX_INLINE Sight<Real> see_patch(const Pose<Real>& pose, int32_t pixel_column, int32_t pixel_row) {
  const Real dx = Real(pixel_column - pose.anchor_x) + pose.rest_x;
  const Real dy = Real(pixel_row - pose.anchor_y) + pose.rest_y;
  const Real patch_x = pose.inverse[0] * dx + pose.inverse[1] * dy;
  const Real patch_y = pose.inverse[2] * dx + pose.inverse[3] * dy;

  Sight<Real> sight;
  if (kEdge == Edge::kHard || (kEdge == Edge::kAny && !is_finite(pose.edge_slope))) {
    const bool inside = inside_outline<kShape>(patch_x, patch_y, pose.half_width, pose.half_height, pose.inverse_half);
    sight.strength = inside ? pose.opacity : Real(0);
  } else {
    const Real distance = outline_distance<kShape>(patch_x * pose.inverse_half[0], patch_y * pose.inverse_half[1]);
    sight.strength = edge_mask(distance, pose.edge_slope) * pose.opacity;
  }

  // Clamping the place is the same as clamping the taps: the border texel extends outwards.
  const Real from_left = patch_x + pose.first_texel_x;
  const Real from_top = patch_y + pose.first_texel_y;
  const Real positive_x = from_left > 0 ? from_left : Real(0);
  const Real positive_y = from_top > 0 ? from_top : Real(0);
  const Real texel_x = positive_x < pose.last_texel_x ? positive_x : pose.last_texel_x;
  const Real texel_y = positive_y < pose.last_texel_y ? positive_y : pose.last_texel_y;
  sight.column = static_cast<int32_t>(texel_x);
  sight.row = static_cast<int32_t>(texel_y);
  const Real right = texel_x - Real(sight.column);
  const Real lower = texel_y - Real(sight.row);
  const Real left = Real(1) - right;
  const Real upper = Real(1) - lower;
  sight.weight[0] = upper * left;
  sight.weight[1] = upper * right;
  sight.weight[2] = lower * left;
  sight.weight[3] = lower * right;
  return sight;
}

template <typename Real>
TUBELETX_HOST_DEVICE inline Sight<Real> see_patch(Shape shape, const Pose<Real>& pose, int32_t pixel_column,
                                                  int32_t pixel_row) {
  switch (shape) {
    case Shape::kRectangle:
      return see_patch<Shape::kRectangle>(pose, pixel_column, pixel_row);
    case Shape::kEllipse:
      return see_patch<Shape::kEllipse>(pose, pixel_column, pixel_row);
    default:
      return see_patch<Shape::kRhombus>(pose, pixel_column, pixel_row);
  }
}

/// A tap without weight counts nothing, even where it is not finite.
template <typename Real>
TUBELETX_INLINE Real weigh(const Real weight, const Real tap) {
  const Real product = weight * tap;
  return weight == 0 ? Real(0) : product;
}

/// Weighted sum of four taps, in the one order that all kernels use.
template <typename Real>
TUBELETX_INLINE Real weigh(const Real weight0, const Real weight1, const Real weight2, const Real weight3,
                           const Real tap0, const Real tap1, const Real tap2, const Real tap3) {
  return ((weigh(weight0, tap0) + weigh(weight1, tap1)) + weigh(weight2, tap2)) + weigh(weight3, tap3);
}

/// The pixels of a frame that a tubelet may touch, as a range of rows and a span of columns in each. It is never too
/// small: rounding is allowed for. So it decides what is visited, not what is painted.
class Footprint {
 public:
  /// `quantum`: of places in the patch, in half sizes, where they are rounded to multiples of one.
  TUBELETX_HOST_DEVICE Footprint(const Placement& placement, Shape shape, int64_t height, int64_t width,
                                 double quantum = 0)
      : round(shape == Shape::kEllipse),
        center_x(double(placement.anchor_x) - placement.rest_x + 0.5),
        center_y(double(placement.anchor_y) - placement.rest_y + 0.5),
        frame_width(width) {
    // The outline in half sizes: |first| < 1 and |second| < 1 (two strips), or first^2 + second^2 < 1.
    const double ax = placement.inverse[0] * (2.0 / placement.width);
    const double ay = placement.inverse[1] * (2.0 / placement.width);
    const double bx = placement.inverse[2] * (2.0 / placement.height);
    const double by = placement.inverse[3] * (2.0 / placement.height);
    const bool turned = shape == Shape::kRhombus;
    first_x = turned ? ax + bx : ax;
    first_y = turned ? ay + by : ay;
    second_x = turned ? ax - bx : bx;
    second_y = turned ? ay - by : by;
    determinant = first_x * second_y - first_y * second_x;

    const double area = std::fabs(determinant);
    double extent_x, extent_y;
    if (round) {
      extent_x = std::sqrt(first_y * first_y + second_y * second_y) / area;
      extent_y = std::sqrt(first_x * first_x + second_x * second_x) / area;
    } else {
      extent_x = (std::fabs(first_y) + std::fabs(second_y)) / area;
      extent_y = (std::fabs(first_x) + std::fabs(second_x)) / area;
    }
    // A few roundings of the largest terms that are added up, relative to the half size; each pixel from the anchor on
    // adds half a quantum on either axis.
    const double terms = (std::fabs(ax) + std::fabs(bx)) * extent_x + (std::fabs(ay) + std::fabs(by)) * extent_y;
    limit = 1.0 + 1e-6 * (4.0 + terms) + quantum * (4.0 + extent_x + extent_y);
    extent_x *= limit;
    extent_y *= limit;
    column_begin = clamp_index(std::ceil(center_x - extent_x - 0.5), width, 0);
    column_end = clamp_index(std::floor(center_x + extent_x - 0.5) + 1.0, width, width);
    row_begin = clamp_index(std::ceil(center_y - extent_y - 0.5), height, 0);
    row_end = clamp_index(std::floor(center_y + extent_y - 0.5) + 1.0, height, height);

    if (round) {
      const double square = first_x * first_x + second_x * second_x;
      reach = limit * limit / square;
      inverse_first = 1.0 / square;
      drift = -(first_x * first_y + second_x * second_y) / square;
    } else {
      inverse_first = 1.0 / first_x;
      inverse_second = 1.0 / second_x;
    }
  }

  /// Columns [begin, end) of a row.
  TUBELETX_HOST_DEVICE void span(int64_t row, int64_t& begin, int64_t& end) const {
    const double dy = (double(row) + 0.5) - center_y;
    double low, high;
    if (round) {
      const double across = determinant * dy * inverse_first;
      const double square = reach - across * across;
      const double half = std::sqrt(square < 0 ? 0.0 : square);
      low = drift * dy - half;
      high = square < 0 ? low - 1.0 : drift * dy + half;
    } else {
      strip(first_y * dy, inverse_first, low, high);
      double other_low, other_high;
      strip(second_y * dy, inverse_second, other_low, other_high);
      low = low > other_low ? low : other_low;
      high = high < other_high ? high : other_high;
    }
    begin = clamp_index(std::ceil(center_x + low - 0.5), frame_width, 0);
    end = clamp_index(std::floor(center_x + high - 0.5) + 1.0, frame_width, frame_width);
  }

  int64_t row_begin, row_end;
  int64_t column_begin, column_end;  ///< of all rows

  // The outline, for loops that take the spans of many rows at once.
  bool round;
  double center_x, center_y;
  double first_x, first_y, second_x, second_y, determinant, limit;
  double inverse_first = 0, inverse_second = 0, reach = 0, drift = 0;
  int64_t frame_width;

 private:
  /// dx with |shift + dx / inverse| < limit. An inverse of infinity (a strip along the row) gives all or nothing.
  TUBELETX_HOST_DEVICE void strip(double shift, double inverse, double& low, double& high) const {
    const double one = (-limit - shift) * inverse;
    const double other = (limit - shift) * inverse;
    low = one < other ? one : other;
    high = one > other ? one : other;
  }

  TUBELETX_HOST_DEVICE static int64_t clamp_index(double value, int64_t extent, int64_t if_not_a_number) {
    if (!(value == value)) return if_not_a_number;
    if (!(value > 0)) return 0;
    return value < double(extent) ? int64_t(value) : extent;
  }
};

}  // namespace tubeletx
