// Gradients of queue InfoNCE: the launcher.
#pragma once

#include "core/queue_infonce_gradients.h"
#include "cuda/stream.h"

namespace tubeletx::cuda {

/// Instantiated for Half, BFloat16, float and double.
template <typename Element>
void launch_queue_infonce_backward(const QueueInfoNCEGradients<Element>& gradients, Stream stream);

}  // namespace tubeletx::cuda
