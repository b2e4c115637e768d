// Arguments and results of track_points, checked once for the CPU and the GPU.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <cstdint>
#include <tuple>
#include <vector>

#include "core/point_tracks.h"
#include "ops/check.h"
#include "ops/tubelet_geometry.h"

namespace tubeletx {

/// Checked arguments without room for poses, the results, and copies that pointers point into.
struct TrackInputs {
  TrackArguments arguments;
  std::tuple<Tensor, Tensor, Tensor> results;
  std::vector<Tensor> copies;
};

inline TrackInputs check_track_points(const Tensor& points, const Tensor& point_frame, const Tensor& frames,
                                      const Tensor& patch_size, const Tensor& centers, const Tensor& linear,
                                      const Tensor& shape, const Tensor& edge, const Tensor& opacity,
                                      const Tensor& order, int64_t height, int64_t width) {
  constexpr ScalarType kInt = ScalarType::Int;
  constexpr ScalarType kFloat = ScalarType::Float;
  TrackInputs inputs;
  TrackArguments& arguments = inputs.arguments;
  check_shape(points, "points", {kAny, kAny, 2}, "(B, N, 2)");
  check_dtype(points, "points", {kFloat});
  const int64_t batch = arguments.batch = points.size(0);
  const int64_t count = arguments.num_points = points.size(1);
  check_shape(centers, "centers", {batch, kAny, kAny, 2}, "(B, M, T, 2)");
  const int64_t tubelets = arguments.num_tubelets = centers.size(1);
  const int64_t clip = arguments.frames = centers.size(2);

  const auto strided = [&](const Tensor& tensor, const char* name, ScalarType dtype,
                           std::initializer_list<int64_t> sizes, const char* meaning, int64_t* strides) {
    check_shape(tensor, name, sizes, meaning);
    check_dtype(tensor, name, {dtype});
    check_device(tensor, name, points, "points");
    for (int64_t axis = 0; axis < tensor.dim(); ++axis) strides[axis] = tensor.stride(axis);
    return tensor.const_data_ptr();
  };
  const auto floats = [](const void* data) { return static_cast<const float*>(data); };
  const auto integers = [](const void* data) { return static_cast<const int32_t*>(data); };
  arguments.points = floats(strided(points, "points", kFloat, {batch, count, 2}, "(B, N, 2)", arguments.points_stride));
  arguments.point_frame =
      integers(strided(point_frame, "point_frame", kInt, {batch, count}, "(B, N)", arguments.point_frame_stride));
  arguments.target =
      integers(strided(frames, "frames", kInt, {batch, count, kAny}, "(B, N, S)", arguments.target_stride));
  arguments.num_targets = frames.size(2);
  const DenseTensors dense(points, "points", inputs.copies);
  arguments.patch_size = dense.take<int32_t>(patch_size, "patch_size", {batch, tubelets, 2}, "(B, M, 2)");
  static_cast<TubeletGeometry&>(arguments) =
      check_geometry(dense, batch, tubelets, clip, centers, linear, shape, edge, opacity, order);
  check_positive(height, "height");
  check_positive(width, "width");
  arguments.height = static_cast<double>(height);
  arguments.width = static_cast<double>(width);

  const int64_t targets = arguments.num_targets;
  const auto make = [&](std::initializer_list<int64_t> sizes, ScalarType dtype) {
    return torch::stable::new_empty(points, sizes, dtype);
  };
  inputs.results = {make({batch, count, targets, 2}, kFloat), make({batch, count, targets}, kFloat),
                    make({batch, count}, kInt)};
  arguments.places = static_cast<float*>(std::get<0>(inputs.results).mutable_data_ptr());
  arguments.visibility = static_cast<float*>(std::get<1>(inputs.results).mutable_data_ptr());
  arguments.owner = static_cast<int32_t*>(std::get<2>(inputs.results).mutable_data_ptr());
  arguments.poses = nullptr;
  return inputs;
}

}  // namespace tubeletx
