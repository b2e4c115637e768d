// The settings of the tubelet sampler: the one table that fixes their order in the operator's flat list of floats. The
// Python configuration fills the list by these names.
#pragma once

#include <cstdint>

namespace tubeletx {

// How the values of a setting are read, and so checked.
enum class SettingKind {
  kReal,           // each value on its own
  kWhole,          // each value on its own, an integer
  kRange,          // smallest, largest
  kProbabilities,  // sum to 1
};

// SETTING(name, number of values, kind, smallest value, largest value). Lengths are in pixels of a frame whose shorter
// side is `reference_size`.
#define TUBELETX_SAMPLER_SETTINGS(SETTING)                                                                         \
  SETTING(num_tubelets, 1, kWhole, 1, 4096)                                                                        \
  SETTING(reference_size, 1, kReal, 1, 1e6)                                                                        \
  SETTING(patch_sides, 2, kRange, 1, 1e6)    /* unused where there are scales */                                   \
  SETTING(num_patch_scales, 1, kWhole, 0, 8) /* 0: sides are uniform integers in patch_sides */                    \
  SETTING(patch_scales, 8, kReal, 0, 1e6)                                                                          \
  SETTING(num_patch_ratios, 1, kWhole, 1, 8)                                                                       \
  SETTING(patch_ratios, 8, kReal, 1e-3, 1e3)            /* width / height */                                       \
  SETTING(patch_jitter, 1, kReal, 0, 10)                /* sides times exp(U(-jitter, jitter)) */                  \
  SETTING(own_box, 1, kWhole, 0, 1)                     /* 1: the patch is cropped where the tubelet will be */    \
  SETTING(shape_probabilities, 3, kProbabilities, 0, 1) /* rectangle, ellipse, rhombus */                          \
  SETTING(soft_edge_probability, 1, kReal, 0, 1)                                                                   \
  SETTING(edge_range, 2, kRange, 0, 1) /* in units of the half size */                                             \
  SETTING(opacity_range, 2, kRange, 0, 1)                                                                          \
  SETTING(motion, 1, kWhole, 0, 2) /* enum Motion */                                                               \
  SETTING(num_points, 1, kWhole, 1, 1024)                                                                          \
  SETTING(sigma, 1, kReal, 0, 1024)  /* in points */                                                               \
  SETTING(extent, 2, kRange, 0, 1e6) /* 0, 0: the smoothed path is not rescaled */                                 \
  SETTING(displacement, 2, kRange, 0, 1e6)                                                                         \
  SETTING(velocity, 1, kReal, 0, 1e6)                      /* pixels a frame; 0: displacement rules */             \
  SETTING(inside, 1, kWhole, 0, 1)                         /* 1: static and linear motion keep the patch inside */ \
  SETTING(keyframe_probabilities, 3, kProbabilities, 0, 1) /* two, three, four keyframes */                        \
  SETTING(jittered_keyframes, 1, kWhole, 0, 1)             /* 1: inner keys near equal spacing; 0: uniform */      \
  SETTING(shared_keyframes, 1, kWhole, 0, 1)               /* 1: one key set a track for the whole sample */       \
  SETTING(easing_probabilities, 3, kProbabilities, 0, 1)   /* enum Easing */                                       \
  SETTING(transforms, 3, kWhole, 0, 1)                     /* 1 where used: scale, rotation, shear */              \
  SETTING(accumulate, 1, kWhole, 0, 1)                     /* 1: rates, summed from key to key; 0: ranges */       \
  SETTING(scale_range, 2, kRange, 1e-3, 1e3)                                                                       \
  SETTING(rotation_range, 2, kRange, -1e6, 1e6) /* degrees */                                                      \
  SETTING(shear_range, 2, kRange, -1e3, 1e3)                                                                       \
  SETTING(scale_rate, 1, kReal, 0, 10)                       /* of the logarithm, a frame */                       \
  SETTING(rotation_rate, 1, kReal, 0, 1e3)                   /* degrees a frame */                                 \
  SETTING(shear_rate, 1, kReal, 0, 10)                       /* a frame */                                         \
  SETTING(shear_axis_probabilities, 3, kProbabilities, 0, 1) /* both axes, x only, y only */

enum Motion : int32_t { kStatic = 0, kLinearMotion = 1, kNonLinearMotion = 2 };

/// The flat list, by name.
struct SamplerSettings {
#define TUBELETX_SETTING_FIELD(name, length, kind, low, high) double name[length];
  TUBELETX_SAMPLER_SETTINGS(TUBELETX_SETTING_FIELD)
#undef TUBELETX_SETTING_FIELD
};

struct SettingRule {
  const char* name;
  int64_t length;
  SettingKind kind;
  double low;
  double high;
};

inline constexpr SettingRule kSettingRules[] = {
#define TUBELETX_SETTING_RULE(name, length, kind, low, high) {#name, length, SettingKind::kind, low, high},
    TUBELETX_SAMPLER_SETTINGS(TUBELETX_SETTING_RULE)
#undef TUBELETX_SETTING_RULE
};

inline constexpr int64_t kNumSettings = sizeof(SamplerSettings) / sizeof(double);

}  // namespace tubeletx
