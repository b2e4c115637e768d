#include "cuda/infonce/warpgroup.h"

namespace tubeletx::cuda {

template void launch_warpgroups<Half>(const QueueInfoNCEArguments&, Stream);

}  // namespace tubeletx::cuda
