// Points through a clip of tubelets: the launcher.
#pragma once

#include "core/point_tracks.h"
#include "cuda/stream.h"

namespace tubeletx::cuda {

void launch_track_points(const TrackArguments& arguments, Stream stream);

}  // namespace tubeletx::cuda
