// All fields of a batch in one launch: a block draws the tubelets of one sample, a group of them at a time, and its
// threads share out the draws, the parts of the drafts, the points of the paths and the frames. Each part of a draft
// has a warp of its own, whose lanes are tubelets, axes and keyframes: lanes do the same, and the parts run beside each
// other.
#include "cuda/sample_tubelets.h"

#include "core/gaussian.h"
#include "cuda/device.h"

namespace tubeletx::cuda {
namespace {

/// A tubelet of the group at hand, in shared memory. Its path follows: points (2, P) and smoothed points (2, P), the
/// former in double too, since each is added up many times.
struct DraftSlot {
  double extremes[2][2];  ///< of each axis of the smoothed path: smallest, largest
  uint32_t words[kFixedWords];
  TubeletDraft draft;
  double area;  ///< sum over the frames so far
  static constexpr int kFrames = 64;
  float areas[kFrames];  ///< of the frames at hand
};

/// What the warps of a block do while tubelets are drafted. The rest smooth the paths.
enum DraftWarp { kSideWarp, kPathWarp, kLookWarp, kScaleWarp, kTurnWarp, kDraftWarps };

struct SampleTubelets {
  static constexpr int kWarp = device::kWarp;
  static constexpr int kThreads = (kDraftWarps + 6) * kWarp;
  static constexpr int kMaxGroup = kWarp / (2 * kMaxKeys);  ///< a lane for each axis and keyframe of a tubelet

  SampleTubeletsArguments arguments;
  int32_t points;  ///< of a smoothed path, 0 where the motion has none
  int32_t radius;
  double total;
  int32_t group;

  explicit SampleTubelets(const SampleTubeletsArguments& given)
      : arguments(given),
        points(given.plan.motion == kNonLinearMotion ? given.plan.num_points : 0),
        radius(points > 0 ? static_cast<int32_t>(gaussian_radius(given.sigma)) : 0),
        total(gaussian_total(given.sigma, radius)) {
    constexpr int64_t kEnough = 48 * 1024;
    group = std::min<int32_t>(kMaxGroup, given.plan.num_tubelets);
    while (group > 1 && shared_bytes() > kEnough) --group;
  }

  int64_t num_blocks() const { return arguments.batch; }
  int64_t shared_bytes() const {
    return taps_bytes() + int64_t{group} * slot_bytes() + sizeof(uint32_t) * kFixedWords +
           sizeof(float) * arguments.plan.num_tubelets;
  }

  TUBELETX_DEVICE void operator()(int64_t block) const {
    device::let_next_kernel_start();
    const SamplerPlan& plan = arguments.plan;
    const Shared shared(*this, device::shared_memory());
    const int thread = device::thread();
    const uint32_t epoch =
        arguments.epoch_on_device == nullptr ? arguments.epoch : static_cast<uint32_t>(*arguments.epoch_on_device);
    const DrawStream stream = {arguments.seed, static_cast<uint64_t>(arguments.sample_ids[block]), epoch};
    for (int32_t first = 0; first < plan.num_tubelets; first += group) {
      const int32_t left = plan.num_tubelets - first;
      const int32_t count = left < group ? left : group;
      draw_words(shared, stream, first, count, thread);
      if (first == 0) write_taps(shared, kThreads - 1 - thread);  // the last threads have no words to draw
      device::synchronize_block();
      draft_timings(shared, count, thread);
      device::synchronize_block();
      constexpr int kDrafting = kDraftWarps * kWarp;
      if (thread >= kDrafting) {
        smooth_points(shared, count, thread - kDrafting, kThreads - kDrafting);
      } else {
        draft(shared, count, static_cast<DraftWarp>(thread / kWarp), thread % kWarp);
      }
      device::synchronize_block();
      for (int32_t time = 0; time < plan.num_frames; time += DraftSlot::kFrames) {
        const int32_t ahead = plan.num_frames - time;
        const int32_t frames = ahead < DraftSlot::kFrames ? ahead : DraftSlot::kFrames;
        for (int32_t item = thread; item < count * frames; item += kThreads) {
          const int32_t index = item / frames, frame = item - index * frames;
          write_pose(shared, index, block * plan.num_tubelets + first + index, time + frame,
                     shared.slot(index).areas[frame]);
        }
        // The last warp has fewer frames.
        if (time == 0 && points > 0 && thread / kWarp == kThreads / kWarp - 1) {
          find_extremes(shared, count, thread % kWarp);
        }
        device::synchronize_block();
        // The areas of the last frames are added up beside the centres.
        if (ahead == frames) break;
        if (thread < count) add_areas(shared.slot(thread), frames, time == 0);
        device::synchronize_block();
      }
      for (int32_t item = thread; item < count * plan.num_frames; item += kThreads) {
        const int32_t index = item / plan.num_frames;
        write_center(shared, index, block * plan.num_tubelets + first + index, item - index * plan.num_frames);
      }
      const int from_end = kThreads - 1 - thread;
      if (from_end < count) {
        DraftSlot& slot = shared.slot(from_end);
        const int32_t last = (plan.num_frames - 1) % DraftSlot::kFrames + 1;
        add_areas(slot, last, last == plan.num_frames);
        shared.areas[first + from_end] = mean_area(plan, slot.draft, slot.area);
      }
      device::synchronize_block();
    }
    for (int32_t tubelet = thread; tubelet < plan.num_tubelets; tubelet += kThreads) {
      arguments.fields.order[block * plan.num_tubelets + tubelet] =
          paint_rank(shared.areas, plan.num_tubelets, tubelet);
    }
  }

