// Smoothing of paths: the launcher.
#pragma once

#include <cstdint>

#include "core/trajectory.h"
#include "cuda/stream.h"

namespace tubeletx::cuda {

/// points (N, P, D), offset (N, D) or null and output (N, T, D) contiguous; extent null for no rescaling.
struct SmoothPathArguments {
  PathShape shape;
  double sigma;
  const float* points;
  const float* extent;
  int64_t extent_row_stride, extent_axis_stride;
  const float* offset;
  float* output;
};

void launch_smooth_path(const SmoothPathArguments& arguments, Stream stream);

}  // namespace tubeletx::cuda
