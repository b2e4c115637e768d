// Where the surface that a place of a clip shows lies in other frames, and how much of it shows there. In double
// precision, so that a place of any pixel is exact enough; a pure function, the same on host and device.
#pragma once

#include <cstdint>

#include "core/macros.h"
#include "core/pose.h"
#include "core/shapes.h"
#include "core/tubelet_geometry.h"

namespace tubeletx {

/// One tubelet in one frame.
struct TrackPose {
  double center[2];
  double linear[4];   ///< patch axes to image axes, row-major
  double inverse[4];  ///< image axes to patch axes
  double half[2];     ///< half width and height of the patch
  double inverse_half[2];
  double slope;    ///< of the edge
  double opacity;  ///< 0 where it is not painted
  double reach;    ///< square of a distance from the centre, along which the outline certainly ends
  int32_t shape;
  int32_t tubelet;
};

struct TrackArguments : TubeletGeometry {
  int64_t batch, num_tubelets, frames, num_points, num_targets;
  double height, width;

  const int32_t* patch_size;  ///< (B, M, 2)

  const float* points;         ///< (B, N, 2), by strides, as the next two
  const int32_t* point_frame;  ///< (B, N)
  const int32_t* target;       ///< (B, N, S)
  int64_t points_stride[3], point_frame_stride[2], target_stride[3];

