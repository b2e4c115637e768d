// The kernels that pass over the queue, each family compiled in files of its own: they take long.
#pragma once

#include "cuda/infonce/plan.h"
#include "cuda/stream.h"

namespace tubeletx::cuda {

constexpr const char* kQueueInfoNCE = "queue_infonce";

/// Whether the build and the current device have the kernels of `launch_warpgroups`.
bool have_warpgroups();

// They queue the kernel that the plan names. Instantiated for Half and BFloat16, the type of the queue.
void launch_exact(const QueueInfoNCEArguments& arguments, Stream stream);
template <typename Element>
void launch_matrix(const QueueInfoNCEArguments& arguments, Stream stream);
template <typename Element>
void launch_warpgroups(const QueueInfoNCEArguments& arguments, Stream stream);

}  // namespace tubeletx::cuda
