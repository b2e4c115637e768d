#include "ops/sample_tubelets.h"

#include <torch/csrc/stable/library.h>

#include <vector>

#include "cpu/draw_tubelets.h"
#include "cpu/multiversion.h"
#include "cpu/parallel.h"
#include "cpu/smooth.h"

namespace tubeletx::cpu {

namespace {

constexpr int64_t kSamplesPerTask = 4;

/// What one thread needs room for, kept from sample to sample.
struct Workspace {
  Workspace(const SamplerPlan& plan, int64_t radius)
      : first_words(kFixedWords),
        words(kFixedWords),
        point_words(4 * ((plan.num_points + 1) / 2)),
        padded(plan.num_points + 2 * radius),
        smoothed{std::vector<double>(plan.num_points), std::vector<double>(plan.num_points)},
        areas(plan.num_tubelets) {}

  std::vector<uint32_t> first_words;
  std::vector<uint32_t> words;
  std::vector<uint32_t> point_words;
  std::vector<double> padded;
  std::vector<double> smoothed[2];
  std::vector<float> areas;
};

struct SampleTubelets {
  const SamplerPlan& plan;
  const PathPlan& path;
  TubeletFields fields;
};

/// Draws `num_blocks` blocks of the stream from block `first` on, a group at a time in vector registers.
TUBELETX_MULTIVERSION void draw_blocks(const DrawStream& stream, uint32_t first, int64_t num_blocks, uint32_t* words) {
  constexpr int64_t kGroup = 16;
  int64_t done = 0;
  for (; done + kGroup <= num_blocks; done += kGroup) {
    uint32_t c0[kGroup], c1[kGroup], c2[kGroup], c3[kGroup];
    for (int64_t i = 0; i < kGroup; ++i) {
      c0[i] = static_cast<uint32_t>(stream.sample_id);
      c1[i] = static_cast<uint32_t>(stream.sample_id >> 32);
      c2[i] = stream.epoch;
      c3[i] = first + static_cast<uint32_t>(done + i);
    }
    uint32_t key0 = static_cast<uint32_t>(stream.seed);
    uint32_t key1 = static_cast<uint32_t>(stream.seed >> 32);
    for (int round = 0; round < kPhiloxRounds; ++round) {
      for (int64_t i = 0; i < kGroup; ++i) philox_round(c0[i], c1[i], c2[i], c3[i], key0, key1);
      philox_next_key(key0, key1);
    }
    for (int64_t i = 0; i < kGroup; ++i) {
      uint32_t* block = words + 4 * (done + i);
      block[0] = c0[i];
      block[1] = c1[i];
      block[2] = c2[i];
      block[3] = c3[i];
    }
  }
  for (; done < num_blocks; ++done) {
    const PhiloxBlock block = stream.block(first + static_cast<uint32_t>(done));
    for (int i = 0; i < 4; ++i) words[4 * done + i] = block.word[i];
  }
}

/// A smoothed random path (Eq. 6), one centre a frame.
TUBELETX_MULTIVERSION void write_smoothed_centers(const SampleTubelets& job, const TubeletDraft& draft, Workspace& work,
                                                  float* centers) {
  const SamplerPlan& plan = job.plan;
  const int64_t points = plan.num_points;
  const int64_t radius = job.path.radius;
  const float size[2] = {static_cast<float>(plan.width), static_cast<float>(plan.height)};
  for (int axis = 0; axis < 2; ++axis) {
    double* padded = work.padded.data();
    for (int64_t i = 0; i < points; ++i) {
      padded[radius + i] = unit_interval(work.point_words[2 * i + axis]) * size[axis];
    }
    reflect_into_padding(padded, points, radius);
    double* smoothed = work.smoothed[axis].data();
    smooth(padded, job.path.taps.data(), radius, points, smoothed);
    const Span span = wide_span_of(smoothed, points);
    for (int64_t time = 0; time < plan.num_frames; ++time) {
      const double point = smoothed[job.path.point_of_frame[time]];
      centers[2 * time + axis] =
          plan.rescale_path ? rescaled(point, span, draft.extent[axis], draft.offset[axis]) : static_cast<float>(point);
    }
  }
}

TUBELETX_MULTIVERSION void write_keyed_centers(const SamplerPlan& plan, const TubeletDraft& draft, float* centers) {
  for (int64_t time = 0; time < plan.num_frames; ++time) {
    const Track::Position position = draft.location.locate(time);
    for (int axis = 0; axis < 2; ++axis) centers[2 * time + axis] = draft.location.at(position, axis);
  }
}

/// Linear maps and opacities; returns the mean area in pixels.
TUBELETX_MULTIVERSION float write_poses(const SamplerPlan& plan, const TubeletDraft& draft, float* linear,
                                        float* opacity) {
  double area = 0.0;
  for (int64_t time = 0; time < plan.num_frames; ++time) {
    const LinearMap map = linear_map_at(plan, draft, time);
    for (int i = 0; i < 4; ++i) linear[4 * time + i] = map.linear[i];
    opacity[time] = draft.opacity.at(draft.opacity.locate(time), 0);
    area += map.area;
  }
  return mean_area(plan, draft, area);
}

void sample(const SampleTubelets& job, const DrawStream& stream, int64_t position, Workspace& work) {
  const SamplerPlan& plan = job.plan;
  const TubeletFields& fields = job.fields;
  const int64_t frames = plan.num_frames;
  for (int32_t tubelet = 0; tubelet < plan.num_tubelets; ++tubelet) {
    const uint32_t first_draw = static_cast<uint32_t>(tubelet) * kDrawsPerTubelet;
    std::vector<uint32_t>& words = tubelet == 0 ? work.first_words : work.words;
    draw_blocks(stream, first_draw, kPointBlocks, words.data());
    TubeletDraft draft;
    draw_tubelet(plan, words.data(), work.first_words.data(), draft);

    const int64_t index = position * plan.num_tubelets + tubelet;
    float* centers = fields.centers + index * frames * 2;
    if (plan.motion == kNonLinearMotion) {
      draw_blocks(stream, first_draw + kPointBlocks, (plan.num_points + 1) / 2, work.point_words.data());
      write_smoothed_centers(job, draft, work, centers);
    } else {
      write_keyed_centers(plan, draft, centers);
    }
    work.areas[tubelet] = write_poses(plan, draft, fields.linear + index * frames * 4, fields.opacity + index * frames);
    fields.shape[index] = draft.shape;
    fields.edge[index] = draft.edge;
    const int32_t patch_frame = draw_patch_frame(plan, words.data());
    fields.patch_frame[index] = patch_frame;
    draw_patch_box(plan, words.data(), draft, centers + 2 * int64_t{patch_frame}, fields.patch_box + 4 * index);
  }
  for (int32_t tubelet = 0; tubelet < plan.num_tubelets; ++tubelet) {
    fields.order[position * plan.num_tubelets + tubelet] = paint_rank(work.areas.data(), plan.num_tubelets, tubelet);
  }
}

}  // namespace

void draw_tubelets(const SamplerPlan& plan, const SamplerSettings& settings, const int64_t* sample_ids, int64_t batch,
                   int64_t seed, uint32_t epoch, const TubeletFields& fields) {
  const PathPlan path(settings.sigma[0], plan.num_points, plan.num_frames);
  const SampleTubelets job = {plan, path, fields};
  parallel_for(batch, kSamplesPerTask, [&](int64_t begin, int64_t end) {
    Workspace work(plan, path.radius);
    for (int64_t position = begin; position < end; ++position) {
      const DrawStream stream = {static_cast<uint64_t>(seed), static_cast<uint64_t>(sample_ids[position]), epoch};
      sample(job, stream, position, work);
    }
  });
}

namespace {

std::tuple<Tensor, Tensor> sample_tubelets(const Tensor& sample_ids, int64_t seed, int64_t epoch, int64_t num_frames,
                                           int64_t height, int64_t width, const std::vector<double>& settings,
                                           const std::optional<Tensor>& epoch_tensor) {
  const SamplerSettings named = check_settings(settings);
  const SamplerPlan plan = check_sample_tubelets(sample_ids, num_frames, height, width, named);
  const uint32_t checked_epoch = check_epoch(epoch, epoch_tensor, sample_ids);
  const PackedTubelets tubelets(sample_ids, plan);
  const Tensor ids = sample_ids.is_contiguous() ? sample_ids : torch::stable::contiguous(sample_ids);
  draw_tubelets(plan, named, static_cast<const int64_t*>(ids.const_data_ptr()), sample_ids.size(0), seed, checked_epoch,
                tubelets.fields());
  return tubelets.tensors();
}

STABLE_TORCH_LIBRARY_IMPL(tubeletx, CPU, library) { library.impl("sample_tubelets", TORCH_BOX(&sample_tubelets)); }

}  // namespace
}  // namespace tubeletx::cpu
