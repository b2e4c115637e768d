#include "cuda/infonce/matrix.h"

namespace tubeletx::cuda {

template void launch_matrix<Half>(const QueueInfoNCEArguments&, Stream);

}  // namespace tubeletx::cuda
