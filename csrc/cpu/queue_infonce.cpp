// InfoNCE of each query against its key and a queue of negatives that takes no gradient. One pass over the queue gives
// the loss and, since the gradient with respect to a query is a softmax-weighted mean of the queue, all that the
// backward needs as well.
#include "ops/queue_infonce.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <new>
#include <vector>

#include "core/log_sum_exp.h"
#include "cpu/dot.h"
#include "cpu/parallel.h"
#include "cpu/queue_infonce_pass.h"

namespace tubeletx::cpu {
namespace {

template <typename T>
constexpr ScalarType scalar_type() {
  return sizeof(T) == sizeof(float) ? ScalarType::Float : ScalarType::Double;
}

/// A tensor that borrows memory. Made where it is used, a plain tensor of the thread at hand: the operator's arguments
/// may be inference tensors, which other threads must not write.
Tensor borrow(const void* data, std::array<int64_t, 2> sizes, std::array<int64_t, 2> strides, ScalarType dtype) {
  const torch::stable::Device cpu(torch::headeronly::DeviceType::CPU);
  return torch::stable::from_blob(const_cast<void*>(data), sizes, strides, cpu, dtype);
}

struct DeleteAligned {
  void operator()(void* data) const { ::operator delete(data, std::align_val_t{64}); }
};

/// Uninitialised memory, aligned as the widest vectors need it.
template <typename T>
std::unique_ptr<T[], DeleteAligned> make_scratch(int64_t count) {
  return std::unique_ptr<T[], DeleteAligned>(static_cast<T*>(::operator new(count * sizeof(T), std::align_val_t{64})));
}

template <typename T>
Tensor contiguous_as(const Tensor& tensor) {
  if (tensor.scalar_type() != scalar_type<T>()) {
    return torch::stable::contiguous(torch::stable::to(tensor, scalar_type<T>()));
  }
  return tensor.is_contiguous() ? tensor : torch::stable::contiguous(tensor);
}

int64_t divide_up(int64_t value, int64_t divisor) { return (value + divisor - 1) / divisor; }

/// How the work is cut: by the sizes and the processor's vectors, never by the number of threads, so that the bits are
/// the same for any.
struct Partition {
  int64_t block_rows;  // queries of a block
  int64_t blocks;
  int64_t split_rows;  // rows of a split
  int64_t splits;      // parts of the queue, whose states are merged in order

  Partition(const QueueInfoNCESize& size, int64_t block) : block_rows(block), blocks(divide_up(size.batch, block)) {
    constexpr int64_t kSplitFeatures = int64_t{1} << 18;  // 1 MiB stays in the second-level cache for all blocks
    constexpr int64_t kMostSplits = 64;
    split_rows = std::max<int64_t>({divide_up(size.queue, kMostSplits), kSplitFeatures / size.features, 64});
    splits = divide_up(size.queue, split_rows);
  }
};

template <typename T>
class Kernel {
 public:
  Kernel(const QueueInfoNCESize& size, const Tensor& query, const Tensor& key, const Tensor& queue,
         const std::optional<Tensor>& own_negatives, double temperature, bool need_gradient)
      : size_(size),
        partition_(size, queries_of_a_block<T>(size.batch)),
        need_gradient_(need_gradient),
        inverse_temperature_(1 / temperature),
        query_tensor_(contiguous_as<T>(query)),
        key_tensor_(contiguous_as<T>(key)),
        queue_(queue),
        queue_is_direct_(queue.scalar_type() == scalar_type<T>() && queue.stride(1) == 1),
        key_(key_tensor_.template const_data_ptr<T>()),
        query_(size.batch * size.features),
        scale_(size.batch),
        positive_(size.batch),
        tolerance_(size.batch),
        states_(partition_.splits * size.batch, empty_softmax_state<T>()),
        ranks_(partition_.splits * size.batch, 0) {
    if (own_negatives.has_value()) own_tensor_ = contiguous_as<T>(*own_negatives);
    if (need_gradient) means_.resize(partition_.splits * size.batch * size.features);
  }

