// Drawing tubelets, for the operators that go on with them.
#pragma once

#include <cstdint>

#include "core/sampler_plan.h"
#include "core/sampler_settings.h"
#include "core/tubelet_sampler.h"

namespace tubeletx::cpu {

/// Draws the tubelets of each sample into the fields.
void draw_tubelets(const SamplerPlan& plan, const SamplerSettings& settings, const int64_t* sample_ids, int64_t batch,
                   int64_t seed, uint32_t epoch, const TubeletFields& fields);

}  // namespace tubeletx::cpu
