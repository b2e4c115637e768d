// Arguments and result of draw_leaves, checked once for the CPU and the GPU.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "core/leaves.h"
#include "ops/check.h"
#include "ops/sample_tubelets.h"

namespace tubeletx {

inline void check_share(double value, const char* name, double most) {
  if (!(value >= 0 && value <= most)) fail(name, ": got ", value, ", needs a number from 0 to ", most);
}

inline LeavesPlan check_draw_leaves(const Tensor& sample_ids, int64_t num_frames, int64_t height, int64_t width,
                                    int64_t num_leaves, const std::vector<double>& radius, double motion, double camera,
                                    double turn, double growth) {
  check_sample_ids(sample_ids);
  check_frame_extent(num_frames, "num_frames");
  check_frame_extent(height, "height");
  check_frame_extent(width, "width");
  if (num_leaves < 0 || num_leaves > kMaxLeaves) {
    fail("num_leaves: got ", num_leaves, ", needs an integer from 0 to ", kMaxLeaves);
  }
  if (radius.size() != 2) fail("radius: got ", radius.size(), " numbers, needs the smallest and the largest");
  if (!(radius[0] > 0 && radius[0] <= radius[1] && radius[1] <= 4)) {
    fail("radius: got (", radius[0], ", ", radius[1], "), needs 0 < smallest <= largest <= 4");
  }
  check_share(motion, "motion", 4);
  check_share(camera, "camera", 4);
  check_share(turn, "turn", 3600);
  check_share(growth, "growth", 4);
  const double shorter = static_cast<double>(std::min(height, width));
  const auto inverse_square = [&](double share) {
    return static_cast<float>(1.0 / ((share * shorter) * (share * shorter)));
  };
  LeavesPlan plan;
  plan.num_leaves = static_cast<int32_t>(num_leaves);
  plan.num_frames = static_cast<int32_t>(num_frames);
  plan.height = static_cast<int32_t>(height);
  plan.width = static_cast<int32_t>(width);
  plan.inverse_square_of_smallest = inverse_square(radius[0]);
  plan.inverse_square_of_largest = inverse_square(radius[1]);
  plan.motion = static_cast<float>(motion * shorter);
  plan.camera = static_cast<float>(camera * shorter);
  plan.turn = static_cast<float>(turn);
  plan.growth = static_cast<float>(growth);
  return plan;
}

/// (B, 3, T, H, W) bytes in channels_last_3d order, and the same memory as (B, T, H, W, 3).
inline Tensor empty_leaves(const Tensor& sample_ids, const LeavesPlan& plan) {
  const int64_t sizes[5] = {sample_ids.size(0), kChannelsOfLeaves, plan.num_frames, plan.height, plan.width};
  const int64_t row = sizes[4] * kChannelsOfLeaves;
  const int64_t strides[5] = {sizes[2] * sizes[3] * row, 1, sizes[3] * row, row, kChannelsOfLeaves};
  int32_t device_type;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_type(sample_ids.get(), &device_type));
  AtenTensorHandle tensor;
  TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(5, sizes, strides, aoti_torch_dtype_uint8(), device_type,
                                                  sample_ids.get_device_index(), &tensor));
  return Tensor(tensor);
}

}  // namespace tubeletx
