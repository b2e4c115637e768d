// Dead leaves on the CPU: each frame's leaves are laid down from the back to the front as numbers, span by span, and
// then each pixel is painted once, with the texture of the leaf whose number it holds.
#include "ops/draw_leaves.h"

#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <vector>

#include "cpu/multiversion.h"
#include "cpu/parallel.h"

namespace tubeletx::cpu {
namespace {

using Number = uint16_t;  // of a leaf
static_assert(kMaxLeaves <= UINT16_MAX, "the backdrop has a number too");

struct ClipOfLeaves {
  LeafClip shared;
  std::vector<Leaf> leaves;  ///< the backdrop last
};

/// One thread's room for a frame.
struct Workspace {
  explicit Workspace(const LeavesPlan& plan)
      : rows(plan.num_leaves + 1),
        outlines(plan.num_leaves + 1),
        textures(plan.num_leaves + 1),
        begins(plan.height),
        ends(plan.height),
        numbers(static_cast<size_t>(plan.height) * plan.width),
        colours(plan.width) {}

  std::vector<LeafRows> rows;
  std::vector<LeafOutline> outlines;
  std::vector<LeafTexture> textures;
  std::vector<int32_t> begins, ends;
  std::vector<Number> numbers;
  std::vector<uint32_t> colours;
};

TUBELETX_MULTIVERSION void find_spans(const LeafOutline& outline, LeafRows rows, int32_t width, int32_t* begins,
                                      int32_t* ends) {
  const LeafOutline fixed = outline;
  for (int32_t row = rows.begin; row < rows.end; ++row) leaf_span(fixed, row, width, begins[row], ends[row]);
}

/// The colours of a row of pixels.
TUBELETX_MULTIVERSION void shade_row(const Number* numbers, const LeafTexture* textures, int32_t row, int32_t width,
                                     uint32_t* __restrict colours) {
  const uint32_t* words = textures->origin;
  for (int32_t column = 0; column < width; ++column) {
    const int32_t first = static_cast<int32_t>(numbers[column]) * kLeafTextureWords;
    colours[column] = shade_leaf({words, first}, static_cast<uint32_t>(column), static_cast<uint32_t>(row));
  }
}

TUBELETX_MULTIVERSION void store_row(const uint32_t* colours, int32_t width, uint8_t* pixels) {
  for (int32_t column = 0; column < width; ++column) {
    for (int c = 0; c < kChannelsOfLeaves; ++c) {
      pixels[kChannelsOfLeaves * column + c] = static_cast<uint8_t>(colours[column] >> (8 * c));
    }
  }
}

ClipOfLeaves draw_clip(const LeavesPlan& plan, const DrawStream& stream) {
  ClipOfLeaves clip{draw_leaf_clip(plan, stream), {}};
  clip.leaves.reserve(plan.num_leaves + 1);
  for (int32_t number = 0; number <= plan.num_leaves; ++number) {
    clip.leaves.push_back(draw_leaf(plan, clip.shared, stream, number));
  }
  return clip;
}

void draw_frame(const LeavesPlan& plan, const ClipOfLeaves& clip, int32_t frame, Workspace& work, uint8_t* pixels) {
  const CurveWeights weights(frame, plan.num_frames);
  for (int32_t number = 0; number <= plan.num_leaves; ++number) {
    pose_leaf(plan, clip.shared, clip.leaves[number], weights, work.rows[number], work.outlines[number],
              work.textures[number]);
  }
  std::fill(work.numbers.begin(), work.numbers.end(), static_cast<Number>(plan.num_leaves));
  for (int32_t number = plan.num_leaves; number-- > 0;) {
    const LeafRows rows = work.rows[number];
    find_spans(work.outlines[number], rows, plan.width, work.begins.data(), work.ends.data());
    for (int32_t row = rows.begin; row < rows.end; ++row) {
      Number* in_row = work.numbers.data() + static_cast<int64_t>(row) * plan.width;
      for (int32_t column = work.begins[row]; column < work.ends[row]; ++column) {
        in_row[column] = static_cast<Number>(number);
      }
    }
  }
  for (int32_t row = 0; row < plan.height; ++row) {
    const int64_t first = static_cast<int64_t>(row) * plan.width;
    shade_row(work.numbers.data() + first, work.textures.data(), row, plan.width, work.colours.data());
    store_row(work.colours.data(), plan.width, pixels + kChannelsOfLeaves * first);
  }
}

Tensor draw_leaves(const Tensor& sample_ids, int64_t seed, int64_t epoch, int64_t num_frames, int64_t height,
                   int64_t width, int64_t num_leaves, const std::vector<double>& radius, double motion, double camera,
                   double turn, double growth, const std::optional<Tensor>& epoch_tensor) {
  const LeavesPlan plan =
      check_draw_leaves(sample_ids, num_frames, height, width, num_leaves, radius, motion, camera, turn, growth);
  const uint32_t checked_epoch = check_epoch(epoch, epoch_tensor, sample_ids);
  const Tensor clips = empty_leaves(sample_ids, plan);
  const Tensor ids = torch::stable::contiguous(sample_ids);
  const int64_t* id = ids.const_data_ptr<int64_t>();
  uint8_t* pixels = clips.mutable_data_ptr<uint8_t>();
  const int64_t batch = sample_ids.size(0);
  const int64_t frames = plan.num_frames;

  std::vector<ClipOfLeaves> drawn(static_cast<size_t>(batch));
  parallel_for(batch, 1, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) {
      drawn[b] = draw_clip(plan, leaf_stream(static_cast<uint64_t>(seed), static_cast<uint64_t>(id[b]), checked_epoch));
    }
  });
  const int64_t frame_bytes = kChannelsOfLeaves * static_cast<int64_t>(plan.height) * plan.width;
  parallel_for(batch * frames, 1, [&](int64_t begin, int64_t end) {
    Workspace work(plan);
    for (int64_t index = begin; index < end; ++index) {
      draw_frame(plan, drawn[index / frames], static_cast<int32_t>(index % frames), work, pixels + index * frame_bytes);
    }
  });
  return clips;
}

STABLE_TORCH_LIBRARY_IMPL(tubeletx, CPU, library) { library.impl("draw_leaves", TORCH_BOX(&draw_leaves)); }

}  // namespace
}  // namespace tubeletx::cpu
