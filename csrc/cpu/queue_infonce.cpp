// InfoNCE of each query against its key and a queue of negatives that takes no gradient. One pass over the queue in
// tiles gives the loss and, since the gradient with respect to a query is a softmax-weighted mean of the queue, all
// that the backward needs as well. Only one tile of the scores exists at a time.
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
#include "cpu/multiversion.h"
#include "cpu/parallel.h"
#include "cpu/single_threaded_blas.h"

namespace tubeletx::cpu {
namespace {

/// The part of a tile of scores that one call works through; row r belongs to query r of the block.
template <typename T>
struct ScoreTile {
  T* scores;  // rows x negatives; left holding the softmax weights relative to each row's maximum
  int64_t rows;
  int64_t negatives;
  int64_t features;
  const T* query;     // rows x features
  const T* negative;  // negatives x features
  int64_t negative_stride;
  const double* positive;   // exact score of each row's key
  const double* tolerance;  // rounding error that the matrix product may make in such a score
  const T* scale;           // of each row, what makes a logit of a score
  SoftmaxState<T>* state;   // of each row, over the tiles so far; its maximum is a score, not a logit
  T* keep;                  // what the row's earlier weights must be multiplied by
  int64_t* rank;            // of each row, over the tiles so far
};

/// Calls body on consecutive vectors of a row, the last one filled up with `fill`. Reductions over these keep one order
/// of summation whatever the width of the machine's own vectors.
template <typename Lanes, typename T, typename Body>
[[gnu::always_inline]] inline void for_each_vector(const T* row, int64_t size, T fill, const Body& body) {
  constexpr int64_t width = sizeof(Lanes) / sizeof(T);
  Lanes lanes;
  int64_t column = 0;
  for (; column + width <= size; column += width) {
    std::memcpy(&lanes, row + column, sizeof lanes);
    body(lanes);
  }
  if (column == size) return;
  lanes = Lanes{} + fill;
  std::memcpy(&lanes, row + column, (size - column) * sizeof(T));
  body(lanes);
}

/// Adds the scores of `other` to `state`. Differences are multiplied, not scores: those of the largest scores would
/// overflow.
template <typename T>
[[gnu::always_inline]] inline MergeFactors<T> merge_scores(SoftmaxState<T>& state, const SoftmaxState<T>& other,
                                                           T scale) {
  const T maximum = other.maximum > state.maximum ? other.maximum : state.maximum;
  const MergeFactors<T> factors{exponential((state.maximum - maximum) * scale),
                                exponential((other.maximum - maximum) * scale)};
  state.sum = state.sum * factors.keep + other.sum * factors.take;
  state.maximum = maximum;
  return factors;
}

/// Softmax weights, running state and rank of every row.
template <typename T>
[[gnu::always_inline]] inline void soften(const ScoreTile<T>& tile) {
  typedef T Lanes __attribute__((vector_size(64)));
  using Counts = decltype(Lanes{} > Lanes{});
  constexpr int width = sizeof(Lanes) / sizeof(T);
  for (int64_t row = 0; row < tile.rows; ++row) {
    T* const scores = tile.scores + row * tile.negatives;
    const double positive = tile.positive[row];
    const T surely_above = static_cast<T>(positive + tile.tolerance[row]);
    const T maybe_above = static_cast<T>(positive - tile.tolerance[row]);

    Lanes maxima = Lanes{} + empty_softmax_state<T>().maximum;
    Counts above{};
    Counts candidates{};
    for_each_vector<Lanes>(scores, tile.negatives, -std::numeric_limits<T>::infinity(), [&](const Lanes& score) {
      maxima = score > maxima ? score : maxima;
      above -= ~(score <= surely_above);  // a true comparison is -1; NaN counts as above
      candidates -= ~(score <= maybe_above);
    });
    T maximum = maxima[0];
    int64_t rank = 0;
    int64_t undecided = 0;
    for (int lane = 0; lane < width; ++lane) {
      maximum = maxima[lane] > maximum ? maxima[lane] : maximum;
      rank += above[lane];
      undecided += candidates[lane] - above[lane];
    }
    // A score within rounding of the positive's is computed again, exactly, so that ties stay ties.
    for (int64_t column = 0; undecided > 0; ++column) {
      if (scores[column] <= maybe_above || !(scores[column] <= surely_above)) continue;
      const T* negative = tile.negative + column * tile.negative_stride;
      rank += !(dot(tile.query + row * tile.features, negative, tile.features) <= positive);
      --undecided;
    }
    // Nothing is at most NaN; only the lanes beyond the row's end are to be left out.
    tile.rank[row] += std::isnan(positive) ? tile.negatives : rank;

    SoftmaxState<T>& state = tile.state[row];
    const T scale = tile.scale[row];
    tile.keep[row] = merge_scores(state, {maximum, T(0)}, scale).keep;
    const T shift = state.maximum;
    const int64_t negatives = tile.negatives;
    for (int64_t column = 0; column < negatives; ++column) {
      scores[column] = exponential((scores[column] - shift) * scale);
    }
    Lanes sums{};
    for_each_vector<Lanes>(scores, negatives, T(0), [&](const Lanes& weight) { sums += weight; });
    for (int lane = 0; lane < width; ++lane) state.sum += sums[lane];
  }
}

TUBELETX_MULTIVERSION void soften_tile(const ScoreTile<float>& tile) { soften(tile); }
TUBELETX_MULTIVERSION void soften_tile(const ScoreTile<double>& tile) { soften(tile); }

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

/// out = left right. Autocast replaces aten::mm and aten::matmul by half precision, but leaves the out variant alone.
void multiply(const Tensor& left, const Tensor& right, const Tensor& out) {
  std::array<StableIValue, 3> stack{torch::stable::detail::from(left), torch::stable::detail::from(right),
                                    torch::stable::detail::from(out)};
  TORCH_ERROR_CODE_CHECK(torch_call_dispatcher("aten::mm", "out", stack.data(), TORCH_ABI_VERSION));
  torch::stable::detail::to<Tensor>(stack[0]);
}

/// Whether torch rounds the factors of a float32 product, as to bfloat16 where the processor multiplies those and
/// torch.set_float32_matmul_precision("medium") allows it. There is no setting to read, so a product tells.
bool products_are_rounded() {
  constexpr int64_t kSize = 32;  // smaller products are never rounded
  constexpr float kFactor = 1 + 0x1p-12f;
  const std::vector<float> factors(kSize * kSize, kFactor);
  std::vector<float> products(kSize * kSize);
  const auto matrix = [](const float* data) { return borrow(data, {kSize, kSize}, {kSize, 1}, ScalarType::Float); };
  multiply(matrix(factors.data()), matrix(factors.data()), matrix(products.data()));
  return products[0] < kSize * kFactor;
}

struct DeleteAligned {
  void operator()(void* data) const { ::operator delete(data, std::align_val_t{64}); }
};

/// Uninitialised memory for matrices. Its alignment is fixed, since the order of a matrix product's sums may depend on
/// it.
template <typename T>
std::unique_ptr<T[], DeleteAligned> make_scratch(int64_t count) {
  return std::unique_ptr<T[], DeleteAligned>(static_cast<T*>(::operator new(count * sizeof(T), std::align_val_t{64})));
}

template <typename T>
Tensor contiguous_as(const Tensor& tensor) {
  return torch::stable::contiguous(torch::stable::to(tensor, scalar_type<T>()));
}

int64_t divide_up(int64_t value, int64_t divisor) { return (value + divisor - 1) / divisor; }

/// How the work is cut. It depends on the sizes alone, never on the number of threads, and every piece multiplies its
/// matrices on one thread: the bits are then the same for any number of threads.
struct Partition {
  int64_t block_rows;  // queries of a block
  int64_t tile_rows;   // queue rows of a tile
  int64_t blocks;
  int64_t splits;       // parts of the queue, whose states are merged in order
  int64_t split_tiles;  // tiles of a split

