// Turning keyframes and smoothed paths into one value a frame.
#pragma once

#include <cstdint>

#include "core/macros.h"

namespace tubeletx {

enum Easing : int32_t {
  kLinear = 0,        // constant speed
  kAccelerating = 1,  // constant acceleration from rest
  kDecelerating = 2,  // constant deceleration to rest
  kNumEasings = 3,
};

/// Share of the way travelled after share `u` of the time.
TUBELETX_HOST_DEVICE inline float eased(int32_t easing, float u) {
  if (easing == kAccelerating) return u * u;
  if (easing == kDecelerating) return u * (2.0f - u);
  return u;
}

/// Where a frame lies among the keyframes: `weight` of the way from key `key` to the next one.
struct KeyPosition {
  int64_t key;
  float weight;
};

/// Frames before the first key or after the last are clamped; of coinciding keys the later one wins. `key_hint` is a
/// key known not to lie after the frame's own (0 where nothing is known): walking frames in order, the last answer.
template <typename Frame>
TUBELETX_HOST_DEVICE inline KeyPosition locate_frame(const Frame* frames, const int32_t* easing, int64_t num_keys,
                                                     int64_t frame, int64_t key_hint) {
  int64_t key = key_hint;
  while (key + 1 < num_keys && static_cast<int64_t>(frames[key + 1]) <= frame) ++key;
  if (key + 1 == num_keys || static_cast<int64_t>(frames[key]) >= frame) return {key, 0.0f};
  const double since = static_cast<double>(frame) - static_cast<double>(frames[key]);
  const double between = static_cast<double>(frames[key + 1]) - static_cast<double>(frames[key]);
  return {key, eased(easing == nullptr ? int32_t{kLinear} : easing[key], static_cast<float>(since / between))};
}

/// The value at `weight` of the way; exactly `from` at weight 0, also where the values are not finite.
TUBELETX_HOST_DEVICE inline float travel(float from, float to, float weight) {
  return weight == 0.0f ? from : from + weight * (to - from);
}

/// Which of `num_points` points stands for frame `frame` of `num_frames`: the nearest, the later of two as near.
TUBELETX_HOST_DEVICE inline int64_t downsample_index(int64_t frame, int64_t num_frames, int64_t num_points) {
  if (num_frames == 1) return 0;
  return (2 * frame * (num_points - 1) + num_frames - 1) / (2 * (num_frames - 1));
}

/// Smallest value and range of one axis of a path.
struct Span {
  double low;
  double range;
};

TUBELETX_HOST_DEVICE inline Span span_of(const double* values, int64_t count) {
  double low = values[0];
  double high = values[0];
  for (int64_t i = 1; i < count; ++i) {
    low = values[i] < low ? values[i] : low;
    high = values[i] > high ? values[i] : high;
  }
  return {low, high - low};
}

/// Min-max normalisation to [0, 1], then to [offset, offset + extent]; an axis without range becomes `offset`.
TUBELETX_HOST_DEVICE inline float rescaled(double value, const Span& span, float extent, float offset) {
  const double share = span.range > 0.0 ? (value - span.low) / span.range : 0.0;
  return static_cast<float>(share * extent + offset);
}

/// Extents of interpolate_keyframes.
struct KeyframeShape {
  int64_t rows;
  int64_t keys;
  int64_t axes;
  int64_t num_frames;
};

/// Extents of smooth_path.
struct PathShape {
  int64_t rows;
  int64_t points;
  int64_t axes;
  int64_t num_frames;
};

}  // namespace tubeletx
