// Drawing how clips are augmented: the launcher.
#pragma once

#include <cstdint>

#include "cuda/stream.h"
#include "ops/sample_augmentation_arguments.h"

namespace tubeletx::cuda {

struct SampleAugmentation {
  AugmentationPlan plan;
  uint64_t seed;
  uint32_t epoch;
  const int64_t* epoch_on_device;  ///< or null
  int64_t batch;
  const int64_t* sample_ids;
  AugmentationFields fields;
};

void launch_sample_augmentation(const SampleAugmentation& arguments, Stream stream);

}  // namespace tubeletx::cuda