  std::tuple<Tensor, Tensor, Tensor, Tensor> run() {
    parallel_for(size_.batch, 64, [&](int64_t begin, int64_t end) { prepare(begin, end); });
    parallel_for(partition_.blocks * partition_.splits, 1,
                 [&](int64_t begin, int64_t end) { pass_over_queue(begin, end); });

    const auto make = [&](std::initializer_list<int64_t> sizes, ScalarType dtype) {
      return torch::stable::new_empty(query_tensor_, sizes, dtype);
    };
    Tensor loss = make({size_.batch}, scalar_type<T>());
    Tensor rank = make({size_.batch}, ScalarType::Long);
    Tensor log_sum_exp = make({size_.batch}, scalar_type<T>());
    Tensor negative_mean = make({need_gradient_ ? size_.batch : 0, size_.features}, scalar_type<T>());
    const Outputs outputs{loss.mutable_data_ptr<T>(), rank.mutable_data_ptr<int64_t>(),
                          log_sum_exp.mutable_data_ptr<T>(), negative_mean.mutable_data_ptr<T>()};
    parallel_for(size_.batch, 16, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) finish(row, outputs);
    });
    return {loss, rank, log_sum_exp, negative_mean};
  }

 private:
  struct Outputs {
    T* loss;
    int64_t* rank;
    T* log_sum_exp;
    T* negative_mean;
  };

  /// Scales queries by a power of 2 to numbers below 1, which loses nothing but lets no product overflow, and scores
  /// the positives.
  void prepare(int64_t begin, int64_t end) {
    constexpr double kUnit = sizeof(T) == sizeof(float) ? 0x1p-24 : 0x1p-53;
    for (int64_t row = begin; row < end; ++row) {
      const T* source = query_tensor_.template const_data_ptr<T>() + row * size_.features;
      T largest = 0;
      for (int64_t i = 0; i < size_.features; ++i) largest = std::max(largest, std::abs(source[i]));
      int exponent = 0;
      if (std::isfinite(largest)) std::frexp(largest, &exponent);
      exponent = std::clamp(exponent, -1000, 1000);
      const double power = std::ldexp(1.0, -exponent);
      T* query = query_.data() + row * size_.features;
      for (int64_t i = 0; i < size_.features; ++i) query[i] = static_cast<T>(source[i] * power);
      // Neither 0 nor infinite, whose products with a difference of scores might be NaN.
      scale_[row] = static_cast<T>(std::clamp<double>(std::ldexp(inverse_temperature_, exponent),
                                                      std::numeric_limits<T>::min(), std::numeric_limits<T>::max()));
      const T* key = key_ + row * size_.features;
      positive_[row] = dot(query, key, size_.features);
      tolerance_[row] = static_cast<double>(size_.features) * kUnit *
                        std::sqrt(dot(query, query, size_.features) * dot(key, key, size_.features));
    }
  }

  /// Pieces [begin, end): piece p is split p / blocks of the queue for block p % blocks of the queries, so that a
  /// thread has all blocks pass over a split while it lies in its cache.
  void pass_over_queue(int64_t begin, int64_t end) {
    const auto [block_rows, blocks, split_rows, splits] = partition_;
    const auto scratch = make_scratch<T>(scratch_of_a_block<T>(size_.features));
    const auto converted =
        make_scratch<T>(queue_is_direct_ ? 0 : std::min(split_rows, kConvertedRows) * size_.features);
    for (int64_t piece = begin; piece < end; ++piece) {
      const int64_t split = piece / blocks;
      const int64_t first_row = piece % blocks * block_rows;
      QueuePass<T> pass{};
      pass.queries = std::min(block_rows, size_.batch - first_row);
      pass.features = size_.features;
      pass.query = query_.data() + first_row * size_.features;
      pass.positives = positive_.data() + first_row;
      pass.tolerances = tolerance_.data() + first_row;
      pass.scales = scale_.data() + first_row;
      pass.states = states_.data() + split * size_.batch + first_row;
      pass.ranks = ranks_.data() + split * size_.batch + first_row;
      pass.sums = means(split, first_row);
      pass.scratch = scratch.get();
      pass.are_cached = first_row > 0 || !queue_is_direct_;
      const int64_t last = std::min((split + 1) * split_rows, size_.queue);
      const int64_t step = queue_is_direct_ ? split_rows : kConvertedRows;
      for (int64_t first = split * split_rows; first < last; first += step) {
        pass.count = std::min(step, last - first);
        locate(pass, first, converted.get());
        pass_over_negatives(pass);
      }
    }
  }

