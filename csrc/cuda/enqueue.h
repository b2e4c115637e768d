// Ring-buffer write of the queue: the launcher.
#pragma once

#include "core/enqueue_arguments.h"
#include "cuda/launch.h"

namespace tubeletx::cuda {

void launch_enqueue(const EnqueueArguments& arguments, Stream stream);

}  // namespace tubeletx::cuda
