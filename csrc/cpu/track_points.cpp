// Points through a clip of tubelets: the poses of all frames first, then point by point.
#include "ops/track_points.h"

#include <torch/csrc/stable/library.h>

#include <vector>

#include "cpu/multiversion.h"
#include "cpu/parallel.h"

namespace tubeletx::cpu {
namespace {

using Tracks = std::tuple<Tensor, Tensor, Tensor>;

void check_track_values(const TrackArguments& arguments) {
  const int64_t tubelets = arguments.batch * arguments.num_tubelets;
  for (int64_t index = 0; index < tubelets; ++index) {
    if (arguments.shape[index] < 0 || arguments.shape[index] > 2) {
      fail("shape: got ", arguments.shape[index], ", needs 0 (rectangle), 1 (ellipse) or 2 (rhombus)");
    }
  }
  for (int64_t b = 0; b < arguments.batch; ++b) {
    if (b > 0 && arguments.point_frame_stride[0] == 0) break;  // the same ones for all samples
    const int32_t* frame = arguments.point_frame + b * arguments.point_frame_stride[0];
    for (int64_t n = 0; n < arguments.num_points; ++n, frame += arguments.point_frame_stride[1]) {
      if (*frame < 0 || *frame >= arguments.frames) {
        fail("point_frame: got ", *frame, ", needs a frame of the clip, 0 to ", arguments.frames - 1);
      }
    }
  }
}

TUBELETX_MULTIVERSION void fill_poses(const TrackArguments& arguments, int64_t begin, int64_t end) {
  for (int64_t tubelet = begin; tubelet < end; ++tubelet) {
    const int64_t b = tubelet / arguments.num_tubelets, m = tubelet % arguments.num_tubelets;
    const int64_t layer = place_in_order(arguments.order + b * arguments.num_tubelets, arguments.num_tubelets, m);
    for (int64_t t = 0; t < arguments.frames; ++t) {
      arguments.poses[(b * arguments.frames + t) * arguments.num_tubelets + layer] = track_pose(arguments, b, m, t);
    }
  }
}

TUBELETX_MULTIVERSION void track(const TrackArguments& arguments, int64_t begin, int64_t end) {
  int64_t b = begin / arguments.num_points, n = begin % arguments.num_points;
  for (int64_t index = begin; index < end; ++index) {
    track_point(arguments, b, n);
    if (++n == arguments.num_points) ++b, n = 0;
  }
}

Tracks track_points(const Tensor& points, const Tensor& point_frame, const Tensor& frames, const Tensor& patch_size,
                    const Tensor& centers, const Tensor& linear, const Tensor& shape, const Tensor& edge,
                    const Tensor& opacity, const Tensor& order, int64_t height, int64_t width) {
  TrackInputs inputs = check_track_points(points, point_frame, frames, patch_size, centers, linear, shape, edge,
                                          opacity, order, height, width);
  TrackArguments& arguments = inputs.arguments;
  check_track_values(arguments);
  const int64_t tubelets = arguments.batch * arguments.num_tubelets;
  std::vector<TrackPose> poses(static_cast<size_t>(tubelets * arguments.frames));
  arguments.poses = poses.data();
  parallel_for(tubelets, 64, [&](int64_t begin, int64_t end) { fill_poses(arguments, begin, end); });
  constexpr int64_t kGrain = 512;
  parallel_for(arguments.batch * arguments.num_points, kGrain,
               [&](int64_t begin, int64_t end) { track(arguments, begin, end); });
  return inputs.results;
}

STABLE_TORCH_LIBRARY_IMPL(tubeletx, CPU, library) { library.impl("track_points", TORCH_BOX(&track_points)); }

}  // namespace
}  // namespace tubeletx::cpu