  explicit Partition(const QueueInfoNCESize& size) {
    constexpr int64_t tile_scores = int64_t{1} << 17;    // half a MiB of scores
    constexpr int64_t tile_features = int64_t{1} << 17;  // beside half a MiB of queue stay in the second-level cache
    constexpr int64_t pieces = 32;
    block_rows = std::clamp<int64_t>(size.batch, 1, 256);
    blocks = divide_up(size.batch, block_rows);
    tile_rows = std::clamp<int64_t>(std::min(tile_scores / block_rows, tile_features / size.features), 64, 1024);
    const int64_t tiles = divide_up(size.queue, tile_rows);
    split_tiles = std::max<int64_t>(divide_up(tiles * blocks, pieces), 1);
    splits = divide_up(tiles, split_tiles);
  }
};

template <typename T>
class Kernel {
 public:
  Kernel(const QueueInfoNCESize& size, const Tensor& query, const Tensor& key, const Tensor& queue,
         const std::optional<Tensor>& own_negatives, double temperature, bool need_gradient)
      : size_(size),
        partition_(size),
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
    // At least two pieces, so that a matrix product never finds itself outside a parallel region with threads to use.
    parallel_for(std::max<int64_t>(partition_.blocks * partition_.splits, 2), 1,
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
    constexpr double unit = sizeof(T) == sizeof(float) ? 0x1p-24 : 0x1p-53;
    for (int64_t row = begin; row < end; ++row) {
      const T* source = query_tensor_.template const_data_ptr<T>() + row * size_.features;
      T largest = 0;
      for (int64_t i = 0; i < size_.features; ++i) largest = std::max(largest, std::abs(source[i]));
      int exponent = 0;
      if (std::isfinite(largest)) std::frexp(largest, &exponent);
      T* query = query_.data() + row * size_.features;
      for (int64_t i = 0; i < size_.features; ++i) query[i] = std::ldexp(source[i], -exponent);
      // Neither 0 nor infinite, whose products with a difference of scores might be NaN.
      scale_[row] = static_cast<T>(std::clamp<double>(std::ldexp(inverse_temperature_, exponent),
                                                      std::numeric_limits<T>::min(), std::numeric_limits<T>::max()));
      const T* key = key_ + row * size_.features;
      positive_[row] = dot(query, key, size_.features);
      tolerance_[row] = static_cast<double>(size_.features) * unit *
                        std::sqrt(dot(query, query, size_.features) * dot(key, key, size_.features));
    }
  }

