// Keyframes to frames: the launcher.
#pragma once

#include <cstdint>

#include "core/trajectory.h"
#include "cuda/stream.h"

namespace tubeletx::cuda {

/// All contiguous: frames (N, K), values (N, K, D), easing (N, K - 1) or null, output (N, T, D).
template <typename Frame>
void launch_interpolate_keyframes(const KeyframeShape& shape, const Frame* frames, const float* values,
                                  const int32_t* easing, float* output, Stream stream);

}  // namespace tubeletx::cuda
