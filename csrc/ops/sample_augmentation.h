// Arguments and results of sample_augmentation.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <tuple>
#include <vector>

#include "core/augmentation_sampler.h"
#include "core/resize_bytes.h"
#include "ops/check.h"
#include "ops/sample_augmentation_arguments.h"
#include "ops/sample_tubelets.h"

namespace tubeletx {

inline AugmentationPlan check_sample_augmentation(const Tensor& sample_ids, const std::vector<int64_t>& sizes,
                                                  const std::vector<double>& settings) {
  check_sample_ids(sample_ids);
  AugmentationPlan plan = {};
  const int64_t numbers = static_cast<int64_t>(sizes.size());
  if (numbers == 0 || numbers % 2 != 0 || numbers > 2 * kMostAugmentedClips) {
    fail("sizes: got ", numbers, " numbers, needs a height and a width for each of 1 to ", kMostAugmentedClips,
         " clips");
  }
  plan.num_clips = static_cast<int32_t>(numbers / 2);
  for (int64_t i = 0; i < numbers; ++i) {
    if (sizes[i] < 1 || sizes[i] > kMostResizedSide) {
      fail("sizes: got ", sizes[i], ", needs 1 to ", kMostResizedSide, " pixels");
    }
    (i % 2 == 0 ? plan.height : plan.width)[i / 2] = static_cast<int32_t>(sizes[i]);
  }
  if (static_cast<int64_t>(settings.size()) != kNumAugmentationSettings) {
    fail("settings: got ", settings.size(), " numbers, needs ", kNumAugmentationSettings,
         ", as AugmentConfig.settings() makes them");
  }
  std::memcpy(&plan.settings, settings.data(), sizeof(plan.settings));
  const AugmentationSettings& named = plan.settings;
  const auto require = [](bool good, const char* name, double value, const char* needs) {
    if (!good) fail("settings: ", name, " got ", value, ", needs ", needs);
  };
  const auto share = [](double value) { return value >= 0 && value <= 1; };
  require(share(named.area[0]) && share(named.area[1]) && named.area[0] <= named.area[1], "area", named.area[1],
          "shares of 0 to 1, the smaller first");
  require(named.ratio[0] > 0 && named.ratio[0] <= named.ratio[1] && std::isfinite(named.ratio[1]), "ratio",
          named.ratio[1], "positive ratios, the smaller first");
  require(share(named.flip), "flip", named.flip, "a probability");
  require(share(named.jitter), "jitter", named.jitter, "a probability");
  for (const double strength : {named.brightness, named.contrast, named.saturation}) {
    require(strength >= 0 && std::isfinite(strength), "brightness, contrast or saturation", strength, "0 or more");
  }
  require(named.hue >= 0 && named.hue <= 0.5, "hue", named.hue, "0 to 0.5 turns");
  require(share(named.grayscale), "grayscale", named.grayscale, "a probability");
  for (int end : {0, 1}) plan.log_ratio[end] = static_cast<double>(static_cast<float>(std::log(named.ratio[end])));
  return plan;
}

using AugmentationTensors = std::tuple<Tensor, Tensor, Tensor>;

inline AugmentationTensors empty_augmentations(const Tensor& sample_ids, const AugmentationPlan& plan) {
  const int64_t batch = sample_ids.size(0), clips = plan.num_clips;
  return {torch::stable::new_empty(sample_ids, {batch, clips, 4}, ScalarType::Int),
          torch::stable::new_empty(sample_ids, {batch, clips}, ScalarType::Bool),
          torch::stable::new_empty(sample_ids, {batch, clips, 4}, ScalarType::Float)};
}

inline AugmentationFields augmentation_fields(const AugmentationTensors& tensors) {
  return {static_cast<int32_t*>(std::get<0>(tensors).mutable_data_ptr()),
          static_cast<bool*>(std::get<1>(tensors).mutable_data_ptr()),
          static_cast<float*>(std::get<2>(tensors).mutable_data_ptr())};
}

}  // namespace tubeletx