 private:
  TUBELETX_HOST_DEVICE int64_t taps_bytes() const { return (int64_t{radius} + 1) * sizeof(double); }
  TUBELETX_HOST_DEVICE int64_t slot_bytes() const {
    const int64_t bytes = sizeof(DraftSlot) + 4 * int64_t{points} * sizeof(double);
    return (bytes + alignof(DraftSlot) - 1) / alignof(DraftSlot) * alignof(DraftSlot);
  }

  /// Where everything lies in the shared memory of the block.
  struct Shared {
    TUBELETX_HOST_DEVICE Shared(const SampleTubelets& kernel, void* memory)
        : taps(static_cast<double*>(memory)),
          slots(static_cast<char*>(memory) + kernel.taps_bytes()),
          bytes(kernel.slot_bytes()),
          num_points(kernel.points),
          first_words(reinterpret_cast<uint32_t*>(slots + kernel.group * bytes)),
          areas(reinterpret_cast<float*>(first_words + kFixedWords)) {}

    TUBELETX_HOST_DEVICE DraftSlot& slot(int32_t index) const {
      return *reinterpret_cast<DraftSlot*>(slots + index * bytes);
    }
    TUBELETX_HOST_DEVICE double* smoothed(int32_t index, int axis) const {
      return reinterpret_cast<double*>(&slot(index) + 1) + axis * num_points;
    }
    TUBELETX_HOST_DEVICE double* points(int32_t index, int axis) const { return smoothed(index, 2 + axis); }

    double* taps;
    char* slots;
    int64_t bytes;
    int32_t num_points;
    uint32_t* first_words;  ///< of the sample's first tubelet, which may share its keyframes
    float* areas;
  };

  TUBELETX_HOST_DEVICE void draw_words(const Shared& shared, const DrawStream& stream, int32_t first, int32_t count,
                                       int thread) const {
    const SamplerPlan& plan = arguments.plan;
    const int32_t blocks = static_cast<int32_t>(kPointBlocks + (points + 1) / 2);
    for (int32_t item = thread; item < count * blocks; item += kThreads) {
      const int32_t index = item / blocks, part = item % blocks;
      const PhiloxBlock block = stream.block(static_cast<uint32_t>(first + index) * kDrawsPerTubelet + part);
      if (part < static_cast<int32_t>(kPointBlocks)) {
        for (int i = 0; i < 4; ++i) {
          shared.slot(index).words[4 * part + i] = block.word[i];
          if (first + index == 0) shared.first_words[4 * part + i] = block.word[i];
        }
        continue;
      }
      const float size[2] = {static_cast<float>(plan.width), static_cast<float>(plan.height)};
      for (int i = 0; i < 4; ++i) {
        const int32_t point = 2 * (part - static_cast<int32_t>(kPointBlocks)) + i / 2;
        if (point < points) shared.points(index, i % 2)[point] = unit_interval(block.word[i]) * size[i % 2];
      }
    }
  }

  TUBELETX_HOST_DEVICE void write_taps(const Shared& shared, int thread) const {
    for (int32_t k = thread; k <= radius; k += kThreads) shared.taps[k] = gaussian_weight(arguments.sigma, k) / total;
  }

  /// A warp for each track, a lane for each tubelet.
  TUBELETX_HOST_DEVICE void draft_timings(const Shared& shared, int32_t count, int thread) const {
    const int track = thread / kWarp, lane = thread % kWarp;
    if (track >= static_cast<int>(kNumTracks) || lane >= count) return;
    DraftSlot& slot = shared.slot(lane);
    draw_timings(arguments.plan, slot.words, shared.first_words, static_cast<TrackIndex>(track), slot.draft);
  }

  TUBELETX_HOST_DEVICE void draft(const Shared& shared, int32_t count, DraftWarp warp, int lane) const {
    const SamplerPlan& plan = arguments.plan;
    const int lanes = warp == kScaleWarp ? 2 * kMaxKeys : (warp == kSideWarp ? 2 : 1);  // of a tubelet
    if (lane >= count * lanes) return;
    DraftSlot& slot = shared.slot(lane / lanes);
    const int part = lane % lanes;
    switch (warp) {
      case kSideWarp:
        (part == 0 ? slot.draft.patch_width : slot.draft.patch_height) = draw_patch_side(plan, slot.words, part);
        break;
      case kPathWarp:
        draw_path(plan, slot.words, slot.draft);
        break;
      case kLookWarp:
        draw_appearance(plan, slot.words, slot.draft);
        draw_opacity(plan, slot.words, slot.draft);
        break;
      case kScaleWarp:
        draw_scale_key(plan, slot.words, part / kMaxKeys, part % kMaxKeys, slot.draft);
        break;
      default:
        draw_rotation(plan, slot.words, slot.draft);
        draw_shear(plan, slot.words, shared.first_words, slot.draft);
    }
  }

