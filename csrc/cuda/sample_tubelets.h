// The fused sampler: the launcher.
#pragma once

#include <cstdint>

#include "core/tubelet_sampler.h"
#include "cuda/stream.h"

namespace tubeletx::cuda {

struct SampleTubeletsArguments {
  SamplerPlan plan;
  double sigma;
  uint64_t seed;
  uint32_t epoch;
  const int64_t* epoch_on_device;  // read in place of `epoch`, modulo 2^32, where it is not null
  int64_t batch;
  const int64_t* sample_ids;
  TubeletFields fields;
};

void launch_sample_tubelets(const SampleTubeletsArguments& arguments, Stream stream);

}  // namespace tubeletx::cuda
