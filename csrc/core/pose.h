// Where a patch stands in one frame: from a pixel of the frame to the place in the patch that it shows.
#pragma once

#include <cmath>
#include <cstdint>

#include "core/macros.h"
#include "core/shapes.h"

namespace tubeletx {

/// One patch in one frame, prepared for the arithmetic of every pixel.
template <typename Real>
struct Pose {
  Real center_x, center_y;
  Real inverse[4];                    ///< image axes to patch axes, row-major
  Real inverse_half[2];               ///< 1 / (width / 2), 1 / (height / 2)
  Real first_texel_x, first_texel_y;  ///< from the patch centre to the centre of its first texel
  Real last_texel_x, last_texel_y;    ///< width - 1, height - 1
  Real edge_slope;
  Real opacity;
};

template <typename Real>
TUBELETX_INLINE bool is_finite(Real value) {
  return value - value == 0;
}

/// Fills `pose`; false where nothing is to be painted: a singular or non-finite pose, an empty patch, no opacity.
template <typename Real>
TUBELETX_HOST_DEVICE inline bool make_pose(const float* center, const float* offset, const float* linear, int32_t width,
                                           int32_t height, float edge, float opacity, Pose<Real>& pose) {
  if (width <= 0 || height <= 0 || !(opacity > 0)) return false;
  const Real xx = linear[0], xy = linear[1], yx = linear[2], yy = linear[3];
  const Real determinant = xx * yy - xy * yx;
  pose.center_x = center[0];
  pose.center_y = center[1];
  if (offset != nullptr) {
    pose.center_x = pose.center_x + offset[0];
    pose.center_y = pose.center_y + offset[1];
  }
  pose.inverse[0] = yy / determinant;
  pose.inverse[1] = -xy / determinant;
  pose.inverse[2] = -yx / determinant;
  pose.inverse[3] = xx / determinant;
  if (!is_finite(determinant) || determinant == 0 || !is_finite(pose.center_x) || !is_finite(pose.center_y)) {
    return false;
  }
  for (Real entry : pose.inverse) {
    if (!is_finite(entry)) return false;
  }
  pose.inverse_half[0] = Real(2) / Real(width);
  pose.inverse_half[1] = Real(2) / Real(height);
  pose.first_texel_x = Real(width - 1) * Real(0.5);
  pose.first_texel_y = Real(height - 1) * Real(0.5);
  pose.last_texel_x = Real(width - 1);
  pose.last_texel_y = Real(height - 1);
  pose.edge_slope = edge_slope(Real(edge));
  pose.opacity = opacity < 1 ? Real(opacity) : Real(1);
  return true;
}

/// What a pixel of the frame sees of a patch: the texel left and above, the bilinear weights of it and its right, lower
/// and diagonal neighbours, and how strongly the tubelet covers the pixel (mask times opacity).
template <typename Real>
struct Sight {
  int32_t column, row;
  Real weight[4];
  Real strength;
};

/// The arithmetic of one pixel. Its operations and their order fix the bits of the result, on every processor. kHard
/// promises an infinite slope of the edge, and changes no bit.
template <Shape kShape, bool kHard = false, typename Real>
TUBELETX_INLINE Sight<Real> see_patch(const Pose<Real>& pose, int32_t pixel_column, int32_t pixel_row) {
  const Real dx = (Real(pixel_column) + Real(0.5)) - pose.center_x;
  const Real dy = (Real(pixel_row) + Real(0.5)) - pose.center_y;
  const Real patch_x = pose.inverse[0] * dx + pose.inverse[1] * dy;
  const Real patch_y = pose.inverse[2] * dx + pose.inverse[3] * dy;

  Sight<Real> sight;
  const Real half_x = patch_x * pose.inverse_half[0];
  const Real half_y = patch_y * pose.inverse_half[1];
  if constexpr (kHard) {
    sight.strength = inside_outline<kShape>(half_x, half_y) ? pose.opacity : Real(0);
  } else {
    sight.strength = edge_mask(outline_distance<kShape>(half_x, half_y), pose.edge_slope) * pose.opacity;
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

/// Weighted sum of four taps, in the one order that all kernels use.
template <typename Real>
TUBELETX_INLINE Real weigh(const Real weight0, const Real weight1, const Real weight2, const Real weight3,
                           const Real tap0, const Real tap1, const Real tap2, const Real tap3) {
  return ((weight0 * tap0 + weight1 * tap1) + weight2 * tap2) + weight3 * tap3;
}

/// The pixels of a frame that a tubelet may touch, as a range of rows and a span of columns in each. It is never too
/// small: rounding in see_patch is allowed for. So it decides what is visited, not what is painted.
class Footprint {
 public:
  template <typename Real>
  TUBELETX_HOST_DEVICE Footprint(const Pose<Real>& pose, Shape shape, int64_t height, int64_t width)
      : round_(shape == Shape::kEllipse), center_x_(pose.center_x), center_y_(pose.center_y), width_(width) {
    // The outline in half sizes: |first| < 1 and |second| < 1 (two strips), or first^2 + second^2 < 1.
    const double ax = double(pose.inverse[0]) * double(pose.inverse_half[0]);
    const double ay = double(pose.inverse[1]) * double(pose.inverse_half[0]);
    const double bx = double(pose.inverse[2]) * double(pose.inverse_half[1]);
    const double by = double(pose.inverse[3]) * double(pose.inverse_half[1]);
    const bool turned = shape == Shape::kRhombus;
    first_x_ = turned ? ax + bx : ax;
    first_y_ = turned ? ay + by : ay;
    const double second_x = turned ? ax - bx : bx;
    second_x_ = second_x;
    second_y_ = turned ? ay - by : by;
    determinant_ = first_x_ * second_y_ - first_y_ * second_x_;

    const double area = std::fabs(determinant_);
    double extent_x, extent_y;
    if (round_) {
      extent_x = std::sqrt(first_y_ * first_y_ + second_y_ * second_y_) / area;
      extent_y = std::sqrt(first_x_ * first_x_ + second_x_ * second_x_) / area;
    } else {
      extent_x = (std::fabs(first_y_) + std::fabs(second_y_)) / area;
      extent_y = (std::fabs(first_x_) + std::fabs(second_x_)) / area;
    }
    // A few roundings of the largest terms that see_patch adds, relative to the half size.
    const double terms = (std::fabs(ax) + std::fabs(bx)) * extent_x + (std::fabs(ay) + std::fabs(by)) * extent_y;
    limit_ = 1.0 + 1e-6 * (4.0 + terms);
    extent_x *= limit_;
    extent_y *= limit_;
    column_begin = clamp_index(std::ceil(center_x_ - extent_x - 0.5), width, 0);
    column_end = clamp_index(std::floor(center_x_ + extent_x - 0.5) + 1.0, width, width);
    row_begin = clamp_index(std::ceil(center_y_ - extent_y - 0.5), height, 0);
    row_end = clamp_index(std::floor(center_y_ + extent_y - 0.5) + 1.0, height, height);

    if (round_) {
      const double square = first_x_ * first_x_ + second_x_ * second_x_;
      reach_ = limit_ * limit_ / square;
      inverse_first_ = 1.0 / square;
      drift_ = -(first_x_ * first_y_ + second_x_ * second_y_) / square;
    } else {
      inverse_first_ = 1.0 / first_x_;
      inverse_second_ = 1.0 / second_x_;
    }
  }

  /// Columns [begin, end) of a row.
  TUBELETX_HOST_DEVICE void span(int64_t row, int64_t& begin, int64_t& end) const {
    const double dy = (double(row) + 0.5) - center_y_;
    double low, high;
    if (round_) {
      const double across = determinant_ * dy * inverse_first_;
      const double square = reach_ - across * across;
      const double half = std::sqrt(square < 0 ? 0.0 : square);
      low = drift_ * dy - half;
      high = square < 0 ? low - 1.0 : drift_ * dy + half;
    } else {
      strip(first_y_ * dy, inverse_first_, low, high);
      double other_low, other_high;
      strip(second_y_ * dy, inverse_second_, other_low, other_high);
      low = low > other_low ? low : other_low;
      high = high < other_high ? high : other_high;
    }
    begin = clamp_index(std::ceil(center_x_ + low - 0.5), width_, 0);
    end = clamp_index(std::floor(center_x_ + high - 0.5) + 1.0, width_, width_);
  }

  int64_t row_begin, row_end;
  int64_t column_begin, column_end;  ///< of all rows

 private:
  /// dx with |shift + dx / inverse| < limit. An inverse of infinity (a strip along the row) gives all or nothing.
  TUBELETX_HOST_DEVICE void strip(double shift, double inverse, double& low, double& high) const {
    const double one = (-limit_ - shift) * inverse;
    const double other = (limit_ - shift) * inverse;
    low = one < other ? one : other;
    high = one > other ? one : other;
  }

  TUBELETX_HOST_DEVICE static int64_t clamp_index(double value, int64_t extent, int64_t if_not_a_number) {
    if (!(value == value)) return if_not_a_number;
    if (!(value > 0)) return 0;
    return value < double(extent) ? int64_t(value) : extent;
  }

  bool round_;
  double center_x_, center_y_;
  double first_x_, first_y_, second_x_, second_y_, determinant_, limit_;
  double inverse_first_ = 0, inverse_second_ = 0, reach_ = 0, drift_ = 0;
  int64_t width_;
};

}  // namespace tubeletx
