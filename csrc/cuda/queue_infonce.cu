// InfoNCE of each query against its key and a queue of negatives: which kernels run, in which order, on how many
// blocks.
//
// Where the time goes on an H100 (bfloat16, D = 128, us by the profiler, after this design / before it):
//
//   B, K          pass over the queue   combine      gradients   torch's mean and its gradient
//   32, 16384     10.4 / 17.3           3.8 / 5      1.6 / 1.9   4.4
//   256, 65536    42.5 / 52.7           6.5 / 26     1.8 / 2.1   4.6
//
// The queue's bytes take 1.4 and 5.6 us, the products .3 and 10.8: the rest is latency and instructions. At B = 32 a
// block asks for its whole share, 32 KiB, before anything else; then come a wait for memory, the queries' preparation,
// 64 products a warp, two barriers, and the scores that are computed again, one more wait. At B = 256 a warp runs 710
// instructions a tile of 128 negatives (815 when this was measured, 1,180 before): 270 find the largest and count,
// three of them a score and those in the pipe of multiply-adds, not of comparisons; 290 make weights; 24 are products,
// which take a warpgroup 1,024 cycles and both 2,048. Combining reads what the pass writes, 2 and 8.4 MB, from the
// cache.
//
// To start the combination early, while the pass runs, did not pay: 23.0 against 22.3 us in all, 57.1 against 56.5.
#include "cuda/queue_infonce.h"

#include <cstdlib>

#include "cuda/infonce/combine.h"
#include "cuda/infonce/launchers.h"

namespace tubeletx::cuda {
namespace {

template <typename Element>
void pass_over_queue(const QueueInfoNCEArguments& arguments, Stream stream) {
  const QueueKernel kernel = arguments.plan.kernel;
  if (kernel == QueueKernel::kWarpgroup64 || kernel == QueueKernel::kWarpgroup128) {
    launch_warpgroups<Element>(arguments, stream);
  } else {
    launch_matrix<Element>(arguments, stream);
  }
}

void pass_over_queue(const QueueInfoNCEArguments& arguments, Stream stream) {
  if (arguments.plan.parts == 0) {
    launch_exact(arguments, stream);
  } else if (arguments.queue.type == NumberType::kHalf) {
    pass_over_queue<Half>(arguments, stream);
  } else {
    pass_over_queue<BFloat16>(arguments, stream);
  }
}

template <typename T>
void combine(const QueueInfoNCEArguments& arguments, Stream stream) {
  const int64_t slices = arguments.need_gradient ? infonce::divide_up(arguments.features, kCombineColumns) : 1;
  device::launch(kQueueInfoNCE, queue_infonce_combine<T>, arguments.batch, slices, kCombineThreads,
                 sizeof(CombineMemory<T>), arguments, stream);
}

}  // namespace

Multiprocessors multiprocessors() {
#ifdef __CUDACC__
  int device = 0;
  check_launch(cudaGetDevice(&device), kQueueInfoNCE);
  const auto attribute = [&](cudaDeviceAttr name) {
    int value = 0;
    check_launch(cudaDeviceGetAttribute(&value, name, device), kQueueInfoNCE);
    return static_cast<int64_t>(value);
  };
  return {attribute(cudaDevAttrMultiProcessorCount), attribute(cudaDevAttrMaxSharedMemoryPerMultiprocessor),
          have_warpgroups()};
#else
  // Few by default, so that a block of a small example works through several tiles.
  const char* count = std::getenv("TUBELETX_EMULATED_MULTIPROCESSORS");
  const char* warpgroups = std::getenv("TUBELETX_EMULATED_WARPGROUPS");
  const char* shared_bytes = std::getenv("TUBELETX_EMULATED_SHARED_BYTES");
  return {count == nullptr ? 3 : std::atoll(count), shared_bytes == nullptr ? 228 * 1024 : std::atoll(shared_bytes),
          warpgroups == nullptr || std::atoi(warpgroups) != 0};
#endif
}

void launch_queue_infonce(const QueueInfoNCEArguments& arguments, Stream stream) {
  if (arguments.batch == 0) return;
  pass_over_queue(arguments, stream);
  if (arguments.query.type == NumberType::kDouble) {
    combine<double>(arguments, stream);
  } else {
    combine<float>(arguments, stream);
  }
}

}  // namespace tubeletx::cuda
