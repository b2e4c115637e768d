// What augment_clips_ does to one frame: resizing bytes, summing colours, mapping them to floats. Each with the vector
// units where they can be used, and to the same bits without.
#pragma once

#include <cstdint>
#include <vector>

#include "ops/augment_clips_arguments.h"

namespace tubeletx::cpu {

/// The taps of one axis: for each output pixel a first source pixel and the weights of it and the next ones.
struct ResizeAxis {
  int32_t in, out;
  int32_t pairs;                 ///< of taps, alike for all; those left over weigh 0 and may lie behind the last pixel
  std::vector<int32_t> first;    ///< (out)
  std::vector<int16_t> weights;  ///< (out, pairs, 2)

  const int16_t* weights_of(int64_t index) const { return weights.data() + 2 * index * pairs; }
};

/// What a vector of 16 sums along x reads of a row for one pair of taps: at most 64 bytes, from `base` on.
struct alignas(64) GatheredTaps {
  uint8_t place[64];   ///< at even bytes: of the byte for each tap of each sum
  int16_t weight[32];  ///< of each tap of each sum
  int32_t base;
};

/// How a window becomes a frame.
struct ResizePlan {
  Window window;
  bool identity;  ///< nothing but a copy
  ResizeAxis x, y;
  std::vector<GatheredTaps> gathered;  ///< (sums / 16, pairs), or empty where 64 bytes do not hold them

  /// The vectors keep their memory from plan to plan.
  void make(const Window& window, bool flip, int64_t height, int64_t width);
};

/// A frame that is read, and its strides.
struct SourceFrame {
  const uint8_t* pixels;
  int64_t channel_stride, row_stride, column_stride;
};

/// Writes (height, width, 3) bytes.
void resize_frame(const ResizePlan& plan, const SourceFrame& source, uint8_t* out);

/// Adds the red, green and blue bytes of dense pixels.
void add_colors(const uint8_t* pixels, int64_t count, int64_t (&sums)[3]);

/// Writes three floats of `type` a pixel.
void map_colors(const uint8_t* pixels, int64_t count, const ColorMap& map, AugmentedType type, void* out);

}  // namespace tubeletx::cpu
