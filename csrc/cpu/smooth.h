// Gaussian smoothing of a whole path in vector registers.
#pragma once

#include <cstdint>
#include <vector>

#include "core/gaussian.h"
#include "core/trajectory.h"

namespace tubeletx::cpu {

/// Eight doubles. Written out, since the compiler left to itself vectorises along the taps, shuffling.
typedef double Lanes __attribute__((vector_size(64)));
inline constexpr int64_t kLanes = 8;

/// The same at any address: a member of a packed struct, since clang forgets what alignment a type's name lowers.
struct __attribute__((packed, may_alias)) LanesAnywhere {
  Lanes lanes;
};

inline const LanesAnywhere& at(const double* values) { return *reinterpret_cast<const LanesAnywhere*>(values); }
inline LanesAnywhere& at(double* values) { return *reinterpret_cast<LanesAnywhere*>(values); }

/// kVectors * kLanes points from `begin` on: independent sums, so that one can be added to while others are under way.
template <int kVectors>
inline void smooth_block(const double* padded, const double* taps, int64_t radius, int64_t begin, double* smoothed) {
  const double* middle = padded + radius + begin;
  Lanes sum[kVectors];
  for (int v = 0; v < kVectors; ++v) sum[v] = taps[0] * at(middle + v * kLanes).lanes;
  for (int64_t k = 1; k <= radius; ++k) {
    for (int v = 0; v < kVectors; ++v) {
      const double* here = middle + v * kLanes;
      sum[v] += taps[k] * (at(here - k).lanes + at(here + k).lanes);
    }
  }
  for (int v = 0; v < kVectors; ++v) at(smoothed + begin + v * kLanes).lanes = sum[v];
}

/// Every smoothed_point, with the same bits: each lane adds in the same order. Inline into a multiversioned function.
inline void smooth(const double* padded, const double* taps, int64_t radius, int64_t count, double* smoothed) {
  constexpr int kVectors = 3;
  int64_t begin = 0;
  for (; begin + kVectors * kLanes <= count; begin += kVectors * kLanes) {
    smooth_block<kVectors>(padded, taps, radius, begin, smoothed);
  }
  for (; begin + kLanes <= count; begin += kLanes) smooth_block<1>(padded, taps, radius, begin, smoothed);
  for (; begin < count; ++begin) smoothed[begin] = smoothed_point(padded, taps, radius, begin);
}

/// span_of, eight values at a time.
inline Span wide_span_of(const double* values, int64_t count) {
  if (count < kLanes) return span_of(values, count);
  Lanes low = at(values + count - kLanes).lanes;
  Lanes high = low;
  for (int64_t i = 0; i + kLanes <= count; i += kLanes) {
    const LanesAnywhere& next = at(values + i);  // no copy: GCC would hold it in memory, and take as long again
    low = next.lanes < low ? next.lanes : low;
    high = next.lanes > high ? next.lanes : high;
  }
  double ends[2 * kLanes];
  at(ends).lanes = low;
  at(ends + kLanes).lanes = high;
  return span_of(ends, 2 * kLanes);
}

/// What every path of a call shares: the weights, and which point stands for each frame.
struct PathPlan {
  PathPlan(double sigma, int64_t num_points, int64_t num_frames)
      : radius(gaussian_radius(sigma)), taps(radius + 1), point_of_frame(num_frames) {
    gaussian_taps(sigma, radius, taps.data());
    for (int64_t frame = 0; frame < num_frames; ++frame) {
      point_of_frame[frame] = downsample_index(frame, num_frames, num_points);
    }
  }

  int64_t radius;
  std::vector<double> taps;
  std::vector<int64_t> point_of_frame;
};

}  // namespace tubeletx::cpu
