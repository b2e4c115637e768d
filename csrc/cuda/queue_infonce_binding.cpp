#include <torch/csrc/stable/ops.h>

#include "cuda/binding.h"
#include "cuda/queue_infonce.h"
#include "cuda/tensor_numbers.h"
#include "ops/queue_infonce.h"

namespace tubeletx::cuda {
namespace {

/// Whether rows can be read eight numbers at a time, a whole number of times, from 16-byte aligned places.
bool is_aligned(const Tensor& rows) {
  const int64_t vector = 16 / rows.element_size();
  return rows.stride(1) == 1 && rows.stride(0) % vector == 0 && rows.size(1) % 8 == 0 &&
         reinterpret_cast<uintptr_t>(rows.const_data_ptr()) % 16 == 0;
}

std::tuple<Tensor, Tensor, Tensor, Tensor> queue_infonce(const Tensor& query, const Tensor& key, const Tensor& queue,
                                                         const std::optional<Tensor>& own_negatives, double temperature,
                                                         bool need_gradient) {
  const QueueInfoNCESize size = check_queue_infonce(query, key, queue, own_negatives, temperature);
  const Device device(query);
  QueueInfoNCEArguments arguments{};
  arguments.batch = size.batch;
  arguments.queue_size = size.queue;
  arguments.features = size.features;
  arguments.own_size = size.own;
  arguments.query = numbers_of(query);
  arguments.key = numbers_of(key);
  arguments.queue = numbers_of(queue);
  if (own_negatives.has_value()) arguments.own = numbers_of(*own_negatives);
  arguments.scale = 1 / temperature;
  arguments.need_gradient = need_gradient;
  const bool is_double = query.scalar_type() == ScalarType::Double;
  arguments.queue_is_aligned = is_aligned(queue);
  arguments.plan = plan_queue_infonce(arguments, multiprocessors());
  // Off the matrix units, half precision is converted on the way to shared memory.
  if (arguments.plan.parts == 0 && queue.element_size() == 2) arguments.queue_is_aligned = false;
  arguments.query_is_aligned = is_aligned(query) && is_aligned(key);

  const auto make = [&](std::initializer_list<int64_t> sizes, ScalarType dtype) {
    return torch::stable::new_empty(query, sizes, dtype);
  };
  const ScalarType dtype = is_double ? ScalarType::Double : ScalarType::Float;
  Tensor loss = make({size.batch}, dtype);
  Tensor rank = make({size.batch}, ScalarType::Long);
  Tensor log_sum_exp = make({size.batch}, dtype);
  Tensor negative_mean = make({need_gradient ? size.batch : 0, size.features}, dtype);
  arguments.loss = loss.mutable_data_ptr();
  arguments.rank = rank.mutable_data_ptr<int64_t>();
  arguments.log_sum_exp = log_sum_exp.mutable_data_ptr();
  arguments.negative_mean = negative_mean.mutable_data_ptr();

  const auto lay = [&](char* base) {
    return is_double ? lay_out<double>(arguments, base) : lay_out<float>(arguments, base);
  };
  const Tensor workspace = make({lay(nullptr)}, ScalarType::Byte);
  lay(static_cast<char*>(workspace.mutable_data_ptr()));
  launch_queue_infonce(arguments, device.stream());
  return {loss, rank, log_sum_exp, negative_mean};
}

TUBELETX_CUDA_OPERATORS(library) { library.impl("queue_infonce", TORCH_BOX(&queue_infonce)); }

}  // namespace
}  // namespace tubeletx::cuda
