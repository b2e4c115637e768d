// Last kernel of queue InfoNCE: merges the splits of the queue, the row's own negatives and the positive. A block takes
// 32 features of a row, a column of threads for each; its warps share out the splits, always in the same way.
#pragma once

#include "cuda/infonce/parts.h"

namespace tubeletx::cuda {

constexpr int kCombineWarps = 8;
constexpr int kCombineColumns = device::kWarp;

/// Shared memory of a block.
template <typename T>
struct CombineMemory {
  double own_scores[device::kWarp];
  T sums[kCombineWarps][kCombineColumns];
};

/// The row's state over all splits, the same in every thread.
template <typename T>
TUBELETX_DEVICE SoftmaxState<T> merge_splits(const QueueInfoNCEArguments& arguments, int64_t row, int64_t& rank) {
  const SoftmaxState<T>* states = static_cast<const SoftmaxState<T>*>(arguments.states);
  const int64_t splits = arguments.plan.splits;
  const int lane = device::thread() % device::kWarp;
  SoftmaxState<T> merged = empty_softmax_state<T>();
  long long count = 0;
  // A lane's own maximum first, so that every split is read once.
#pragma unroll 4
  for (int64_t split = lane; split < splits; split += device::kWarp) {
    const SoftmaxState<T> state = states[split * arguments.batch + row];
    const T keep = raise_maximum(merged.maximum, state.maximum);
    merged.sum = merged.sum * keep + state.sum * device::power_of_two(state.maximum - merged.maximum);
    count += arguments.ranks[split * arguments.batch + row];
  }
  const T keep = raise_maximum(merged.maximum, device::warp_maximum(merged.maximum));
  merged.sum = device::warp_sum(merged.sum * keep);
  rank = device::warp_sum(count);
  return merged;
}

/// 2^x for an x <= 0 that is known more precisely than to T.
template <typename T>
TUBELETX_DEVICE T power_of_difference(double x) {
  if constexpr (sizeof(T) == sizeof(double)) return exp2(x);
  // In float, x would lose what stands behind the point.
  const double inside = x < -1000 ? -1000 : x;
  const double whole = rint(inside);
  const double scale = bit_cast<double>(static_cast<uint64_t>(static_cast<int64_t>(whole) + 1023) << 52);
  return static_cast<T>(device::power_of_two(static_cast<float>(inside - whole)) * scale);
}

template <typename T>
TUBELETX_KERNEL(kCombineWarps* device::kWarp, 2)
queue_infonce_combine(TUBELETX_KERNEL_ARGUMENT QueueInfoNCEArguments arguments) {
  CombineMemory<T>& memory = *static_cast<CombineMemory<T>*>(device::shared_memory());
  const int64_t slices = arguments.need_gradient ? infonce::divide_up(arguments.features, kCombineColumns) : 1;
  const int64_t row = device::block_x() / slices;
  const int64_t slice = device::block_x() % slices;
  const int lane = device::thread() % device::kWarp;
  const int warp = device::thread() / device::kWarp;
  const int64_t feature = slice * kCombineColumns + lane;
  const bool has_mean = arguments.need_gradient && feature < arguments.features;
  const T factor = exponent_factor<T>(arguments);
  const int64_t splits = arguments.plan.splits;
  const SoftmaxState<T>* states = static_cast<const SoftmaxState<T>*>(arguments.states);
  const T* means = static_cast<const T*>(arguments.means);

  // Of the arguments alone, so that it need not wait for the pass over the queue.
  const bool is_first = warp == 0;
  const double positive = is_first || arguments.own_size > 0 ? score_of_positive<T>(arguments, row) : 0;
  device::wait_for_previous_kernel();
  // Under way while the rest is worked out.
  constexpr int ahead = 16;
  T early[ahead];
#pragma unroll
  for (int i = 0; i < ahead; ++i) {
    const int64_t split = warp + i * kCombineWarps;
    early[i] =
        has_mean && split < splits ? means[(split * arguments.batch + row) * arguments.features + feature] : T(0);
  }
  int64_t rank = 0;
  SoftmaxState<T> state = merge_splits<T>(arguments, row, rank);
  const auto share_of = [&](int64_t split) {
    return device::power_of_two(states[split * arguments.batch + row].maximum - state.maximum);
  };
  T mean = 0;
#pragma unroll
  for (int i = 0; i < ahead; ++i) {
    const int64_t split = warp + i * kCombineWarps;
    if (split < splits) mean = fma(early[i], share_of(split), mean);
  }
  if (has_mean) {
#pragma unroll 8
    for (int64_t split = warp + ahead * kCombineWarps; split < splits; split += kCombineWarps) {
      mean = fma(means[(split * arguments.batch + row) * arguments.features + feature], share_of(split), mean);
    }
  }

  const Numbers& own = arguments.own;
  for (int64_t first = 0; first < arguments.own_size; first += device::kWarp) {
    const int64_t rest = arguments.own_size - first;
    const int count = static_cast<int>(rest < device::kWarp ? rest : device::kWarp);
    const int64_t offset = row * own.strides[0] + first * own.strides[1];
    device::synchronize_block();
    for (int i = warp; i < count; i += kCombineWarps) {
      double score[1];
      exact_dots<T, 4>(row_of(arguments.query, row), {NumberRow{own, offset + i * own.strides[1], own.strides[2]}},
                       arguments.features, score);
      if (lane == 0) memory.own_scores[i] = score[0];
    }
    device::synchronize_block();
    const double exact = lane < count ? memory.own_scores[lane] : -static_cast<double>(kInfinity);
    rank += device::count_bits(device::ballot(!(exact <= positive)));
    const T score = static_cast<T>(exact);
    const T keep = raise_maximum(state.maximum, device::warp_maximum(score) * factor);
    const T weight = device::power_of_two(fma(score, factor, -state.maximum));
    state.sum = state.sum * keep + device::warp_sum(weight);
    mean *= keep;
    for (int i = warp; i < count; i += kCombineWarps) {
      const T share = device::shuffle(weight, i);
      if (has_mean) {
        mean =
            fma(share, static_cast<T>(load_number(own, offset + i * own.strides[1] + feature * own.strides[2])), mean);
      }
    }
  }

  if (has_mean) memory.sums[warp][lane] = mean;
  device::synchronize_block();
  if (!is_first) return;
  // How far the negatives stand above the positive, in powers of 2: a small difference of what may be large numbers.
  const double gap = static_cast<double>(state.maximum) - static_cast<double>(factor) * positive;
  const bool negatives_lead = gap > 0;
  const T smaller = power_of_difference<T>(negatives_lead ? -gap : gap);
  if (has_mean) {
    T total = 0;
    for (int i = 0; i < kCombineWarps; ++i) total += memory.sums[i][lane];
    total *= negatives_lead ? 1 / (state.sum + smaller) : smaller / (1 + state.sum * smaller);
    static_cast<T*>(arguments.negative_mean)[row * arguments.features + feature] = total;
  }
  if (slice == 0 && lane == 0) {
    const double rest = negatives_lead ? log(static_cast<double>(state.sum + smaller))
                                       : log1p(static_cast<double>(state.sum) * smaller);
    const double loss = negatives_lead ? gap * 0.69314718055994530942 + rest : rest;
    static_cast<T*>(arguments.loss)[row] = static_cast<T>(loss);
    static_cast<T*>(arguments.log_sum_exp)[row] = static_cast<T>(positive * arguments.scale + loss);
    // A diverged run has no hits.
    arguments.rank[row] = positive == positive ? rank : arguments.queue_size + arguments.own_size;
  }
}

}  // namespace tubeletx::cuda
