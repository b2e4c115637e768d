// Arguments of interpolate_keyframes.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <cstdint>
#include <optional>

#include "core/trajectory.h"
#include "ops/check.h"

namespace tubeletx {

inline KeyframeShape check_interpolate_keyframes(const Tensor& frames, const Tensor& values,
                                                 const std::optional<Tensor>& easing, int64_t num_frames) {
  check_shape(frames, "frames", {kAny, kAny}, "(N, K)");
  check_dtype(frames, "frames", {ScalarType::Int, ScalarType::Long});
  const int64_t rows = frames.size(0);
  const int64_t keys = frames.size(1);
  if (keys < 1) fail("frames: got shape ", shape_text(frames), ", needs at least one keyframe a row");
  check_shape(values, "values", {rows, keys, kAny}, "(N, K, D)");
  check_dtype(values, "values", {ScalarType::Float});
  check_device(values, "values", frames, "frames");
  if (easing) {
    check_shape(*easing, "easing", {rows, keys - 1}, "(N, K - 1)");
    check_dtype(*easing, "easing", {ScalarType::Int});
    check_device(*easing, "easing", frames, "frames");
  }
  check_positive(num_frames, "num_frames");
  return {rows, keys, values.size(2), num_frames};
}

}  // namespace tubeletx
