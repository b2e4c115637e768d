// What sample_augmentation writes, and how, on every device.
#pragma once

#include <cstdint>

#include "core/augmentation_sampler.h"
#include "core/macros.h"

namespace tubeletx {

/// Windows, flips and colours of all clips.
struct AugmentationFields {
  int32_t* window;  ///< (B, V, 4)
  bool* flip;       ///< (B, V)
  float* color;     ///< (B, V, 4)
};

/// Draws clip `index` of all clips of the batch, and writes it.
TUBELETX_HOST_DEVICE inline void write_augmentation(const AugmentationPlan& plan, uint64_t seed, uint32_t epoch,
                                                    const int64_t* sample_ids, int64_t index,
                                                    const AugmentationFields& fields) {
  const DrawStream stream{seed, static_cast<uint64_t>(sample_ids[index / plan.num_clips]), epoch};
  const Augmentation drawn = draw_augmentation(plan, stream, static_cast<int32_t>(index % plan.num_clips));
  int32_t* window = fields.window + 4 * index;
  window[0] = drawn.window.x0;
  window[1] = drawn.window.y0;
  window[2] = drawn.window.x1;
  window[3] = drawn.window.y1;
  fields.flip[index] = drawn.flip;
  float* color = fields.color + 4 * index;
  color[0] = drawn.color.brightness;
  color[1] = drawn.color.contrast;
  color[2] = drawn.color.saturation;
  color[3] = drawn.color.hue;
}

}  // namespace tubeletx