  TrackPose* poses;   ///< (B, T, M), the last axis in paint order
  float* places;      ///< (B, N, S, 2)
  float* visibility;  ///< (B, N, S)
  int32_t* owner;     ///< (B, N)
};

/// How many tubelets of a sample are painted before tubelet m: equal ranks in the order of their numbers.
TUBELETX_HOST_DEVICE inline int64_t place_in_order(const int32_t* order, int64_t num_tubelets, int64_t m) {
  int64_t place = 0;
  for (int64_t other = 0; other < num_tubelets; ++other) {
    if (order[other] < order[m] || (order[other] == order[m] && other < m)) ++place;
  }
  return place;
}

/// The pose of tubelet m of sample b in frame t.
TUBELETX_HOST_DEVICE inline TrackPose track_pose(const TrackArguments& arguments, int64_t b, int64_t m, int64_t t) {
  const int64_t tubelet = b * arguments.num_tubelets + m;
  const int64_t frame = tubelet * arguments.frames + t;
  const int32_t* size = arguments.patch_size + 2 * tubelet;
  const float opacity = arguments.opacity[frame];
  TrackPose pose;
  Placement placement;
  const bool painted = place_patch(arguments.centers + 2 * frame, nullptr, arguments.linear + 4 * frame, size[0],
                                   size[1], opacity, placement);
  pose.opacity = painted ? (opacity < 1 ? opacity : 1.0) : 0.0;
  for (int i = 0; i < 4; ++i) {
    pose.linear[i] = arguments.linear[4 * frame + i];
    pose.inverse[i] = painted ? placement.inverse[i] : 0.0;
  }
  double reach = 0;
  for (int axis = 0; axis < 2; ++axis) {
    pose.center[axis] = arguments.centers[2 * frame + axis];
    pose.half[axis] = 0.5 * size[axis];
    pose.inverse_half[axis] = 1.0 / pose.half[axis];
    const double along_x = pose.linear[axis], along_y = pose.linear[2 + axis];
    reach += (along_x * along_x + along_y * along_y) * pose.half[axis] * pose.half[axis];
  }
  pose.reach = 2.001 * reach;  // a corner is as far as both spokes together
  pose.slope = edge_slope<double>(arguments.edge[tubelet]);
  pose.shape = arguments.shape[tubelet];
  pose.tubelet = static_cast<int32_t>(m);
  return pose;
}

template <Shape kShape>
TUBELETX_INLINE double track_mask(const TrackPose& pose, double x, double y) {
  if (!is_finite(pose.slope)) {
    return inside_outline<kShape>(x, y, pose.half[0], pose.half[1], pose.inverse_half) ? 1.0 : 0.0;
  }
  return edge_mask(outline_distance<kShape>(x * pose.inverse_half[0], y * pose.inverse_half[1]), pose.slope);
}

/// How strongly a tubelet covers what lies beneath at a place in its patch: mask times opacity.
TUBELETX_INLINE double strength_in_patch(const TrackPose& pose, const double (&place)[2]) {
  switch (static_cast<Shape>(pose.shape)) {
    case Shape::kRectangle:
      return pose.opacity * track_mask<Shape::kRectangle>(pose, place[0], place[1]);
    case Shape::kEllipse:
      return pose.opacity * track_mask<Shape::kEllipse>(pose, place[0], place[1]);
    default:
      return pose.opacity * track_mask<Shape::kRhombus>(pose, place[0], place[1]);
  }
}

/// The same at a place of the frame, and which place of the patch that is.
TUBELETX_INLINE double strength_in_frame(const TrackPose& pose, double x, double y, double (&place)[2]) {
  const double dx = x - pose.center[0], dy = y - pose.center[1];
  if (!(pose.opacity > 0) || !(dx * dx + dy * dy <= pose.reach)) return 0.0;
  place[0] = pose.inverse[0] * dx + pose.inverse[1] * dy;
  place[1] = pose.inverse[2] * dx + pose.inverse[3] * dy;
  return strength_in_patch(pose, place);
}

/// What a place shows: a place in the patch of the tubelet that is `layer` in paint order, or of the background (-1).
struct Surface {
  int64_t layer;
  double place[2];
};

/// The surface with the largest share of the colour at (x, y); of equal shares the upper one.
TUBELETX_INLINE Surface surface_at(const TrackPose* poses, int64_t num_tubelets, double x, double y) {
  Surface surface = {-1, {x, y}};
  double most = 0.0, left = 1.0;
  for (int64_t layer = num_tubelets - 1; layer >= 0; --layer) {
    double place[2];
    const double strength = strength_in_frame(poses[layer], x, y, place);
    const double share = strength * left;
    if (share > most) {
      most = share;
      surface = {layer, {place[0], place[1]}};
    }
    left = left * (1.0 - strength);
  }
  if (left > most) surface = {-1, {x, y}};
  return surface;
}

/// Where the surface lies in the frame of these poses, and its share of the colour there.
TUBELETX_INLINE double find_surface(const TrackArguments& arguments, const TrackPose* poses, const Surface& surface,
                                    double& x, double& y) {
  double share = 1.0;
  if (surface.layer >= 0) {
    const TrackPose& pose = poses[surface.layer];
    const double to_x = pose.center[0] + (pose.linear[0] * surface.place[0] + pose.linear[1] * surface.place[1]);
    const double to_y = pose.center[1] + (pose.linear[2] * surface.place[0] + pose.linear[3] * surface.place[1]);
    if (!is_finite(to_x) || !is_finite(to_y)) return 0.0;
    x = to_x;
    y = to_y;
    share = strength_in_patch(pose, surface.place);
  }
  if (!(x >= 0) || !(x < arguments.width) || !(y >= 0) || !(y < arguments.height)) return 0.0;
  for (int64_t above = arguments.num_tubelets - 1; above > surface.layer; --above) {
    double unused[2];
    share = share * (1.0 - strength_in_frame(poses[above], x, y, unused));
  }
  return share;
}

/// All that is asked of point n of sample b.
TUBELETX_INLINE void track_point(const TrackArguments& arguments, int64_t b, int64_t n) {
  const TrackPose* poses = arguments.poses + b * arguments.frames * arguments.num_tubelets;
  const float* point = arguments.points + b * arguments.points_stride[0] + n * arguments.points_stride[1];
  const double x = point[0], y = point[arguments.points_stride[2]];
  const int64_t frame =
      arguments.point_frame[b * arguments.point_frame_stride[0] + n * arguments.point_frame_stride[1]];
  Surface surface = {-1, {x, y}};
  if (frame >= 0 && frame < arguments.frames) {
    surface = surface_at(poses + frame * arguments.num_tubelets, arguments.num_tubelets, x, y);
  }
  const int64_t index = b * arguments.num_points + n;
  arguments.owner[index] = surface.layer < 0 ? -1 : poses[frame * arguments.num_tubelets + surface.layer].tubelet;
  const int32_t* target = arguments.target + b * arguments.target_stride[0] + n * arguments.target_stride[1];
  for (int64_t s = 0; s < arguments.num_targets; ++s) {
    const int64_t to = target[s * arguments.target_stride[2]];
    double at_x = x, at_y = y, share = 0.0;
    if (to >= 0 && to < arguments.frames) {
      share = find_surface(arguments, poses + to * arguments.num_tubelets, surface, at_x, at_y);
    }
    const int64_t answer = index * arguments.num_targets + s;
    arguments.places[2 * answer] = static_cast<float>(at_x);
    arguments.places[2 * answer + 1] = static_cast<float>(at_y);
    arguments.visibility[answer] = static_cast<float>(share);
  }
}

}  // namespace tubeletx
