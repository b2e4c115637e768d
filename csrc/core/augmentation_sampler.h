// How a clip is augmented, from (seed, sample id, epoch): its window, whether it is mirrored, and its colours. A pure
// function, the same on host and device; each quantity reads fixed words, so that switching one off leaves the others
// as they were.
#pragma once

#include <cmath>
#include <cstdint>

#include "core/color_map.h"
#include "core/exponential.h"
#include "core/macros.h"
#include "core/philox.h"

namespace tubeletx {

/// In the order of the list that the operator takes; tubeletx.AugmentConfig says what they mean.
struct AugmentationSettings {
  double area[2];   // share of the frame; (0, 0): the whole frame is the window
  double ratio[2];  // width / height
  double flip;      // probability
  double jitter;    // probability, of each of the next four
  double brightness, contrast, saturation, hue;
  double grayscale;   // probability
  double same_color;  // whether all clips of a sample have the colours of the first
};
inline constexpr int64_t kNumAugmentationSettings = 12;
static_assert(sizeof(AugmentationSettings) == kNumAugmentationSettings * sizeof(double));

/// The clips of one sample: each has draws of its own.
inline constexpr int64_t kMostAugmentedClips = 8;

struct AugmentationPlan {
  AugmentationSettings settings;
  double log_ratio[2];
  int32_t num_clips;
  int32_t height[kMostAugmentedClips], width[kMostAugmentedClips];
};

/// Half open, in pixels.
struct Window {
  int32_t x0, y0, x1, y1;
};

struct Augmentation {
  Window window;
  bool flip;
  ColorFactors color;
};

// Blocks of four words. The upper half of the draws: tubelets have the lower one.
inline constexpr uint32_t kFirstAugmentationDraw = 1u << 31;
inline constexpr uint32_t kAugmentationDrawsPerClip = 32;
inline constexpr uint32_t kWindowTries = 10;              // one block each: share, ratio, x, y
inline constexpr uint32_t kFlipBlock = kWindowTries;      // whether mirrored, whether grey
inline constexpr uint32_t kAmountBlock = kFlipBlock + 1;  // of brightness, contrast, saturation, hue
inline constexpr uint32_t kAppliedBlock = kAmountBlock + 1;

TUBELETX_HOST_DEVICE inline double uniform_double(uint32_t word, double low, double high) {
  return low + static_cast<double>(unit_interval(word)) * (high - low);
}

TUBELETX_HOST_DEVICE inline int32_t whole(double value) { return static_cast<int32_t>(std::floor(value + 0.5)); }

/// As torchvision's RandomResizedCrop: ten tries, then the largest central window whose ratio is allowed.
TUBELETX_HOST_DEVICE inline Window draw_window(const AugmentationPlan& plan, const DrawStream& stream, uint32_t first,
                                               int32_t height, int32_t width) {
  const AugmentationSettings& settings = plan.settings;
  if (settings.area[1] == 0) return {0, 0, width, height};
  for (uint32_t attempt = 0; attempt < kWindowTries; ++attempt) {
    const PhiloxBlock draw = stream.block(first + attempt);
    const double area = static_cast<double>(width) * static_cast<double>(height) *
                        uniform_double(draw.word[0], settings.area[0], settings.area[1]);
    const double ratio = exponential(uniform_double(draw.word[1], plan.log_ratio[0], plan.log_ratio[1]));
    const int32_t w = whole(std::sqrt(area * ratio)), h = whole(std::sqrt(area / ratio));
    if (w < 1 || w > width || h < 1 || h > height) continue;
    const int32_t x = uniform_integer(draw.word[2], width - w + 1), y = uniform_integer(draw.word[3], height - h + 1);
    return {x, y, x + w, y + h};
  }
  const double widest = std::floor(height * settings.ratio[1] + 0.5),
               highest = std::floor(width / settings.ratio[0] + 0.5);
  const int32_t w = widest < 1 ? 1 : (widest < width ? static_cast<int32_t>(widest) : width);
  const int32_t h = highest < 1 ? 1 : (highest < height ? static_cast<int32_t>(highest) : height);
  const int32_t x = (width - w) / 2, y = (height - h) / 2;
  return {x, y, x + w, y + h};
}

TUBELETX_HOST_DEVICE inline ColorFactors draw_color(const AugmentationSettings& settings, const DrawStream& stream,
                                                    uint32_t first) {
  const PhiloxBlock amount = stream.block(first + kAmountBlock), applied = stream.block(first + kAppliedBlock);
  const bool grey = static_cast<double>(unit_interval(stream.block(first + kFlipBlock).word[1])) < settings.grayscale;
  const auto factor = [&](int which, double strength) {
    if (!(static_cast<double>(unit_interval(applied.word[which])) < settings.jitter)) return 1.0f;
    const double low = strength < 1 ? 1 - strength : 0;
    return static_cast<float>(uniform_double(amount.word[which], low, 1 + strength));
  };
  ColorFactors color{factor(0, settings.brightness), factor(1, settings.contrast), factor(2, settings.saturation), 0};
  if (static_cast<double>(unit_interval(applied.word[3])) < settings.jitter) {
    color.hue = static_cast<float>(uniform_double(amount.word[3], -settings.hue, settings.hue));
  }
  if (grey) color.saturation = 0;
  return color;
}

/// Of clip `clip` of a sample.
TUBELETX_HOST_DEVICE inline Augmentation draw_augmentation(const AugmentationPlan& plan, const DrawStream& stream,
                                                           int32_t clip) {
  const uint32_t first = kFirstAugmentationDraw + static_cast<uint32_t>(clip) * kAugmentationDrawsPerClip;
  const uint32_t of_color = plan.settings.same_color != 0 ? kFirstAugmentationDraw : first;
  const bool flip = static_cast<double>(unit_interval(stream.block(first + kFlipBlock).word[0])) < plan.settings.flip;
  return {draw_window(plan, stream, first, plan.height[clip], plan.width[clip]), flip,
          draw_color(plan.settings, stream, of_color)};
}

}  // namespace tubeletx
