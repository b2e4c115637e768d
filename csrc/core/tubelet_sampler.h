// One tubelet of one sample from its draws: a pure function, the same on host and device.
//
// Every quantity reads fixed words of the tubelet's own stretch of draws, whatever the settings: switching rotation on
// leaves path, patch and shape as they were.
#pragma once

#include <cstdint>

#include "core/exponential.h"
#include "core/macros.h"
#include "core/philox.h"
#include "core/sampler_plan.h"
#include "core/sine_cosine.h"
#include "core/trajectory.h"

namespace tubeletx {

// Blocks of four words within a tubelet's stretch of draws.
inline constexpr uint32_t kPatchBlock = 0;       // two words of side, two of jitter
inline constexpr uint32_t kPlaceBlock = 1;       // x, y, frame
inline constexpr uint32_t kAppearanceBlock = 2;  // shape, whether the edge is soft, its width
inline constexpr uint32_t kPathBlock = 3;        // extent, offset x, offset y of a smoothed path
inline constexpr uint32_t kTrackBlocks = 4;      // from here on kBlocksPerTrack for each track
inline constexpr uint32_t kBlocksPerTrack = 4;   // keys, easings, values of the first axis, of the second
inline constexpr uint32_t kNumTracks = 5;
inline constexpr uint32_t kPointBlocks = kTrackBlocks + kNumTracks * kBlocksPerTrack;  // two points (x, y) a block
inline constexpr uint32_t kDrawsPerTubelet = 1024;
inline constexpr int64_t kMaxPoints = 1024;
inline constexpr int64_t kMaxTubelets = 4096;
static_assert(kPointBlocks + kMaxPoints / 2 <= kDrawsPerTubelet, "a tubelet's draws overlap the next one's");
static_assert(kMaxTubelets * kDrawsPerTubelet <= int64_t{1} << 32, "the draw index is one word");

inline constexpr uint32_t kFixedWords = 4 * kPointBlocks;

/// A quantity of up to two axes, given at up to four keyframes.
struct Track {
  int32_t num_keys;
  int32_t frame[kMaxKeys];
  int32_t easing[kMaxKeys - 1];
  float value[2][kMaxKeys];