  TUBELETX_HOST_DEVICE void smooth_points(const Shared& shared, int32_t count, int thread, int threads) const {
    for (int32_t item = thread; item < count * 2 * points; item += threads) {
      const int32_t index = static_cast<int32_t>(item / (2 * points));
      const int axis = static_cast<int>(item / points % 2);
      const double* source = shared.points(index, axis);
      shared.smoothed(index, axis)[item % points] =
          smoothed_point([source](int32_t i) { return source[i]; }, [&shared](int32_t k) { return shared.taps[k]; },
                         radius, points, item % points);
    }
  }

  /// A warp shares out the points of every tubelet and axis, as many lanes to each.
  TUBELETX_DEVICE void find_extremes(const Shared& shared, int32_t count, int lane) const {
    int lanes = kWarp / 2;
    while (lanes * 2 * count > kWarp) lanes /= 2;
    const int32_t index = lane / (2 * lanes);
    const int axis = lane / lanes % 2;
    const double* smoothed = shared.smoothed(index < count ? index : 0, axis);
    const int32_t first = lane % lanes;
    double low = smoothed[first < points ? first : 0], high = low;
    for (int32_t i = first + lanes; i < points; i += lanes) {
      low = smoothed[i] < low ? smoothed[i] : low;
      high = smoothed[i] > high ? smoothed[i] : high;
    }
    for (int mask = lanes / 2; mask > 0; mask /= 2) {
      const double other_low = device::shuffle_xor(low, mask), other_high = device::shuffle_xor(high, mask);
      low = other_low < low ? other_low : low;
      high = other_high > high ? other_high : high;
    }
    if (first == 0 && index < count) {
      shared.slot(index).extremes[axis][0] = low;
      shared.slot(index).extremes[axis][1] = high;
    }
  }

  /// The frames in their order, as on the CPU: a sum in another order has other bits.
  TUBELETX_HOST_DEVICE static void add_areas(DraftSlot& slot, int32_t frames, bool from_zero) {
    double sum = from_zero ? 0.0 : slot.area;
    for (int32_t frame = 0; frame < frames; ++frame) sum += slot.areas[frame];
    slot.area = sum;
  }

  /// What frame `time` of a tubelet has beside its centre. The tubelet is the one in a slot, number `tubelet` of the
  /// batch.
  TUBELETX_HOST_DEVICE void write_pose(const Shared& shared, int32_t index, int64_t tubelet, int32_t time,
                                       float& area) const {
    const TubeletDraft& draft = shared.slot(index).draft;
    const int64_t frame = tubelet * arguments.plan.num_frames + time;
    const LinearMap map = linear_map_at(arguments.plan, draft, time);
    for (int i = 0; i < 4; ++i) arguments.fields.linear[4 * frame + i] = map.linear[i];
    arguments.fields.opacity[frame] = draft.opacity.at(draft.opacity.locate(time), 0);
    area = map.area;
  }

  /// Its centre, and with the frame that its patch comes from what a tubelet has once.
  TUBELETX_HOST_DEVICE void write_center(const Shared& shared, int32_t index, int64_t tubelet, int32_t time) const {
    const SamplerPlan& plan = arguments.plan;
    const TubeletFields& fields = arguments.fields;
    const DraftSlot& slot = shared.slot(index);
    const TubeletDraft& draft = slot.draft;
    float center[2];
    if (points > 0) {
      const int64_t point = downsample_index(time, plan.num_frames, points);
      for (int axis = 0; axis < 2; ++axis) {
        const double smoothed = shared.smoothed(index, axis)[point];
        const Span span = {slot.extremes[axis][0], slot.extremes[axis][1] - slot.extremes[axis][0]};
        center[axis] = plan.rescale_path ? rescaled(smoothed, span, draft.extent[axis], draft.offset[axis])
                                         : static_cast<float>(smoothed);
      }
    } else {
      const Track::Position position = draft.location.locate(time);
      for (int axis = 0; axis < 2; ++axis) center[axis] = draft.location.at(position, axis);
    }
    const int64_t frame = tubelet * plan.num_frames + time;
    for (int axis = 0; axis < 2; ++axis) fields.centers[2 * frame + axis] = center[axis];

    const int32_t patch_frame = draw_patch_frame(plan, slot.words);
    if (time != patch_frame) return;
    fields.patch_frame[tubelet] = patch_frame;
    draw_patch_box(plan, slot.words, draft, center, fields.patch_box + 4 * tubelet);
    fields.shape[tubelet] = draft.shape;
    fields.edge[tubelet] = draft.edge;
  }
};

}  // namespace

void launch_sample_tubelets(const SampleTubeletsArguments& arguments, Stream stream) {
  device::launch("sample_tubelets", SampleTubelets(arguments), stream);
}

}  // namespace tubeletx::cuda
