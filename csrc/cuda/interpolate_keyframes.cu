// One thread finds where a frame lies among the keyframes of its row, and fills in all axes.
#include "cuda/interpolate_keyframes.h"

#include "cuda/device.h"

namespace tubeletx::cuda {
namespace {

template <typename Frame>
struct InterpolateKeyframes {
  static constexpr int kThreads = 256;

  KeyframeShape shape;
  const Frame* frames;
  const float* values;
  const int32_t* easing;
  float* output;

  int64_t num_blocks() const { return (shape.rows * shape.num_frames + kThreads - 1) / kThreads; }
  int64_t shared_bytes() const { return 0; }

  TUBELETX_DEVICE void operator()(int64_t block) const {
    const int64_t index = block * kThreads + device::thread();
    if (index >= shape.rows * shape.num_frames) return;
    const int64_t row = index / shape.num_frames, time = index % shape.num_frames;
    const int32_t* row_easing = easing == nullptr ? nullptr : easing + row * (shape.keys - 1);
    const KeyPosition position = locate_frame(frames + row * shape.keys, row_easing, shape.keys, time, 0);
    const float* from = values + (row * shape.keys + position.key) * shape.axes;
    const float* to = position.key + 1 < shape.keys ? from + shape.axes : from;
    for (int64_t axis = 0; axis < shape.axes; ++axis) {
      output[index * shape.axes + axis] = travel(from[axis], to[axis], position.weight);
    }
  }
};

}  // namespace

template <typename Frame>
void launch_interpolate_keyframes(const KeyframeShape& shape, const Frame* frames, const float* values,
                                  const int32_t* easing, float* output, Stream stream) {
  device::launch("interpolate_keyframes", InterpolateKeyframes<Frame>{shape, frames, values, easing, output}, stream);
}

template void launch_interpolate_keyframes(const KeyframeShape&, const int32_t*, const float*, const int32_t*, float*,
                                           Stream);
template void launch_interpolate_keyframes(const KeyframeShape&, const int64_t*, const float*, const int32_t*, float*,
                                           Stream);

}  // namespace tubeletx::cuda
