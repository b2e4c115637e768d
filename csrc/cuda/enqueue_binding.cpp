#include "cuda/binding.h"
#include "cuda/enqueue.h"
#include "cuda/tensor_numbers.h"
#include "ops/enqueue.h"

namespace tubeletx::cuda {
namespace {

void enqueue_(const Tensor& queue, const Tensor& pointer, const Tensor& keys) {
  check_enqueue(queue, pointer, keys);
  const Device device(queue);
  launch_enqueue({numbers_of(queue), numbers_of(keys), pointer.mutable_data_ptr<int64_t>(), queue.size(0), keys.size(0),
                  queue.size(1)},
                 device.stream());
}

TUBELETX_CUDA_OPERATORS(library) { library.impl("enqueue_", TORCH_BOX(&enqueue_)); }

}  // namespace
}  // namespace tubeletx::cuda
