// Gradients of queue InfoNCE, in one kernel: O(B D), the queue is not looked at again. A block takes a row.
#include "cuda/queue_infonce_backward.h"

#include "cuda/device.h"

namespace tubeletx::cuda {
namespace {

template <typename Element>
struct WriteGradients {
  static constexpr int kThreads = 128;

  QueueInfoNCEGradients<Element> gradients;

  int64_t num_blocks() const { return gradients.batch; }
  int64_t shared_bytes() const { return 0; }

  TUBELETX_DEVICE void operator()(int64_t block) const {
    const auto row = gradients.row(block);
#pragma unroll 1
    for (int64_t feature = device::thread(); feature < gradients.features; feature += kThreads) {
      if (gradients.query_gradient != nullptr) gradients.write_query_gradient(row, block, feature);
      if (gradients.key_gradient != nullptr) gradients.write_key_gradient(row, block, feature);
    }
  }
};

}  // namespace

template <typename Element>
void launch_queue_infonce_backward(const QueueInfoNCEGradients<Element>& gradients, Stream stream) {
  device::launch("queue_infonce_backward", WriteGradients<Element>{gradients}, stream);
}

template void launch_queue_infonce_backward(const QueueInfoNCEGradients<Half>&, Stream);
template void launch_queue_infonce_backward(const QueueInfoNCEGradients<BFloat16>&, Stream);
template void launch_queue_infonce_backward(const QueueInfoNCEGradients<float>&, Stream);
template void launch_queue_infonce_backward(const QueueInfoNCEGradients<double>&, Stream);

}  // namespace tubeletx::cuda
