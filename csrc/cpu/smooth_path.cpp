#include "ops/smooth_path.h"

#include <torch/csrc/stable/library.h>

#include <vector>

#include "cpu/multiversion.h"
#include "cpu/parallel.h"
#include "cpu/smooth.h"

namespace tubeletx::cpu {

namespace {

constexpr int64_t kRowsPerTask = 16;

struct SmoothPath {
  PathShape shape;
  const PathPlan& plan;
  const float* points;
  const float* extent;  // null: no rescaling
  int64_t extent_row_stride;
  int64_t extent_axis_stride;
  const float* offset;  // null: none
  float* output;
};

/// One axis of one row; `padded` has room for points + 2 * radius, `smoothed` for points.
TUBELETX_MULTIVERSION void smooth_axis(const SmoothPath& job, int64_t row, int64_t axis, double* padded,
                                       double* smoothed) {
  const auto [rows, points, axes, num_frames] = job.shape;
  const int64_t radius = job.plan.radius;
  const int64_t* point_of_frame = job.plan.point_of_frame.data();
  const float* source = job.points + row * points * axes + axis;
  for (int64_t i = 0; i < points; ++i) padded[radius + i] = source[i * axes];
  reflect_into_padding(padded, points, radius);
  smooth(padded, job.plan.taps.data(), radius, points, smoothed);

  float* output = job.output + row * num_frames * axes + axis;
  const float offset = job.offset ? job.offset[row * axes + axis] : 0.0f;
  if (job.extent == nullptr) {
    for (int64_t time = 0; time < num_frames; ++time) {
      output[time * axes] = static_cast<float>(smoothed[point_of_frame[time]] + offset);
    }
    return;
  }
  const Span span = wide_span_of(smoothed, points);
  const float extent = job.extent[row * job.extent_row_stride + axis * job.extent_axis_stride];
  for (int64_t time = 0; time < num_frames; ++time) {
    output[time * axes] = rescaled(smoothed[point_of_frame[time]], span, extent, offset);
  }
}

Tensor smooth_path(const Tensor& points, double sigma, const std::optional<Tensor>& extent,
                   const std::optional<Tensor>& offset, int64_t num_frames) {
  const PathShape shape = check_smooth_path(points, sigma, extent, offset, num_frames);
  const Tensor dense_points = torch::stable::contiguous(points);
  const Tensor dense_offset = offset ? torch::stable::contiguous(*offset) : Tensor();
  const Tensor output = torch::stable::new_empty(points, {shape.rows, num_frames, shape.axes});
  const PathPlan plan(sigma, shape.points, num_frames);
  const SmoothPath job = {shape,
                          plan,
                          static_cast<const float*>(dense_points.const_data_ptr()),
                          extent ? static_cast<const float*>(extent->const_data_ptr()) : nullptr,
                          extent ? extent->stride(0) : 0,
                          extent && extent->dim() == 2 ? extent->stride(1) : 0,
                          offset ? static_cast<const float*>(dense_offset.const_data_ptr()) : nullptr,
                          static_cast<float*>(output.mutable_data_ptr())};
  parallel_for(shape.rows, kRowsPerTask, [&](int64_t begin, int64_t end) {
    std::vector<double> padded(shape.points + 2 * plan.radius);
    std::vector<double> smoothed(shape.points);
    for (int64_t row = begin; row < end; ++row) {
      for (int64_t axis = 0; axis < shape.axes; ++axis) smooth_axis(job, row, axis, padded.data(), smoothed.data());
    }
  });
  return output;
}

STABLE_TORCH_LIBRARY_IMPL(tubeletx, CPU, library) { library.impl("smooth_path", TORCH_BOX(&smooth_path)); }

}  // namespace
}  // namespace tubeletx::cpu
