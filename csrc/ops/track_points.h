// Arguments and results of track_points, checked once for the CPU and the GPU.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <array>
#include <cstdint>
#include <tuple>

#include "core/point_tracks.h"
#include "ops/check.h"

namespace tubeletx {

/// Checked arguments without room for poses, the results, and the contiguous tensors that pointers point into.
struct TrackInputs {
  TrackArguments arguments;
  std::tuple<Tensor, Tensor, Tensor> results;
  std::array<Tensor, 7> kept;
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
  const auto dense = [&](const Tensor& tensor, const char* name, ScalarType dtype, std::initializer_list<int64_t> sizes,
                         const char* meaning, Tensor& kept) {
    check_shape(tensor, name, sizes, meaning);
    check_dtype(tensor, name, {dtype});
    check_device(tensor, name, points, "points");
    kept = tensor.is_contiguous() ? tensor : torch::stable::contiguous(tensor);
    return kept.const_data_ptr();
  };
  const auto floats = [](const void* data) { return static_cast<const float*>(data); };
  const auto integers = [](const void* data) { return static_cast<const int32_t*>(data); };
  auto& kept = inputs.kept;
  arguments.points = floats(strided(points, "points", kFloat, {batch, count, 2}, "(B, N, 2)", arguments.points_stride));
  arguments.point_frame =
      integers(strided(point_frame, "point_frame", kInt, {batch, count}, "(B, N)", arguments.point_frame_stride));
  arguments.target =
      integers(strided(frames, "frames", kInt, {batch, count, kAny}, "(B, N, S)", arguments.target_stride));
  arguments.num_targets = frames.size(2);
  arguments.patch_size = integers(dense(patch_size, "patch_size", kInt, {batch, tubelets, 2}, "(B, M, 2)", kept[0]));
  arguments.centers = floats(dense(centers, "centers", kFloat, {batch, tubelets, clip, 2}, "(B, M, T, 2)", kept[1]));
  arguments.linear = floats(dense(linear, "linear", kFloat, {batch, tubelets, clip, 2, 2}, "(B, M, T, 2, 2)", kept[2]));
  arguments.shape = integers(dense(shape, "shape", kInt, {batch, tubelets}, "(B, M)", kept[3]));
  arguments.edge = floats(dense(edge, "edge", kFloat, {batch, tubelets}, "(B, M)", kept[4]));
  arguments.opacity = floats(dense(opacity, "opacity", kFloat, {batch, tubelets, clip}, "(B, M, T)", kept[5]));
  arguments.order = integers(dense(order, "order", kInt, {batch, tubelets}, "(B, M)", kept[6]));
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
