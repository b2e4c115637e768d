#include "cuda/track_points.h"

#include "cuda/binding.h"
#include "ops/track_points.h"

namespace tubeletx::cuda {
namespace {

std::tuple<Tensor, Tensor, Tensor> track_points(const Tensor& points, const Tensor& point_frame, const Tensor& frames,
                                                const Tensor& patch_size, const Tensor& centers, const Tensor& linear,
                                                const Tensor& shape, const Tensor& edge, const Tensor& opacity,
                                                const Tensor& order, int64_t height, int64_t width) {
  const Device device(points);
  TrackInputs inputs = check_track_points(points, point_frame, frames, patch_size, centers, linear, shape, edge,
                                          opacity, order, height, width);
  TrackArguments& arguments = inputs.arguments;
  const int64_t poses = arguments.batch * arguments.frames * arguments.num_tubelets;
  const Tensor room =
      torch::stable::new_empty(points, {poses * static_cast<int64_t>(sizeof(TrackPose))}, ScalarType::Byte);
  arguments.poses = static_cast<TrackPose*>(room.mutable_data_ptr());
  launch_track_points(arguments, device.stream());
  return inputs.results;
}

TUBELETX_CUDA_OPERATORS(library) { library.impl("track_points", TORCH_BOX(&track_points)); }

}  // namespace
}  // namespace tubeletx::cuda
