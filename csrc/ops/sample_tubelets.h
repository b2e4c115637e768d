// Arguments and results of sample_tubelets.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <optional>
#include <tuple>
#include <vector>

#include "core/sampler_plan.h"
#include "core/tubelet_sampler.h"
#include "ops/check.h"

namespace tubeletx {

inline void check_setting(const SettingRule& rule, const double* values) {
  double sum = 0.0;
  for (int64_t i = 0; i < rule.length; ++i) {
    const bool whole = rule.kind == SettingKind::kWhole;
    if (!(values[i] >= rule.low && values[i] <= rule.high) || (whole && values[i] != std::floor(values[i]))) {
      fail("settings: ", rule.name, " got ", values[i], ", needs ", whole ? "an integer" : "a number", " in [",
           rule.low, ", ", rule.high, "]");
    }
    sum += values[i];
  }
  if (rule.kind == SettingKind::kRange && values[0] > values[1]) {
    fail("settings: ", rule.name, " got (", values[0], ", ", values[1], "), needs the smaller value first");
  }
  if (rule.kind == SettingKind::kProbabilities && std::abs(sum - 1.0) > 1e-6) {
    fail("settings: ", rule.name, " sum to ", sum, ", need to sum to 1");
  }
}

inline SamplerSettings check_settings(const std::vector<double>& settings) {
  if (static_cast<int64_t>(settings.size()) != kNumSettings) {
    fail("settings: got ", settings.size(), " numbers, needs ", kNumSettings,
         ", in the order of tubeletx._C.sampler_settings()");
  }
  const double* values = settings.data();
  for (const SettingRule& rule : kSettingRules) {
    check_setting(rule, values);
    values += rule.length;
  }
  SamplerSettings named;
  std::memcpy(&named, settings.data(), sizeof(named));
  return named;
}

inline void check_sample_ids(const Tensor& sample_ids) {
  check_shape(sample_ids, "sample_ids", {kAny}, "(B,)");
  check_dtype(sample_ids, "sample_ids", {ScalarType::Long});
}

inline void check_frame_extent(int64_t value, const char* name) {
  check_positive(value, name);
  if (value > kMaxFrameSide) fail(name, ": got ", value, ", needs at most ", static_cast<int64_t>(kMaxFrameSide));
}

/// Checks the arguments and makes the plan; `settings` are returned through it.
inline SamplerPlan check_sample_tubelets(const Tensor& sample_ids, int64_t num_frames, int64_t height, int64_t width,
                                         const SamplerSettings& settings) {
  check_sample_ids(sample_ids);
  check_frame_extent(num_frames, "num_frames");
  check_frame_extent(height, "height");
  check_frame_extent(width, "width");
  const int64_t most = std::numeric_limits<int64_t>::max() / numbers_of_tubelet(num_frames);
  if (sample_ids.size(0) > most / static_cast<int64_t>(settings.num_tubelets[0])) {
    fail("sample_ids: got shape ", shape_text(sample_ids), ", needs fewer for ", settings.num_tubelets[0],
         " tubelets of ", num_frames, " frames each: more than 2^63 numbers");
  }
  return make_sampler_plan(settings, num_frames, height, width);
}

inline void check_epoch_tensor(const Tensor& epoch, const Tensor& sample_ids) {
  if (epoch.numel() != 1) fail("epoch: got shape ", shape_text(epoch), ", needs one element");
  check_dtype(epoch, "epoch", {ScalarType::Long});
  if (!epoch.is_cpu()) check_device(epoch, "epoch", sample_ids, "sample_ids");
}

/// The epoch, from where the host can read it: `epoch_tensor` stands for `epoch` where it is given.
inline uint32_t check_epoch(int64_t epoch, const std::optional<Tensor>& epoch_tensor, const Tensor& sample_ids) {
  if (epoch_tensor) {
    check_epoch_tensor(*epoch_tensor, sample_ids);
    epoch = *epoch_tensor->const_data_ptr<int64_t>();
  }
  if (epoch < 0 || epoch > std::numeric_limits<uint32_t>::max()) {
    fail("epoch: got ", epoch, ", needs an integer in [0, 2^32)");
  }
  return static_cast<uint32_t>(epoch);
}

/// The fields of tubelets in one tensor of float32 and one of int32: a tensor more costs an operator a microsecond.
class PackedTubelets {
 public:
  PackedTubelets(const Tensor& sample_ids, const SamplerPlan& plan)
      : count_(sample_ids.size(0) * plan.num_tubelets),
        frames_(plan.num_frames),
        numbers_(make(sample_ids, count_ * numbers_of_tubelet(frames_), aoti_torch_dtype_float32())),
        integers_(make(sample_ids, count_ * kIntegersOfTubelet, aoti_torch_dtype_int32())) {}

  TubeletFields fields() const {
    return fields_in(static_cast<float*>(numbers_.mutable_data_ptr()),
                     static_cast<int32_t*>(integers_.mutable_data_ptr()), count_, frames_);
  }

  std::tuple<Tensor, Tensor> tensors() const { return {numbers_, integers_}; }

 private:
  /// Uninitialised, where `reference` lives. Not by new_empty, whose way through the dispatcher costs a microsecond.
  static Tensor make(const Tensor& reference, int64_t size, int32_t dtype) {
    int32_t device_type;
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_type(reference.get(), &device_type));
    const int64_t stride = 1;
    AtenTensorHandle tensor;
    TORCH_ERROR_CODE_CHECK(
        aoti_torch_empty_strided(1, &size, &stride, dtype, device_type, reference.get_device_index(), &tensor));
    return Tensor(tensor);
  }

  int64_t count_;
  int64_t frames_;
  Tensor numbers_;
  Tensor integers_;
};

}  // namespace tubeletx
