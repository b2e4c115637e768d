// InfoNCE of each query against its key and a queue of negatives: which kernels run, in which order, on how many
// blocks.
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
                 sizeof(CombineMemory<T>), arguments, stream,
                 arguments.plan.combines_early ? device::Start::kEarly : device::Start::kInOrder);
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
  constexpr int captures_early_starts = 12030;
  int driver = 0;
  check_launch(cudaDriverGetVersion(&driver), kQueueInfoNCE);
  const bool warpgroups = have_warpgroups();
  const char* variant = std::getenv("TUBELETX_INFONCE_VARIANT");
  const char name = variant == nullptr ? ' ' : *variant;
  return {attribute(cudaDevAttrMultiProcessorCount), attribute(cudaDevAttrMaxSharedMemoryPerMultiprocessor), warpgroups,
          name == 'w',
          name != 'o' && warpgroups && CUDART_VERSION >= captures_early_starts && driver >= captures_early_starts};
#else
  // Few by default, so that a block of a small example works through several tiles.
  const char* count = std::getenv("TUBELETX_EMULATED_MULTIPROCESSORS");
  const char* warpgroups = std::getenv("TUBELETX_EMULATED_WARPGROUPS");
  const char* shared_bytes = std::getenv("TUBELETX_EMULATED_SHARED_BYTES");
  return {count == nullptr ? 3 : std::atoll(count), shared_bytes == nullptr ? 228 * 1024 : std::atoll(shared_bytes),
          warpgroups == nullptr || std::atoi(warpgroups) != 0, false};
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
