// Queue InfoNCE: the launcher.
#pragma once

#include "cuda/infonce/plan.h"
#include "cuda/stream.h"

namespace tubeletx::cuda {

/// Of the current device.
Multiprocessors multiprocessors();

/// Fills the outputs. No kernel waits for the host, no block for another block, and no two add to the same memory: the
/// order of every sum is fixed.
void launch_queue_infonce(const QueueInfoNCEArguments& arguments, Stream stream);

}  // namespace tubeletx::cuda
