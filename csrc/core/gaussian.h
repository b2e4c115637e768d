// Gaussian smoothing along a path, with the conventions of SciPy's gaussian_filter1d(mode="reflect", truncate=4).
#pragma once

#include <cstdint>

#include "core/exponential.h"
#include "core/macros.h"

namespace tubeletx {

inline constexpr double kGaussianTruncate = 4.0;
inline constexpr double kMaxSigma = 1 << 16;

inline int64_t gaussian_radius(double sigma) { return static_cast<int64_t>(kGaussianTruncate * sigma + 0.5); }

/// The weight of a point k points away, before they are scaled to sum to 1.
TUBELETX_HOST_DEVICE inline double gaussian_weight(double sigma, int64_t k) {
  if (k == 0) return 1.0;
  const double distance = static_cast<double>(k) / sigma;
  return exponential(-0.5 * distance * distance);
}

/// Sum of the weights of the centre and both sides.
inline double gaussian_total(double sigma, int64_t radius) {
  double total = 1.0;
  for (int64_t k = 1; k <= radius; ++k) total += 2.0 * gaussian_weight(sigma, k);
  return total;
}

/// Writes the radius + 1 weights of the centre and of one side; centre + 2 * side sums to 1.
inline void gaussian_taps(double sigma, int64_t radius, double* taps) {
  double total = 0.0;
  for (int64_t k = 0; k <= radius; ++k) {
    taps[k] = gaussian_weight(sigma, k);
    total += k == 0 ? taps[k] : 2.0 * taps[k];
  }
  for (int64_t k = 0; k <= radius; ++k) taps[k] /= total;
}

/// Mirrors padded[radius .. radius + count) about its outer edges into `radius` places on either side. The two sides
/// grow together, so that a radius beyond `count` finds the earlier mirror images in place and mirrors those in turn.
TUBELETX_HOST_DEVICE inline void reflect_into_padding(double* padded, int64_t count, int64_t radius) {
  double* first = padded + radius;
  for (int64_t k = 1; k <= radius; ++k) {
    first[-k] = first[k - 1];
    first[count - 1 + k] = first[count - k];
  }
}

/// Walks over the points of a path that is mirrored about its ends for ever: over what reflect_into_padding writes
/// down.
template <typename Index>
struct MirroredWalk {
  Index place;  ///< of the point, among `count`
  Index step;   ///< 1 or -1

  TUBELETX_INLINE void go_on(Index count) {
    place += step;
    if (place < 0) {
      place = 0;
      step = 1;
    } else if (place == count) {
      place = count - 1;
      step = -1;
    }
  }
};

/// smoothed_point without the padding: `point(i)` is the i-th of `count` points and `tap(k)` the k-th weight.
template <typename Point, typename Tap, typename Index>
TUBELETX_HOST_DEVICE inline double smoothed_point(const Point& point, const Tap& tap, Index radius, Index count,
                                                  Index index) {
  double sum = tap(0) * point(index);
  MirroredWalk<Index> before = {index, -1}, after = {index, 1};
  for (Index k = 1; k <= radius; ++k) {
    before.go_on(count);
    after.go_on(count);
    sum += tap(k) * (point(before.place) + point(after.place));
  }
  return sum;
}

/// Point `index` of the smoothed path. The sum is kept in double: strong smoothing leaves a path far flatter than its
/// points, and the min-max rescaling that follows would magnify the rounding of a float32 sum.
TUBELETX_HOST_DEVICE inline double smoothed_point(const double* padded, const double* taps, int64_t radius,
                                                  int64_t index) {
  const double* middle = padded + radius + index;
  double sum = taps[0] * middle[0];
  for (int64_t k = 1; k <= radius; ++k) sum += taps[k] * (middle[-k] + middle[k]);
  return sum;
}

}  // namespace tubeletx
