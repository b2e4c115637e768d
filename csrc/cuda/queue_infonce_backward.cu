// Gradients of queue InfoNCE, in one kernel: O(B D), the queue is not looked at again. A block takes a row.
#include "cuda/queue_infonce_backward.h"

namespace tubeletx::cuda {
namespace {

template <typename Element>
struct WriteGradients {
  static constexpr int kThreads = 128;

  QueueInfoNCEGradients<Element> gradients;

  TUBELETX_HOST_DEVICE int64_t num_blocks() const { return gradients.batch; }
  int64_t shared_bytes() const { return 0; }

  TUBELETX_HOST_DEVICE void operator()(const Block& block, void*) const {
    block.each_thread([&](int thread) {
      const auto row = gradients.row(block.index);
#pragma unroll 1
      for (int64_t feature = thread; feature < gradients.features; feature += kThreads) {
        if (gradients.query_gradient != nullptr) gradients.write_query_gradient(row, block.index, feature);
        if (gradients.key_gradient != nullptr) gradients.write_key_gradient(row, block.index, feature);
      }
    });
  }
};

}  // namespace

template <typename Element>
void launch_queue_infonce_backward(const QueueInfoNCEGradients<Element>& gradients, Stream stream) {
  launch("queue_infonce_backward", WriteGradients<Element>{gradients}, stream);
}

template void launch_queue_infonce_backward(const QueueInfoNCEGradients<Half>&, Stream);
template void launch_queue_infonce_backward(const QueueInfoNCEGradients<BFloat16>&, Stream);
template void launch_queue_infonce_backward(const QueueInfoNCEGradients<float>&, Stream);
template void launch_queue_infonce_backward(const QueueInfoNCEGradients<double>&, Stream);

}  // namespace tubeletx::cuda
