#include "cuda/infonce/matrix.h"

namespace tubeletx::cuda {

template void launch_matrix<BFloat16>(const QueueInfoNCEArguments&, Stream);

}  // namespace tubeletx::cuda
