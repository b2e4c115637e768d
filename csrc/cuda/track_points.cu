// Points through a clip of tubelets: a thread for each pose, then one for each point.
#include "cuda/track_points.h"

#include <algorithm>

#include "cuda/device.h"

namespace tubeletx::cuda {
namespace {

constexpr int kTrackThreads = 128;

TUBELETX_KERNEL(kTrackThreads, 1)
track_poses(TUBELETX_KERNEL_ARGUMENT TrackArguments arguments) {
  const int64_t tubelets = arguments.num_tubelets, frames = arguments.frames;
  const int64_t step = device::blocks_of_grid() * kTrackThreads;
  for (int64_t i = device::block_x() * kTrackThreads + device::thread(); i < arguments.batch * frames * tubelets;
       i += step) {
    const int64_t b = i / (frames * tubelets), t = i / tubelets % frames, m = i % tubelets;
    const int64_t layer = place_in_order(arguments.order + b * tubelets, tubelets, m);
    arguments.poses[(b * frames + t) * tubelets + layer] = track_pose(arguments, b, m, t);
  }
}

TUBELETX_KERNEL(kTrackThreads, 1)
track_points(TUBELETX_KERNEL_ARGUMENT TrackArguments arguments) {
  const int64_t step = device::blocks_of_grid() * kTrackThreads;
  for (int64_t i = device::block_x() * kTrackThreads + device::thread(); i < arguments.batch * arguments.num_points;
       i += step) {
    track_point(arguments, i / arguments.num_points, i % arguments.num_points);
  }
}

int64_t blocks_for(int64_t count) {
  constexpr int64_t kMostBlocks = 1 << 16;
  return std::min((count + kTrackThreads - 1) / kTrackThreads, kMostBlocks);
}

}  // namespace

void launch_track_points(const TrackArguments& arguments, Stream stream) {
  const int64_t points = arguments.batch * arguments.num_points;
  const int64_t poses = arguments.batch * arguments.num_tubelets * arguments.frames;
  if (points == 0) return;
  if (poses > 0) {
    device::launch("track_points", track_poses, blocks_for(poses), 1, kTrackThreads, 0, arguments, stream);
  }
  device::launch("track_points", track_points, blocks_for(points), 1, kTrackThreads, 0, arguments, stream);
}

}  // namespace tubeletx::cuda
