#include "ops/interpolate_keyframes.h"

#include <torch/csrc/stable/library.h>

#include "core/trajectory.h"
#include "cpu/parallel.h"

namespace tubeletx::cpu {

namespace {

constexpr int64_t kRowsPerTask = 64;

void check_rising(const int64_t* frames, const KeyframeShape& shape) {
  for (int64_t row = 0; row < shape.rows; ++row) {
    const int64_t* keys = frames + row * shape.keys;
    for (int64_t key = 1; key < shape.keys; ++key) {
      if (keys[key] < keys[key - 1]) {
        fail("frames: row ", row, " falls from ", keys[key - 1], " to ", keys[key], ", needs keyframes in order");
      }
    }
  }
}

void check_easing(const int32_t* easing, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    if (easing[i] < 0 || easing[i] >= kNumEasings) {
      fail("easing: got ", easing[i], ", needs 0 (linear), 1 (accelerating) or 2 (decelerating)");
    }
  }
}

void interpolate_row(const KeyframeShape& shape, const int64_t* frames, const float* values, const int32_t* easing,
                     float* output) {
  int64_t key = 0;
  for (int64_t time = 0; time < shape.num_frames; ++time, output += shape.axes) {
    const KeyPosition position = locate_frame(frames, easing, shape.keys, time, key);
    key = position.key;
    const float* from = values + key * shape.axes;
    const float* to = key + 1 < shape.keys ? from + shape.axes : from;
    for (int64_t axis = 0; axis < shape.axes; ++axis) output[axis] = travel(from[axis], to[axis], position.weight);
  }
}

Tensor interpolate_keyframes(const Tensor& frames, const Tensor& values, const std::optional<Tensor>& easing,
                             int64_t num_frames) {
  const KeyframeShape shape = check_interpolate_keyframes(frames, values, easing, num_frames);
  const Tensor dense_frames = torch::stable::contiguous(torch::stable::to(frames, ScalarType::Long));
  const Tensor dense_values = torch::stable::contiguous(values);
  const Tensor dense_easing = easing ? torch::stable::contiguous(*easing) : Tensor();
  const Tensor output = torch::stable::new_empty(values, {shape.rows, num_frames, shape.axes});

  const auto* frame_data = static_cast<const int64_t*>(dense_frames.const_data_ptr());
  const auto* value_data = static_cast<const float*>(dense_values.const_data_ptr());
  const auto* easing_data = easing ? static_cast<const int32_t*>(dense_easing.const_data_ptr()) : nullptr;
  auto* output_data = static_cast<float*>(output.mutable_data_ptr());
  check_rising(frame_data, shape);
  if (easing) check_easing(easing_data, shape.rows * (shape.keys - 1));
  parallel_for(shape.rows, kRowsPerTask, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      interpolate_row(shape, frame_data + row * shape.keys, value_data + row * shape.keys * shape.axes,
                      easing ? easing_data + row * (shape.keys - 1) : nullptr,
                      output_data + row * num_frames * shape.axes);
    }
  });
  return output;
}

STABLE_TORCH_LIBRARY_IMPL(tubeletx, CPU, library) {
  library.impl("interpolate_keyframes", TORCH_BOX(&interpolate_keyframes));
}

}  // namespace
}  // namespace tubeletx::cpu
