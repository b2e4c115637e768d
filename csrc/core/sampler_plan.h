// What the settings mean for one frame size and clip length: pixels, thresholds and integers, made once a call.
#pragma once

#include <cmath>
#include <cstdint>

#include "core/macros.h"
#include "core/sampler_settings.h"

namespace tubeletx {

inline constexpr int kMaxGrid = 64;
inline constexpr int kNumClasses = 3;
inline constexpr int kMaxKeys = 4;

/// A choice among three.
struct Categorical {
  float first;
  float second;

  TUBELETX_HOST_DEVICE int32_t operator()(float u) const { return u < first ? 0 : (u < second ? 1 : 2); }
};

/// Uniform over [low, high).
struct Interval {
  float low;
  float high;
};

/// How one transform's value changes from keyframe to keyframe.
struct TransformLaw {
  bool used;
  Interval range;
  float rate;
};

struct SamplerPlan {
  int32_t num_tubelets;
  int32_t num_frames;
  int32_t height;
  int32_t width;

  int32_t side_min;
  int32_t side_max;
  int32_t num_scales;  // 0: sides are uniform integers in [side_min, side_max]
  int32_t num_ratios;
  float grid_width[kMaxGrid];  // of scale i and ratio j at i * num_ratios + j
  float grid_height[kMaxGrid];
  float patch_jitter;
  bool own_box;

  Categorical shape;
  float soft_edge_probability;
  Interval edge;
  Interval opacity;

  int32_t motion;
  int32_t num_points;
  bool rescale_path;
  Interval extent;
  Interval displacement;
  float velocity;
  bool inside;

  Categorical inner_keys;
  bool jittered_keyframes;
  bool shared_keyframes;
  Categorical easing;
  bool accumulate;
  TransformLaw scale;
  TransformLaw rotation;
  TransformLaw shear;
  Categorical shear_axes;
};

/// The last class with any probability takes what rounding leaves over.
inline Categorical make_categorical(const double (&probability)[kNumClasses]) {
  constexpr float kAlways = 2.0f;
  const bool only_first = probability[1] == 0.0 && probability[2] == 0.0;
  return {only_first ? kAlways : static_cast<float>(probability[0]),
          probability[2] == 0.0 ? kAlways : static_cast<float>(probability[0] + probability[1])};
}

inline Interval make_interval(const double (&range)[2], double unit = 1.0) {
  return {static_cast<float>(range[0] * unit), static_cast<float>(range[1] * unit)};
}

inline constexpr double kMaxFrameSide = 1 << 24;  // the largest integers that float32 coordinates hold

inline int32_t to_side(double pixels) {
  if (pixels < 1.0) return 1;
  return static_cast<int32_t>(pixels < kMaxFrameSide ? pixels + 0.5 : kMaxFrameSide);
}

/// The settings must have passed their checks.
inline SamplerPlan make_sampler_plan(const SamplerSettings& settings, int64_t num_frames, int64_t height,
                                     int64_t width) {
  const double unit = static_cast<double>(height < width ? height : width) / settings.reference_size[0];
  SamplerPlan plan = {};
  plan.num_tubelets = static_cast<int32_t>(settings.num_tubelets[0]);
  plan.num_frames = static_cast<int32_t>(num_frames);
  plan.height = static_cast<int32_t>(height);
  plan.width = static_cast<int32_t>(width);

  plan.side_min = to_side(settings.patch_sides[0] * unit);
  plan.side_max = to_side(settings.patch_sides[1] * unit);
  plan.num_scales = static_cast<int32_t>(settings.num_patch_scales[0]);
  plan.num_ratios = static_cast<int32_t>(settings.num_patch_ratios[0]);
  for (int i = 0; i < plan.num_scales; ++i) {
    for (int j = 0; j < plan.num_ratios; ++j) {
      const double stretch = std::sqrt(settings.patch_ratios[j]);
      plan.grid_width[i * plan.num_ratios + j] = static_cast<float>(settings.patch_scales[i] * unit * stretch);
      plan.grid_height[i * plan.num_ratios + j] = static_cast<float>(settings.patch_scales[i] * unit / stretch);
    }
  }
  plan.patch_jitter = static_cast<float>(settings.patch_jitter[0]);
  plan.own_box = settings.own_box[0] != 0.0;

  plan.shape = make_categorical(settings.shape_probabilities);
  plan.soft_edge_probability = static_cast<float>(settings.soft_edge_probability[0]);
  plan.edge = make_interval(settings.edge_range);
  plan.opacity = make_interval(settings.opacity_range);

  plan.motion = static_cast<int32_t>(settings.motion[0]);
  plan.num_points = static_cast<int32_t>(settings.num_points[0]);
  plan.rescale_path = settings.extent[1] > 0.0;
  plan.extent = make_interval(settings.extent, unit);
  plan.displacement = make_interval(settings.displacement, unit);
  plan.velocity = static_cast<float>(settings.velocity[0] * unit);
  plan.inside = settings.inside[0] != 0.0;

  plan.inner_keys = make_categorical(settings.keyframe_probabilities);
  plan.jittered_keyframes = settings.jittered_keyframes[0] != 0.0;
  plan.shared_keyframes = settings.shared_keyframes[0] != 0.0;
  plan.easing = make_categorical(settings.easing_probabilities);
  plan.accumulate = settings.accumulate[0] != 0.0;
  plan.scale = {settings.transforms[0] != 0.0, make_interval(settings.scale_range),
                static_cast<float>(settings.scale_rate[0])};
  plan.rotation = {settings.transforms[1] != 0.0, make_interval(settings.rotation_range),
                   static_cast<float>(settings.rotation_rate[0])};
  plan.shear = {settings.transforms[2] != 0.0, make_interval(settings.shear_range),
                static_cast<float>(settings.shear_rate[0])};
  plan.shear_axes = make_categorical(settings.shear_axis_probabilities);
  return plan;
}

}  // namespace tubeletx