  /// Where negatives lie: in the queue itself, or converted to T row by row.
  void locate(QueuePass<T>& pass, int64_t first, T* converted) const {
    const int64_t stride = queue_.stride(0);
    const char* source = static_cast<const char*>(queue_.data_ptr()) + first * stride * queue_.element_size();
    if (queue_is_direct_) {
      pass.negatives = reinterpret_cast<const T*>(source);
      pass.stride = stride;
      return;
    }
    pass.negatives = converted;
    pass.stride = size_.features;
    const std::array<int64_t, 2> sizes{pass.count, size_.features};
    Tensor destination = borrow(converted, sizes, {size_.features, 1}, scalar_type<T>());
    torch::stable::copy_(destination, borrow(source, sizes, {stride, queue_.stride(1)}, queue_.scalar_type()));
  }

  /// Sum of the negatives of a split, each times its weight, for the rows from `row` on.
  T* means(int64_t split, int64_t row) {
    return need_gradient_ ? means_.data() + (split * size_.batch + row) * size_.features : nullptr;
  }

  /// Merges the splits of the queue, the row's own negatives and the positive, in this order.
  void finish(int64_t row, const Outputs& outputs) {
    const int64_t features = size_.features;
    T* mean = need_gradient_ ? outputs.negative_mean + row * features : nullptr;
    if (need_gradient_) std::fill(mean, mean + features, T(0));
    SoftmaxState<T> state = empty_softmax_state<T>();
    int64_t rank = 0;
    const auto add = [&](const SoftmaxState<T>& other, const T* other_mean) {
      const auto [keep, take] = merge_scores(state, other, scale_[row]);
      if (!need_gradient_) return;
      for (int64_t i = 0; i < features; ++i) mean[i] = mean[i] * keep + other_mean[i] * take;
    };

    for (int64_t split = 0; split < partition_.splits; ++split) {
      add(states_[split * size_.batch + row], means(split, row));
      rank += ranks_[split * size_.batch + row];
    }
    for (int64_t own = 0; own < size_.own; ++own) {
      const T* negative = own_tensor_->template const_data_ptr<T>() + (row * size_.own + own) * features;
      const double score = dot(query_.data() + row * features, negative, features);
      add({static_cast<T>(score), T(1)}, negative);
      rank += !(score <= positive_[row]);
    }
    // In double, where logits of any size are finite.
    const double scale = scale_[row];
    const T positive = static_cast<T>(positive_[row]);
    const double difference = (static_cast<double>(state.maximum) - positive) * scale;
    const double loss =
        state.sum == 0 ? 0.0 : log_sum_exp_above(SoftmaxState<double>{difference, static_cast<double>(state.sum)}, 0.0);
    outputs.loss[row] = static_cast<T>(loss);
    outputs.rank[row] = rank;
    outputs.log_sum_exp[row] = static_cast<T>(positive * scale + loss);
    if (!need_gradient_) return;
    const T keep = merge_scores(state, {positive, T(1)}, scale_[row]).keep;
    const T factor = keep / state.sum;
    for (int64_t i = 0; i < features; ++i) mean[i] *= factor;
  }

  static constexpr int64_t kConvertedRows = 1024;

  const QueueInfoNCESize size_;
  const Partition partition_;
  const bool need_gradient_;
  const double inverse_temperature_;
  const Tensor query_tensor_;
  const Tensor key_tensor_;
  std::optional<Tensor> own_tensor_;
  const Tensor& queue_;
  const bool queue_is_direct_;
  const T* key_;
  std::vector<T> query_;  // (B, D), scaled
  std::vector<T> scale_;  // (B,), what makes a logit of a score
  std::vector<double> positive_;
  std::vector<double> tolerance_;
  std::vector<SoftmaxState<T>> states_;  // (splits, B)
  std::vector<int64_t> ranks_;           // (splits, B)
  std::vector<T> means_;                 // (splits, B, D), sums relative to the maximum of their state
};

std::tuple<Tensor, Tensor, Tensor, Tensor> queue_infonce(const Tensor& query, const Tensor& key, const Tensor& queue,
                                                         const std::optional<Tensor>& own_negatives, double temperature,
                                                         bool need_gradient) {
  const QueueInfoNCESize size = check_queue_infonce(query, key, queue, own_negatives, temperature);
  if (query.scalar_type() == ScalarType::Double) {
    return Kernel<double>(size, query, key, queue, own_negatives, temperature, need_gradient).run();
  }
  return Kernel<float>(size, query, key, queue, own_negatives, temperature, need_gradient).run();
}

STABLE_TORCH_LIBRARY_IMPL(tubeletx, CPU, library) { library.impl("queue_infonce", TORCH_BOX(&queue_infonce)); }

}  // namespace
}  // namespace tubeletx::cpu
