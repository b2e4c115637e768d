// InfoNCE of each query against its key and a queue of negatives: which kernels run, in which order, on how many
// blocks.
#include "cuda/queue_infonce.h"

#include <cstdlib>

#include "cuda/infonce/combine.h"
#include "cuda/infonce/exact.h"
#include "cuda/infonce/matrix.h"
#include "cuda/infonce/warpgroup.h"

namespace tubeletx::cuda {
namespace {

constexpr const char* kName = "queue_infonce";

using QueueInfoNCEKernel = void (*)(QueueInfoNCEArguments);

template <typename Element>
QueueInfoNCEKernel matrix_kernel(QueueKernel kernel) {
  switch (kernel) {
    case QueueKernel::kSmallMatrix64:
      return queue_infonce_matrix<Element, SmallMatrixTile64>;
    case QueueKernel::kLargeMatrix64:
      return queue_infonce_matrix<Element, LargeMatrixTile64>;
    case QueueKernel::kSmallMatrix128:
      return queue_infonce_matrix<Element, SmallMatrixTile128>;
    case QueueKernel::kLargeMatrix128:
      return queue_infonce_matrix<Element, LargeMatrixTile128>;
    case QueueKernel::kSmallMatrix256:
      return queue_infonce_matrix<Element, SmallMatrixTile256>;
    case QueueKernel::kLargeMatrix256:
      return queue_infonce_matrix<Element, LargeMatrixTile256>;
    default:
      return queue_infonce_matrix<Element, MatrixTile512>;
  }
}

bool uses_warpgroups(const QueueInfoNCEPlan& plan) {
  return plan.kernel == QueueKernel::kWarpgroup64 || plan.kernel == QueueKernel::kWarpgroup128;
}

template <typename Element>
auto warpgroup_kernel(const QueueInfoNCEPlan& plan) {
  if (plan.kernel == QueueKernel::kWarpgroup64) {
    return plan.parts == 1 ? queue_infonce_warpgroups<Element, WarpgroupTile<1, 1>>
                           : queue_infonce_warpgroups<Element, WarpgroupTile<1, 2>>;
  }
  return plan.parts == 1 ? queue_infonce_warpgroups<Element, WarpgroupTile<2, 1>>
                         : queue_infonce_warpgroups<Element, WarpgroupTile<2, 2>>;
}

void launch_warpgroups(const QueueInfoNCEArguments& arguments, Stream stream) {
  const QueueInfoNCEPlan& plan = arguments.plan;
  const bool is_half = arguments.queue.type == NumberType::kHalf;
  const WarpgroupArguments all{
      device::map_matrix(kName, is_half, arguments.queue.data, arguments.queue_size, arguments.features,
                         arguments.queue.strides[0], WarpgroupTile<1, 1>::negatives),
      arguments};
  device::launch(kName, is_half ? warpgroup_kernel<Half>(plan) : warpgroup_kernel<BFloat16>(plan),
                 plan.row_blocks * plan.splits, 1, static_cast<int>(plan.threads), plan.shared_bytes, all, stream);
}

QueueInfoNCEKernel kernel_over_queue(const QueueInfoNCEArguments& arguments) {
  switch (arguments.plan.kernel) {
    case QueueKernel::kExact128:
      return queue_infonce_exact<float, ExactTile128>;
    case QueueKernel::kExact256:
      return queue_infonce_exact<float, ExactTile256>;
    case QueueKernel::kExact512:
      return queue_infonce_exact<float, ExactTile512>;
    case QueueKernel::kDouble128:
      return queue_infonce_exact<double, DoubleTile128>;
    default:
      return arguments.queue.type == NumberType::kHalf ? matrix_kernel<Half>(arguments.plan.kernel)
                                                       : matrix_kernel<BFloat16>(arguments.plan.kernel);
  }
}

template <typename T>
void run(const QueueInfoNCEArguments& arguments, Stream stream) {
  const QueueInfoNCEPlan& plan = arguments.plan;
  if (arguments.batch == 0) return;
  const auto launch = [&](QueueInfoNCEKernel kernel, int64_t blocks_x, int64_t blocks_y, int threads, int64_t shared) {
    device::launch(kName, kernel, blocks_x, blocks_y, threads, shared, arguments, stream);
  };
  if (plan.splits > 0 && uses_warpgroups(plan)) {
    launch_warpgroups(arguments, stream);
  } else if (plan.splits > 0) {
    launch(kernel_over_queue(arguments), plan.row_blocks * plan.splits, plan.slices, static_cast<int>(plan.threads),
           plan.shared_bytes);
  }
  const int64_t slices = arguments.need_gradient ? infonce::divide_up(arguments.features, kCombineColumns) : 1;
  launch(queue_infonce_combine<T>, arguments.batch * slices, 1, kCombineWarps * device::kWarp,
         sizeof(CombineMemory<T>));
}

}  // namespace

Multiprocessors multiprocessors() {
#ifdef __CUDACC__
  const auto attribute = [](cudaDeviceAttr name) {
    int device = 0;
    int value = 0;
    check_launch(cudaGetDevice(&device), kName);
    check_launch(cudaDeviceGetAttribute(&value, name, device), kName);
    return static_cast<int64_t>(value);
  };
  return {attribute(cudaDevAttrMultiProcessorCount), attribute(cudaDevAttrMaxSharedMemoryPerMultiprocessor),
          device::has_fixed_shared_memory(queue_infonce_warpgroups<BFloat16, WarpgroupTile<1, 1>>, kName)};
#else
  // Few by default, so that a block of a small example works through several tiles.
  const char* count = std::getenv("TUBELETX_EMULATED_MULTIPROCESSORS");
  const char* warpgroups = std::getenv("TUBELETX_EMULATED_WARPGROUPS");
  return {count == nullptr ? 3 : std::atoll(count), 228 * 1024, warpgroups == nullptr || std::atoi(warpgroups) != 0};
#endif
}

void launch_queue_infonce(const QueueInfoNCEArguments& arguments, Stream stream) {
  if (arguments.query.type == NumberType::kDouble) {
    run<double>(arguments, stream);
  } else {
    run<float>(arguments, stream);
  }
}

}  // namespace tubeletx::cuda
