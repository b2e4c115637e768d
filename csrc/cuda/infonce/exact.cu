#include "cuda/infonce/exact.h"

namespace tubeletx::cuda {

void launch_exact(const QueueInfoNCEArguments& arguments, Stream stream) {
  const auto launch = [&](void (*kernel)(QueueInfoNCEArguments)) {
    launch_planned(kernel, arguments, arguments.plan, stream);
  };
  switch (arguments.plan.kernel) {
    case QueueKernel::kExact128:
      return launch(queue_infonce_exact<float, ExactTile128>);
    case QueueKernel::kExact256:
      return launch(queue_infonce_exact<float, ExactTile256>);
    case QueueKernel::kExact512:
      return launch(queue_infonce_exact<float, ExactTile512>);
    default:
      return launch(queue_infonce_exact<double, DoubleTile128>);
  }
}

}  // namespace tubeletx::cuda
