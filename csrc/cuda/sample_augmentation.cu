#include "cuda/sample_augmentation.h"

#include <algorithm>

#include "cuda/device.h"

namespace tubeletx::cuda {
namespace {

constexpr int kDrawThreads = 64;

TUBELETX_KERNEL(kDrawThreads, 1)
draw_augmentations(TUBELETX_KERNEL_ARGUMENT SampleAugmentation arguments) {
  const uint32_t epoch =
      arguments.epoch_on_device == nullptr ? arguments.epoch : static_cast<uint32_t>(*arguments.epoch_on_device);
  const int64_t step = device::blocks_of_grid() * kDrawThreads;
  for (int64_t index = device::block_x() * kDrawThreads + device::thread();
       index < arguments.batch * arguments.plan.num_clips; index += step) {
    write_augmentation(arguments.plan, arguments.seed, epoch, arguments.sample_ids, index, arguments.fields);
  }
}

}  // namespace

void launch_sample_augmentation(const SampleAugmentation& arguments, Stream stream) {
  constexpr int64_t kMostBlocks = 1 << 16;
  const int64_t count = arguments.batch * arguments.plan.num_clips;
  const int64_t blocks = std::min((count + kDrawThreads - 1) / kDrawThreads, kMostBlocks);
  if (blocks == 0) return;
  device::launch("sample_augmentation", draw_augmentations, blocks, 1, kDrawThreads, 0, arguments, stream);
}

}  // namespace tubeletx::cuda
