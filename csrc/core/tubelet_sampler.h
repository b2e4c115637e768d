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

  /// Key `key`, and `weight` of the way to the next one: as locate_frame does, in float32, which holds all frames.
  struct Position {
    int32_t key;
    float weight;
  };

  TUBELETX_HOST_DEVICE Position locate(int32_t time) const {
    int32_t key = 0;
    while (key + 1 < num_keys && frame[key + 1] <= time) ++key;
    if (key + 1 == num_keys || frame[key] >= time) return {key, 0.0f};
    const float since = static_cast<float>(time - frame[key]);
    return {key, eased(easing[key], since / static_cast<float>(frame[key + 1] - frame[key]))};
  }
  TUBELETX_HOST_DEVICE float at(const Position& position, int axis) const {
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
struct LinearMap {
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

TUBELETX_OUTLINE inline float exponential_of(float x) { return static_cast<float>(exponential<double>(x)); }

/// The scale at one keyframe, from the keyframes in `track`. It accumulates by factors: the steps are those of its
/// logarithm.
TUBELETX_HOST_DEVICE inline float draw_scale(const SamplerPlan& plan, const uint32_t* words, const Track& track,
                                             int32_t key) {
  if (key == 0) return 1.0f;
  if (!plan.accumulate) return uniform(words[key], plan.scale.range.low, plan.scale.range.high);
  constexpr float kMaxLogarithm = 60.0f;  // keeps float32 finite at any rate
  float logarithm = 0.0f;
  for (int32_t step = 1; step <= key; ++step) {
    const float reach = plan.scale.rate * static_cast<float>(track.frame[step] - track.frame[step - 1]);
    logarithm = logarithm + uniform(words[step], -reach, reach);
  }
  const float bounded =
      logarithm < -kMaxLogarithm ? -kMaxLogarithm : (logarithm > kMaxLogarithm ? kMaxLogarithm : logarithm);
  return exponential_of(bounded);
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

/// Width (axis 0) or height of the patch.
TUBELETX_HOST_DEVICE inline int32_t draw_patch_side(const SamplerPlan& plan, const uint32_t* words, int axis) {
  const uint32_t* sides = words + 4 * kPatchBlock;
  const int32_t limit = axis == 0 ? plan.width : plan.height;
  if (plan.num_scales == 0) {
    const int32_t side = plan.side_min + uniform_integer(sides[axis], plan.side_max - plan.side_min + 1);
    return side < limit ? side : limit;
  }
  const int32_t cell =
      uniform_integer(sides[0], plan.num_scales) * plan.num_ratios + uniform_integer(sides[1], plan.num_ratios);
  const float jitter = uniform(sides[2 + axis], -plan.patch_jitter, plan.patch_jitter);
  const float side = axis == 0 ? plan.grid_width[cell] : plan.grid_height[cell];
  return clamp_side(side * exponential_of(jitter), limit);
}

// The parts of a draft. Each is a function of the draws alone, but that draw_timings comes before what moves from
// keyframe to keyframe.

/// The words that keyframes are drawn from: those of the sample's first tubelet where it shares its keyframes.
TUBELETX_HOST_DEVICE inline const uint32_t* key_words(const SamplerPlan& plan, const uint32_t* words,
                                                      const uint32_t* first_words) {
  return plan.shared_keyframes ? first_words : words;
}

TUBELETX_HOST_DEVICE inline bool uses_track(const SamplerPlan& plan, TrackIndex track) {
  switch (track) {
    case kLocationTrack:
      return plan.motion != kNonLinearMotion;
    case kOpacityTrack:
      return true;
    case kScaleTrack:
      return plan.scale.used;
    case kRotationTrack:
      return plan.rotation.used;
    default:
      return plan.shear.used;
  }
}

TUBELETX_HOST_DEVICE inline Track& track_of(TubeletDraft& draft, TrackIndex track) {
  switch (track) {
    case kLocationTrack:
      return draft.location;
    case kOpacityTrack:
      return draft.opacity;
    case kScaleTrack:
      return draft.scale;
    case kRotationTrack:
      return draft.rotation;
    default:
      return draft.shear;
  }
}

/// Keyframes and easings of a track.
TUBELETX_HOST_DEVICE inline void draw_timings(const SamplerPlan& plan, const uint32_t* words,
                                              const uint32_t* first_words, TrackIndex track, TubeletDraft& draft) {
  if (!uses_track(plan, track)) return;
  const uint32_t* keys = key_words(plan, words, first_words);
  draw_timing(plan, track_words(words, track), track_words(keys, track), track != kOpacityTrack,
              track_of(draft, track));
}

TUBELETX_HOST_DEVICE inline void draw_appearance(const SamplerPlan& plan, const uint32_t* words, TubeletDraft& draft) {
  const uint32_t* appearance = words + 4 * kAppearanceBlock;
  draft.shape = plan.shape(unit_interval(appearance[0]));
  draft.edge = unit_interval(appearance[1]) < plan.soft_edge_probability
                   ? uniform(appearance[2], plan.edge.low, plan.edge.high)
                   : 0.0f;
}

/// Where the path lies: the bounding box of a smoothed one, whose points are drawn elsewhere, or the keyframes' places.
TUBELETX_HOST_DEVICE inline void draw_path(const SamplerPlan& plan, const uint32_t* words, TubeletDraft& draft) {
  const float size[2] = {static_cast<float>(plan.width), static_cast<float>(plan.height)};
  if (plan.motion == kNonLinearMotion) {
    const uint32_t* path = words + 4 * kPathBlock;
    const float extent = uniform(path[0], plan.extent.low, plan.extent.high);
    for (int axis = 0; axis < 2; ++axis) {
      draft.extent[axis] = extent < size[axis] ? extent : size[axis];
      draft.offset[axis] = uniform(path[1 + axis], 0.0f, size[axis] - draft.extent[axis]);
    }
    return;
  }
  const uint32_t* location = track_words(words, kLocationTrack);
  const float reach = uniform(location[3], plan.displacement.low, plan.displacement.high);
  for (int axis = 0; axis < 2; ++axis) {
    const float margin = 0.5f * static_cast<float>(draw_patch_side(plan, words, axis));
    draw_location(plan, location + 8 + 4 * axis, reach, margin, size[axis], draft.location, axis);
  }
}

TUBELETX_HOST_DEVICE inline void draw_opacity(const SamplerPlan& plan, const uint32_t* words, TubeletDraft& draft) {
  const uint32_t* opacity = track_words(words, kOpacityTrack);
  for (int32_t key = 0; key < draft.opacity.num_keys; ++key) {
    draft.opacity.value[0][key] = uniform(opacity[8 + key], plan.opacity.low, plan.opacity.high);
  }
}

TUBELETX_HOST_DEVICE inline void draw_scale_key(const SamplerPlan& plan, const uint32_t* words, int axis, int32_t key,
                                                TubeletDraft& draft) {
  if (!plan.scale.used || key >= draft.scale.num_keys) return;
  draft.scale.value[axis][key] = draw_scale(plan, track_words(words, kScaleTrack) + 8 + 4 * axis, draft.scale, key);
}

TUBELETX_HOST_DEVICE inline void draw_rotation(const SamplerPlan& plan, const uint32_t* words, TubeletDraft& draft) {
  if (!plan.rotation.used) return;
  draw_transform(plan, plan.rotation, 0.0f, track_words(words, kRotationTrack) + 8, draft.rotation, 0);
}

TUBELETX_HOST_DEVICE inline void draw_shear(const SamplerPlan& plan, const uint32_t* words, const uint32_t* first_words,
                                            TubeletDraft& draft) {
  if (!plan.shear.used) return;
  const int32_t axes = plan.shear_axes(unit_interval(track_words(key_words(plan, words, first_words), kShearTrack)[3]));
  for (int axis = 0; axis < 2; ++axis) {
    draw_transform(plan, plan.shear, 0.0f, track_words(words, kShearTrack) + 8 + 4 * axis, draft.shear, axis);
    if (axes == 2 - axis) {  // axes 1: x only, so no shear in y; axes 2: y only
      for (int32_t key = 0; key < draft.shear.num_keys; ++key) draft.shear.value[axis][key] = 0.0f;
    }
  }
}

/// Everything but the points of a smoothed path. `words` are the tubelet's kFixedWords first draws, `first_words` those
/// of the sample's first tubelet.
TUBELETX_HOST_DEVICE inline void draw_tubelet(const SamplerPlan& plan, const uint32_t* words,
                                              const uint32_t* first_words, TubeletDraft& draft) {
  for (uint32_t track = 0; track < kNumTracks; ++track) {
    draw_timings(plan, words, first_words, static_cast<TrackIndex>(track), draft);
  }
  draft.patch_width = draw_patch_side(plan, words, 0);
  draft.patch_height = draw_patch_side(plan, words, 1);
  draw_appearance(plan, words, draft);
  draw_path(plan, words, draft);
  draw_opacity(plan, words, draft);
  for (int axis = 0; axis < 2; ++axis) {
    for (int32_t key = 0; key < kMaxKeys; ++key) draw_scale_key(plan, words, axis, key, draft);
  }
  draw_rotation(plan, words, draft);
  draw_shear(plan, words, first_words, draft);
}

TUBELETX_HOST_DEVICE inline void scale_at(const SamplerPlan& plan, const TubeletDraft& draft, int32_t frame,
                                          float (&scale)[2]) {
  scale[0] = scale[1] = 1.0f;
  if (!plan.scale.used) return;
  const Track::Position position = draft.scale.locate(frame);
  for (int axis = 0; axis < 2; ++axis) scale[axis] = draft.scale.at(position, axis);
}

/// rotation * (shear in y * shear in x) * scale: the determinant is that of the scale alone, so no draw is singular.
/// y points down, so a positive angle turns clockwise on the screen.
TUBELETX_HOST_DEVICE inline LinearMap linear_map_at(const SamplerPlan& plan, const TubeletDraft& draft, int32_t frame) {
  float scale[2], shear[2] = {0.0f, 0.0f};
  SineCosine turn = {0.0f, 1.0f};
  scale_at(plan, draft, frame, scale);
  if (plan.shear.used) {
    const Track::Position position = draft.shear.locate(frame);
    for (int axis = 0; axis < 2; ++axis) shear[axis] = draft.shear.at(position, axis);
  }
  if (plan.rotation.used) turn = sine_cosine_degrees(draft.rotation.at(draft.rotation.locate(frame), 0));
  const float corner = 1.0f + shear[1] * shear[0];
  LinearMap map;
  map.linear[0] = (turn.cosine - turn.sine * shear[1]) * scale[0];
  map.linear[1] = (turn.cosine * shear[0] - turn.sine * corner) * scale[1];
  map.linear[2] = (turn.sine + turn.cosine * shear[1]) * scale[0];
  map.linear[3] = (turn.sine * shear[0] + turn.cosine * corner) * scale[1];
  map.area = scale[0] * scale[1];
  return map;
}

/// The mean area in pixels, by which tubelets are ordered, from the sum of LinearMap::area over the frames.
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

/// How many numbers and integers the fields of a tubelet take.
constexpr int64_t numbers_of_tubelet(int64_t frames) { return 7 * frames + 1; }
inline constexpr int64_t kIntegersOfTubelet = 7;

/// The fields of `count` tubelets in two blocks of memory, one after the other; tubeletx/ops/sample_tubelets.py cuts
/// them out again.
inline TubeletFields fields_in(float* numbers, int32_t* integers, int64_t count, int64_t frames) {
  TubeletFields fields = {};
  fields.centers = numbers;
  fields.linear = fields.centers + 2 * count * frames;
  fields.opacity = fields.linear + 4 * count * frames;
  fields.edge = fields.opacity + count * frames;
  fields.patch_frame = integers;
  fields.patch_box = fields.patch_frame + count;
  fields.shape = fields.patch_box + 4 * count;
  fields.order = fields.shape + count;
  return fields;
}

}  // namespace tubeletx