  TUBELETX_HOST_DEVICE KeyPosition locate(int64_t time) const { return locate_frame(frame, easing, num_keys, time, 0); }
  TUBELETX_HOST_DEVICE float at(const KeyPosition& position, int axis) const {
    const float* from = value[axis] + position.key;
    return position.weight == 0.0f ? from[0] : travel(from[0], from[1], position.weight);
  }
};

/// What a tubelet is before it is written out frame by frame.
struct TubeletDraft {
  int32_t patch_width;
  int32_t patch_height;
  int32_t shape;
  float edge;
  Track location;  // static and linear motion
  Track opacity;
  Track scale;
  Track rotation;
  Track shear;
  // Smoothed path: where its bounding box lies.
  float extent[2];
  float offset[2];
};

/// Linear map of a frame, row-major, and its share of the patch's area.
struct Pose {
  float linear[4];
  float area;
};

enum TrackIndex : uint32_t { kLocationTrack, kOpacityTrack, kScaleTrack, kRotationTrack, kShearTrack };

TUBELETX_HOST_DEVICE inline const uint32_t* track_words(const uint32_t* words, TrackIndex track) {
  return words + 4 * (kTrackBlocks + track * kBlocksPerTrack);
}

/// First and last frame, and 0, 1 or 2 frames between.
TUBELETX_HOST_DEVICE inline void draw_keyframes(const SamplerPlan& plan, const uint32_t* words, Track& track) {
  const int32_t last = plan.num_frames - 1;
  int32_t inner = plan.inner_keys(unit_interval(words[0]));
  inner = inner < last - 1 ? inner : (last > 1 ? last - 1 : 0);
  int32_t ticks[kMaxKeys - 2] = {0, 0};
  if (plan.jittered_keyframes) {
    const int32_t jitter = plan.num_frames / (3 * (inner + 1));
    for (int32_t i = 0; i < kMaxKeys - 2; ++i) {
      if (i >= inner) break;
      const int64_t even = int64_t{plan.num_frames} * (i + 1) / (inner + 1);
      ticks[i] = static_cast<int32_t>(even) + uniform_integer(words[1 + i], 2 * jitter) - jitter;
    }
  } else if (inner > 0) {
    // Without replacement: the second one is drawn from the frames that the first one left.
    ticks[0] = 1 + uniform_integer(words[1], last - 1);
    ticks[1] = 1 + uniform_integer(words[2], last - 2);
    if (ticks[1] >= ticks[0]) {
      ++ticks[1];
    } else if (inner == 2) {
      const int32_t earlier = ticks[1];
      ticks[1] = ticks[0];
      ticks[0] = earlier;
    }
  }
  track.num_keys = last > 0 ? inner + 2 : 1;
  track.frame[0] = 0;
  for (int32_t i = 0; i < kMaxKeys - 2; ++i) {
    if (i < inner) track.frame[1 + i] = ticks[i];
  }
  if (last > 0) track.frame[inner + 1] = last;
}

/// Keyframes and easings; `key_words` are those of the sample's first tubelet where keyframes are shared.
TUBELETX_HOST_DEVICE inline void draw_timing(const SamplerPlan& plan, const uint32_t* words, const uint32_t* key_words,
                                             bool eases, Track& track) {
  draw_keyframes(plan, key_words, track);
  for (int i = 0; i < kMaxKeys - 1; ++i) {
    track.easing[i] = eases ? plan.easing(unit_interval(words[4 + i])) : int32_t{kLinear};
  }
}

/// The identity at the first keyframe; then independent values (Eq. 7), or steps of up to `rate` a frame.
TUBELETX_HOST_DEVICE inline void draw_transform(const SamplerPlan& plan, const TransformLaw& law, float identity,
                                                const uint32_t* words, Track& track, int axis) {
  float* value = track.value[axis];
  value[0] = identity;
  for (int32_t key = 1; key < track.num_keys; ++key) {
    const float reach = law.rate * static_cast<float>(track.frame[key] - track.frame[key - 1]);
    value[key] = plan.accumulate ? value[key - 1] + uniform(words[key], -reach, reach)
                                 : uniform(words[key], law.range.low, law.range.high);
  }
}

/// A scale accumulates by factors: the steps are those of its logarithm.
TUBELETX_HOST_DEVICE inline void draw_scale(const SamplerPlan& plan, const uint32_t* words, Track& track, int axis) {
  constexpr float kMaxLogarithm = 60.0f;  // keeps float32 finite at any rate
  draw_transform(plan, plan.scale, plan.accumulate ? 0.0f : 1.0f, words, track, axis);
  if (!plan.accumulate) return;
  for (int32_t key = 0; key < track.num_keys; ++key) {
    float& value = track.value[axis][key];
    value = value < -kMaxLogarithm ? -kMaxLogarithm : (value > kMaxLogarithm ? kMaxLogarithm : value);
    value = static_cast<float>(exponential<double>(value));
  }
}

/// Uniform in the frame at the first keyframe, then uniform in the part of the frame within reach of the last one.
TUBELETX_HOST_DEVICE inline void draw_location(const SamplerPlan& plan, const uint32_t* words, float reach_draw,
                                               float margin, float size, Track& track, int axis) {
  const float low = plan.inside ? margin : 0.0f;
  const float high = plan.inside ? size - margin : size;
  float* value = track.value[axis];
  value[0] = uniform(words[0], low, high);
  for (int32_t key = 1; key < track.num_keys; ++key) {
    const float frames = static_cast<float>(track.frame[key] - track.frame[key - 1]);
    const float reach = plan.motion == kStatic ? 0.0f : (plan.velocity > 0.0f ? plan.velocity * frames : reach_draw);
    const float from = value[key - 1] - reach;
    const float to = value[key - 1] + reach;
    value[key] = uniform(words[key], from > low ? from : low, to < high ? to : high);
  }
}

TUBELETX_HOST_DEVICE inline int32_t clamp_side(float pixels, int32_t limit) {
  if (!(pixels > 1.0f)) return 1;
  return pixels < static_cast<float>(limit) ? static_cast<int32_t>(pixels + 0.5f) : limit;
}

TUBELETX_HOST_DEVICE inline void draw_patch_size(const SamplerPlan& plan, const uint32_t* words, TubeletDraft& draft) {
  if (plan.num_scales == 0) {
    const int32_t choices = plan.side_max - plan.side_min + 1;
    const int32_t width = plan.side_min + uniform_integer(words[0], choices);
    const int32_t height = plan.side_min + uniform_integer(words[1], choices);
    draft.patch_width = width < plan.width ? width : plan.width;
    draft.patch_height = height < plan.height ? height : plan.height;
    return;
  }
  const int32_t cell =
      uniform_integer(words[0], plan.num_scales) * plan.num_ratios + uniform_integer(words[1], plan.num_ratios);
  const float jitter = plan.patch_jitter;
  const float width = plan.grid_width[cell] * static_cast<float>(exponential<double>(uniform(words[2], -jitter, jitter)));
  const float height = plan.grid_height[cell] * static_cast<float>(exponential<double>(uniform(words[3], -jitter, jitter)));
  draft.patch_width = clamp_side(width, plan.width);
  draft.patch_height = clamp_side(height, plan.height);
}

/// Everything but the points of a smoothed path. `words` are the tubelet's kFixedWords first draws, `first_words` those
/// of the sample's first tubelet.
TUBELETX_HOST_DEVICE inline void draw_tubelet(const SamplerPlan& plan, const uint32_t* words,
                                              const uint32_t* first_words, TubeletDraft& draft) {
  const uint32_t* key_source = plan.shared_keyframes ? first_words : words;
  draw_patch_size(plan, words + 4 * kPatchBlock, draft);

  const uint32_t* appearance = words + 4 * kAppearanceBlock;
  draft.shape = plan.shape(unit_interval(appearance[0]));
  draft.edge = unit_interval(appearance[1]) < plan.soft_edge_probability
                   ? uniform(appearance[2], plan.edge.low, plan.edge.high)
                   : 0.0f;

  const float size[2] = {static_cast<float>(plan.width), static_cast<float>(plan.height)};
  const float margin[2] = {0.5f * static_cast<float>(draft.patch_width), 0.5f * static_cast<float>(draft.patch_height)};
  if (plan.motion == kNonLinearMotion) {
    const uint32_t* path = words + 4 * kPathBlock;
    const float extent = uniform(path[0], plan.extent.low, plan.extent.high);
    for (int axis = 0; axis < 2; ++axis) {
      draft.extent[axis] = extent < size[axis] ? extent : size[axis];
      draft.offset[axis] = uniform(path[1 + axis], 0.0f, size[axis] - draft.extent[axis]);
    }
  } else {
    const uint32_t* location = track_words(words, kLocationTrack);
    const uint32_t* keys = track_words(key_source, kLocationTrack);
    draw_timing(plan, location, keys, true, draft.location);
    const float reach = uniform(location[3], plan.displacement.low, plan.displacement.high);
    for (int axis = 0; axis < 2; ++axis) {
      draw_location(plan, location + 8 + 4 * axis, reach, margin[axis], size[axis], draft.location, axis);
    }
  }

  const uint32_t* opacity = track_words(words, kOpacityTrack);
  draw_timing(plan, opacity, track_words(key_source, kOpacityTrack), false, draft.opacity);
  for (int32_t key = 0; key < draft.opacity.num_keys; ++key) {
    draft.opacity.value[0][key] = uniform(opacity[8 + key], plan.opacity.low, plan.opacity.high);
  }
  if (plan.scale.used) {
    const uint32_t* scale = track_words(words, kScaleTrack);
    draw_timing(plan, scale, track_words(key_source, kScaleTrack), true, draft.scale);
    for (int axis = 0; axis < 2; ++axis) draw_scale(plan, scale + 8 + 4 * axis, draft.scale, axis);
  }
  if (plan.rotation.used) {
    const uint32_t* rotation = track_words(words, kRotationTrack);
    draw_timing(plan, rotation, track_words(key_source, kRotationTrack), true, draft.rotation);
    draw_transform(plan, plan.rotation, 0.0f, rotation + 8, draft.rotation, 0);
  }
  if (plan.shear.used) {
    const uint32_t* shear = track_words(words, kShearTrack);
    const uint32_t* keys = track_words(key_source, kShearTrack);
    draw_timing(plan, shear, keys, true, draft.shear);
    const int32_t axes = plan.shear_axes(unit_interval(keys[3]));
    for (int axis = 0; axis < 2; ++axis) {
      draw_transform(plan, plan.shear, 0.0f, shear + 8 + 4 * axis, draft.shear, axis);
      if (axes == 2 - axis) {  // axes 1: x only, so no shear in y; axes 2: y only
        for (int32_t key = 0; key < draft.shear.num_keys; ++key) draft.shear.value[axis][key] = 0.0f;
      }
    }
  }
}

TUBELETX_HOST_DEVICE inline void scale_at(const SamplerPlan& plan, const TubeletDraft& draft, int64_t frame,
                                          float (&scale)[2]) {
  scale[0] = scale[1] = 1.0f;
  if (!plan.scale.used) return;
  const KeyPosition position = draft.scale.locate(frame);
  for (int axis = 0; axis < 2; ++axis) scale[axis] = draft.scale.at(position, axis);
}

/// rotation * (shear in y * shear in x) * scale: the determinant is that of the scale alone, so no draw is singular.
/// y points down, so a positive angle turns clockwise on the screen.
TUBELETX_HOST_DEVICE inline Pose pose_at(const SamplerPlan& plan, const TubeletDraft& draft, int64_t frame) {
  float scale[2], shear[2] = {0.0f, 0.0f};
  SineCosine turn = {0.0f, 1.0f};
  scale_at(plan, draft, frame, scale);
  if (plan.shear.used) {
    const KeyPosition position = draft.shear.locate(frame);
    for (int axis = 0; axis < 2; ++axis) shear[axis] = draft.shear.at(position, axis);
  }
  if (plan.rotation.used) turn = sine_cosine_degrees(draft.rotation.at(draft.rotation.locate(frame), 0));
  const float corner = 1.0f + shear[1] * shear[0];
  Pose pose;
  pose.linear[0] = (turn.cosine - turn.sine * shear[1]) * scale[0];
  pose.linear[1] = (turn.cosine * shear[0] - turn.sine * corner) * scale[1];
  pose.linear[2] = (turn.sine + turn.cosine * shear[1]) * scale[0];
  pose.linear[3] = (turn.sine * shear[0] + turn.cosine * corner) * scale[1];
  pose.area = scale[0] * scale[1];
  return pose;
}

/// The mean area in pixels, by which tubelets are ordered, from the sum of Pose::area over the frames.
TUBELETX_HOST_DEVICE inline float mean_area(const SamplerPlan& plan, const TubeletDraft& draft, double sum) {
  return static_cast<float>(sum / plan.num_frames * draft.patch_width * draft.patch_height);
}

/// Left edge of a box of `side` pixels as near as can be to being centred on `center` while inside [0, size].
TUBELETX_HOST_DEVICE inline int32_t box_start(float center, int32_t side, int32_t size) {
  const float start = std::floor(center - 0.5f * static_cast<float>(side) + 0.5f);
  const int32_t last = size - side;
  return start <= 0.0f ? 0 : (start < static_cast<float>(last) ? static_cast<int32_t>(start) : last);
}

TUBELETX_HOST_DEVICE inline int32_t draw_patch_frame(const SamplerPlan& plan, const uint32_t* words) {
  return uniform_integer(words[4 * kPlaceBlock + 2], plan.num_frames);
}

/// x0, y0, x1, y1 of the patch's source; `center` is the tubelet's in the patch's frame.
TUBELETX_HOST_DEVICE inline void draw_patch_box(const SamplerPlan& plan, const uint32_t* words,
                                                const TubeletDraft& draft, const float* center, int32_t* box) {
  const uint32_t* place = words + 4 * kPlaceBlock;
  const int32_t side[2] = {draft.patch_width, draft.patch_height};
  const int32_t size[2] = {plan.width, plan.height};
  for (int axis = 0; axis < 2; ++axis) {
    box[axis] = plan.own_box ? box_start(center[axis], side[axis], size[axis])
                             : uniform_integer(place[axis], size[axis] - side[axis] + 1);
    box[2 + axis] = box[axis] + side[axis];
  }
}

/// Rank 0, painted first, is the largest area; of equal ones the lower index.
TUBELETX_HOST_DEVICE inline int32_t paint_rank(const float* areas, int32_t num_tubelets, int32_t tubelet) {
  int32_t rank = 0;
  for (int32_t other = 0; other < num_tubelets; ++other) {
    if (areas[other] > areas[tubelet] || (areas[other] == areas[tubelet] && other < tubelet)) ++rank;
  }
  return rank;
}

/// Where the fields go, all contiguous: (B, M, T, 2), (B, M, T, 2, 2), (B, M), (B, M, 4), (B, M), (B, M), (B, M, T),
/// (B, M).
struct TubeletFields {
  float* centers;
  float* linear;
  int32_t* patch_frame;
  int32_t* patch_box;
  int32_t* shape;
  float* edge;
  float* opacity;
  int32_t* order;
};

}  // namespace tubeletx
