#include "cuda/infonce/warpgroup.h"

namespace tubeletx::cuda {

template void launch_warpgroups<BFloat16>(const QueueInfoNCEArguments&, Stream);

#ifdef __CUDACC__
bool have_warpgroups() {
  return device::has_fixed_shared_memory(queue_infonce_warpgroups<BFloat16, WarpgroupTile<1, 1>>, kQueueInfoNCE);
}
#endif

}  // namespace tubeletx::cuda
