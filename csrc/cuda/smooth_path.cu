// A block smooths one axis of one path: first every point, for smallest and largest, where the path is rescaled; then
// the points that stand for the frames. Smoothing those again is cheaper than a place to keep all of them.
#include "cuda/smooth_path.h"

#include "core/gaussian.h"
#include "core/trajectory.h"
#include "cuda/device.h"

namespace tubeletx::cuda {
namespace {

struct SmoothPath {
  static constexpr int kThreads = 128;
  static constexpr int64_t kMaxSharedTaps = 4096;  // wider weights are made anew for every point

  SmoothPathArguments arguments;
  int64_t radius;
  double total;

  explicit SmoothPath(const SmoothPathArguments& given)
      : arguments(given), radius(gaussian_radius(given.sigma)), total(gaussian_total(given.sigma, radius)) {}

  int64_t num_blocks() const { return arguments.shape.rows * arguments.shape.axes; }
  TUBELETX_HOST_DEVICE int64_t shared_taps() const { return radius < kMaxSharedTaps ? radius + 1 : 0; }
  int64_t shared_bytes() const { return (2 * kThreads + shared_taps()) * sizeof(double); }

  TUBELETX_DEVICE void operator()(int64_t block) const {
    double* extremes = static_cast<double*>(device::shared_memory());
    double* taps = extremes + 2 * kThreads;
    const int64_t known = shared_taps();
    for (int64_t k = device::thread(); k < known; k += kThreads) taps[k] = weight(k);
    device::synchronize_block();
    smooth_axis(block, [=](int64_t k) { return k < known ? taps[k] : weight(k); }, extremes);
  }

 private:
  TUBELETX_HOST_DEVICE double weight(int64_t k) const { return gaussian_weight(arguments.sigma, k) / total; }

  template <typename Tap>
  TUBELETX_DEVICE void smooth_axis(int64_t block, const Tap& tap, double* extremes) const {
    const PathShape& shape = arguments.shape;
    const int thread = device::thread();
    const int64_t row = block / shape.axes, axis = block % shape.axes;
    const float* source = arguments.points + row * shape.points * shape.axes + axis;
    const auto point = [=](int64_t i) { return static_cast<double>(source[i * shape.axes]); };
    const auto smoothed = [=](int64_t i) { return smoothed_point(point, tap, radius, shape.points, i); };
    const bool rescales = arguments.extent != nullptr;
    const int64_t lanes = shape.points < kThreads ? shape.points : kThreads;
    double* low = extremes;
    double* high = extremes + lanes;
    if (rescales) {
      for (int64_t i = thread; i < shape.points; i += kThreads) {
        const double value = smoothed(i);
        low[thread] = i == thread || value < low[thread] ? value : low[thread];
        high[thread] = i == thread || value > high[thread] ? value : high[thread];
      }
      device::synchronize_block();
    }
    if (thread >= shape.num_frames) return;
    Span span = {0.0, 0.0};
    float extent = 0.0f;
    if (rescales) {
      span = span_of(extremes, 2 * lanes);
      extent = arguments.extent[row * arguments.extent_row_stride + axis * arguments.extent_axis_stride];
    }
    const float offset = arguments.offset ? arguments.offset[row * shape.axes + axis] : 0.0f;
    for (int64_t time = thread; time < shape.num_frames; time += kThreads) {
      const double value = smoothed(downsample_index(time, shape.num_frames, shape.points));
      arguments.output[(row * shape.num_frames + time) * shape.axes + axis] =
          rescales ? rescaled(value, span, extent, offset) : static_cast<float>(value + offset);
    }
  }
};

}  // namespace

void launch_smooth_path(const SmoothPathArguments& arguments, Stream stream) {
  device::launch("smooth_path", SmoothPath(arguments), stream);
}

}  // namespace tubeletx::cuda
