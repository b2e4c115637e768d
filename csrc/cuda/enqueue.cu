// Ring-buffer write of the queue of negatives. The host never learns where the pointer stands: one kernel reads it, and
// the next, which the stream runs after the first, moves it on.
#include "cuda/enqueue.h"

#include <algorithm>

#include "cuda/device.h"

namespace tubeletx::cuda {
namespace {

constexpr int kEnqueueThreads = 256;

/// The host cannot check the pointer without waiting for it; one out of range must still not reach foreign memory.
TUBELETX_DEVICE int64_t slot_of(int64_t position, int64_t slots) {
  const int64_t rest = position % slots;
  return rest < 0 ? rest + slots : rest;
}

TUBELETX_KERNEL(kEnqueueThreads, 1)
enqueue_write(TUBELETX_KERNEL_ARGUMENT EnqueueArguments arguments) {
  const int64_t start = slot_of(*arguments.pointer, arguments.slots);
  // Of more keys than slots only the last ones survive, each in the slot where a row by row write would leave it.
  const int64_t first = arguments.batch > arguments.slots ? arguments.batch - arguments.slots : 0;
  const int64_t elements = (arguments.batch - first) * arguments.features;
  const int64_t step = device::blocks_of_grid() * kEnqueueThreads;
  for (int64_t i = device::block_x() * kEnqueueThreads + device::thread(); i < elements; i += step) {
    const int64_t row = first + i / arguments.features;
    const int64_t column = i % arguments.features;
    const int64_t slot = (start + row % arguments.slots) % arguments.slots;
    store_number(arguments.queue, slot * arguments.queue.strides[0] + column * arguments.queue.strides[1],
                 load_number(arguments.keys, row * arguments.keys.strides[0] + column * arguments.keys.strides[1]));
  }
}

TUBELETX_KERNEL(1, 1)
enqueue_advance(TUBELETX_KERNEL_ARGUMENT EnqueueArguments arguments) {
  *arguments.pointer =
      (slot_of(*arguments.pointer, arguments.slots) + arguments.batch % arguments.slots) % arguments.slots;
}

}  // namespace

void launch_enqueue(const EnqueueArguments& arguments, Stream stream) {
  constexpr int64_t kMostBlocks = 4096;
  const int64_t rows = std::min(arguments.batch, arguments.slots);
  const int64_t blocks = std::min((rows * arguments.features + kEnqueueThreads - 1) / kEnqueueThreads, kMostBlocks);
  if (blocks > 0) device::launch("enqueue_", enqueue_write, blocks, 1, kEnqueueThreads, 0, arguments, stream);
  device::launch("enqueue_", enqueue_advance, 1, 1, 1, 0, arguments, stream);
}

}  // namespace tubeletx::cuda