  /// Pieces [begin, end): piece p is split p % splits of the queue for block p / splits of the queries.
  void pass_over_queue(int64_t begin, int64_t end) {
    const auto [block_rows, tile_rows, blocks, splits, split_tiles] = partition_;
    end = std::min(end, blocks * splits);
    if (begin >= end) return;
    const SingleThreadedBlas single_threaded;
    const auto scores = make_scratch<T>(block_rows * tile_rows);
    const auto converted = make_scratch<T>(queue_is_direct_ ? 0 : tile_rows * size_.features);
    const auto product = make_scratch<T>(need_gradient_ ? block_rows * size_.features : 0);
    const auto keep = make_scratch<T>(block_rows);
    for (int64_t piece = begin; piece < end; ++piece) {
      const int64_t split = piece % splits;
      const int64_t first_row = piece / splits * block_rows;
      const int64_t rows = std::min(block_rows, size_.batch - first_row);
      const int64_t last = std::min((split + 1) * split_tiles * tile_rows, size_.queue);
      for (int64_t first = split * split_tiles * tile_rows; first < last; first += tile_rows) {
        ScoreTile<T> tile{};
        tile.scores = scores.get();
        tile.rows = rows;
        tile.negatives = std::min(tile_rows, last - first);
        tile.features = size_.features;
        tile.query = query_.data() + first_row * size_.features;
        locate(tile, first, converted.get());
        tile.positive = positive_.data() + first_row;
        tile.tolerance = tolerance_.data() + first_row;
        tile.scale = scale_.data() + first_row;
        tile.state = states_.data() + split * size_.batch + first_row;
        tile.keep = keep.get();
        tile.rank = ranks_.data() + split * size_.batch + first_row;
        pass_over_tile(tile, product.get(), means(split, first_row));
      }
    }
  }

  /// Where the negatives of a tile lie: in the queue itself, or converted to T row by row.
  void locate(ScoreTile<T>& tile, int64_t first, T* converted) const {
    const int64_t stride = queue_.stride(0);
    const char* source = static_cast<const char*>(queue_.data_ptr()) + first * stride * queue_.element_size();
    if (queue_is_direct_) {
      tile.negative = reinterpret_cast<const T*>(source);
      tile.negative_stride = stride;
      return;
    }
    tile.negative = converted;
    tile.negative_stride = tile.features;
    const std::array<int64_t, 2> sizes{tile.negatives, tile.features};
    Tensor destination = borrow(converted, sizes, {tile.features, 1}, scalar_type<T>());
    torch::stable::copy_(destination, borrow(source, sizes, {stride, queue_.stride(1)}, queue_.scalar_type()));
  }

  void pass_over_tile(const ScoreTile<T>& tile, T* product, T* means) const {
    constexpr ScalarType dtype = scalar_type<T>();
    const Tensor query = borrow(tile.query, {tile.rows, tile.features}, {tile.features, 1}, dtype);
    const Tensor scores = borrow(tile.scores, {tile.rows, tile.negatives}, {tile.negatives, 1}, dtype);
    multiply(query, borrow(tile.negative, {tile.features, tile.negatives}, {1, tile.negative_stride}, dtype), scores);
    soften_tile(tile);
    if (!need_gradient_) return;
    multiply(scores, borrow(tile.negative, {tile.negatives, tile.features}, {tile.negative_stride, 1}, dtype),
             borrow(product, {tile.rows, tile.features}, {tile.features, 1}, dtype));
    for (int64_t row = 0; row < tile.rows; ++row) {
      T* mean = means + row * tile.features;
      const T* addend = product + row * tile.features;
      for (int64_t i = 0; i < tile.features; ++i) mean[i] = mean[i] * tile.keep[row] + addend[i];
    }
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
  if (products_are_rounded()) {  // the loss would be off by that, and ranks by more: near ties are looked for in
                                 // float32
    const auto [loss, rank, log_sum_exp, mean] =
        Kernel<double>(size, query, key, queue, own_negatives, temperature, need_gradient).run();
    const auto as_float = [](const Tensor& tensor) { return torch::stable::to(tensor, ScalarType::Float); };
    return {as_float(loss), rank, as_float(log_sum_exp), as_float(mean)};
  }
  return Kernel<float>(size, query, key, queue, own_negatives, temperature, need_gradient).run();
}

STABLE_TORCH_LIBRARY_IMPL(tubeletx, CPU, library) { library.impl("queue_infonce", TORCH_BOX(&queue_infonce)); }

}  // namespace
}  // namespace tubeletx::cpu
