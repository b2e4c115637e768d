// Arguments of smooth_path.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <cstdint>
#include <optional>

#include "core/gaussian.h"
#include "core/trajectory.h"
#include "ops/check.h"

namespace tubeletx {

inline PathShape check_smooth_path(const Tensor& points, double sigma, const std::optional<Tensor>& extent,
                                   const std::optional<Tensor>& offset, int64_t num_frames) {
  check_shape(points, "points", {kAny, kAny, kAny}, "(N, P, D)");
  check_dtype(points, "points", {ScalarType::Float});
  const int64_t rows = points.size(0);
  const int64_t axes = points.size(2);
  if (points.size(1) < 1) fail("points: got shape ", shape_text(points), ", needs at least one point a row");
  if (!(sigma >= 0.0 && sigma <= kMaxSigma)) {
    fail("sigma: got ", sigma, ", needs a number of points in [0, ", kMaxSigma, "]");
  }
  if (extent) {
    if (extent->dim() == 1) {
      check_shape(*extent, "extent", {rows}, "(N,) or (N, D)");
    } else {
      check_shape(*extent, "extent", {rows, axes}, "(N,) or (N, D)");
    }
    check_dtype(*extent, "extent", {ScalarType::Float});
    check_device(*extent, "extent", points, "points");
  }
  if (offset) {
    check_shape(*offset, "offset", {rows, axes}, "(N, D)");
    check_dtype(*offset, "offset", {ScalarType::Float});
    check_device(*offset, "offset", points, "points");
  }
  check_positive(num_frames, "num_frames");
  return {rows, points.size(1), axes, num_frames};
}

}  // namespace tubeletx
