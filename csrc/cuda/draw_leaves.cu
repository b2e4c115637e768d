// Dead leaves on the GPU: a thread for each leaf in each frame finds its outline and its texture; then a warp for each
// stretch of a row asks the leaves from the front to the back which of its pixels they cover, until all are.
#include "cuda/draw_leaves.h"

#include <algorithm>

#include "cuda/device.h"

namespace tubeletx::cuda {
namespace {

constexpr int kPoseThreads = 128;
constexpr int kShadeThreads = 128;
constexpr int kWarpsOfBlock = kShadeThreads / device::kWarp;
constexpr int kPixelsOfThread = 8;
constexpr int kStretch = kPixelsOfThread * device::kWarp;

TUBELETX_DEVICE int64_t leaves_of_frame(const LeavesPlan& plan) { return plan.num_leaves + 1; }

TUBELETX_KERNEL(kPoseThreads, 1)
pose_leaves(TUBELETX_KERNEL_ARGUMENT LeavesArguments arguments) {
  const LeavesPlan& plan = arguments.plan;
  const int64_t leaves = leaves_of_frame(plan);
  const uint32_t epoch =
      arguments.epoch_on_device ? static_cast<uint32_t>(*arguments.epoch_on_device) : arguments.epoch;
  const int64_t step = device::blocks_of_grid() * kPoseThreads;
  const int64_t count = arguments.batch * plan.num_frames * leaves;
  for (int64_t i = device::block_x() * kPoseThreads + device::thread(); i < count; i += step) {
    const int64_t b = i / (leaves * plan.num_frames);
    const int32_t frame = static_cast<int32_t>(i / leaves % plan.num_frames);
    const DrawStream stream = leaf_stream(arguments.seed, static_cast<uint64_t>(arguments.sample_ids[b]), epoch);
    const LeafClip clip = draw_leaf_clip(plan, stream);
    const Leaf leaf = draw_leaf(plan, clip, stream, static_cast<int32_t>(i % leaves));
    pose_leaf(plan, clip, leaf, CurveWeights(frame, plan.num_frames), arguments.rows[i], arguments.outlines[i],
              arguments.textures[i]);
  }
}

TUBELETX_KERNEL(kShadeThreads, 1)
shade_leaves(TUBELETX_KERNEL_ARGUMENT LeavesArguments arguments) {
  const LeavesPlan& plan = arguments.plan;
  const int lane = device::thread() % device::kWarp;
  const int64_t stretches = (plan.width + kStretch - 1) / kStretch;
  const int64_t count = arguments.batch * plan.num_frames * plan.height * stretches;
  const int64_t step = device::blocks_of_grid() * kWarpsOfBlock;
  for (int64_t i = device::block_x() * kWarpsOfBlock + device::thread() / device::kWarp; i < count; i += step) {
    const int32_t start = static_cast<int32_t>(i % stretches) * kStretch;
    const int32_t row = static_cast<int32_t>(i / stretches % plan.height);
    const int64_t frame = i / (stretches * plan.height);
    const int64_t first = frame * leaves_of_frame(plan);

    int32_t owner[kPixelsOfThread];
    uint32_t bare = 0;  // which of this thread's pixels no leaf covers yet
    TUBELETX_UNROLL
    for (int p = 0; p < kPixelsOfThread; ++p) {
      owner[p] = plan.num_leaves;
      if (start + p * device::kWarp + lane < plan.width) bare |= 1u << p;
    }
    for (int32_t from = 0; from < plan.num_leaves; from += device::kWarp) {
      if (device::ballot(bare != 0) == 0) break;
      int32_t begin = 0, end = 0;
      if (from + lane < plan.num_leaves) {
        const LeafRows rows = arguments.rows[first + from + lane];
        if (rows.begin <= row && row < rows.end) {
          leaf_span(arguments.outlines[first + from + lane], row, plan.width, begin, end);
        }
      }
      uint32_t crossing = device::ballot(begin < end && end > start && begin < start + kStretch);
      while (crossing != 0) {
        const int source = device::lowest_bit(crossing);
        crossing &= crossing - 1;
        const int32_t span_begin = device::shuffle(begin, source), span_end = device::shuffle(end, source);
        TUBELETX_UNROLL
        for (int p = 0; p < kPixelsOfThread; ++p) {
          const int32_t column = start + p * device::kWarp + lane;
          if ((bare >> p & 1u) && span_begin <= column && column < span_end) {
            owner[p] = from + source;
            bare &= ~(1u << p);
          }
        }
      }
    }

    uint8_t* pixels = arguments.pixels + kChannelsOfLeaves * (frame * plan.height + row) * plan.width;
    TUBELETX_UNROLL
    for (int p = 0; p < kPixelsOfThread; ++p) {
      const int32_t column = start + p * device::kWarp + lane;
      if (column < plan.width) {
        const LeafWords words = {arguments.textures[first + owner[p]].origin, 0};
        const uint32_t colour = shade_leaf(words, static_cast<uint32_t>(column), static_cast<uint32_t>(row));
        for (int c = 0; c < kChannelsOfLeaves; ++c) {
          pixels[kChannelsOfLeaves * column + c] = static_cast<uint8_t>(colour >> (8 * c));
        }
      }
    }
  }
}

int64_t grid_for(int64_t count, int64_t of_block) {
  constexpr int64_t kMostBlocks = int64_t{1} << 30;
  return std::min((count + of_block - 1) / of_block, kMostBlocks);
}

}  // namespace

void launch_draw_leaves(const LeavesArguments& arguments, Stream stream) {
  const LeavesPlan& plan = arguments.plan;
  const int64_t frames = arguments.batch * plan.num_frames;
  if (frames == 0) return;
  device::launch("draw_leaves", pose_leaves, grid_for(frames * (plan.num_leaves + 1), kPoseThreads), 1, kPoseThreads, 0,
                 arguments, stream);
  const int64_t stretches = (plan.width + kStretch - 1) / kStretch;
  device::launch("draw_leaves", shade_leaves, grid_for(frames * plan.height * stretches, kWarpsOfBlock), 1,
                 kShadeThreads, 0, arguments, stream);
}

}  // namespace tubeletx::cuda
