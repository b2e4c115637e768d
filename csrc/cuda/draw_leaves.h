// Dead leaves: the launcher.
#pragma once

#include "core/leaves.h"
#include "cuda/stream.h"

namespace tubeletx::cuda {

struct LeavesArguments {
  LeavesPlan plan;
  uint64_t seed;
  uint32_t epoch;
  const int64_t* epoch_on_device;  ///< or null
  int64_t batch;
  const int64_t* sample_ids;
  // Room for what leaves are in each frame, (B, T, N + 1), the backdrop last.
  LeafRows* rows;
  LeafOutline* outlines;
  LeafTexture* textures;
  uint8_t* pixels;  ///< (B, T, H, W, 3)
};

void launch_draw_leaves(const LeavesArguments& arguments, Stream stream);

}  // namespace tubeletx::cuda
