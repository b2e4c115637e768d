// Last kernel of queue InfoNCE: merges the splits of the queue, the row's own negatives and the positive. A block takes
// 64 features of a row: 16 threads four features each, of every 16th split; always in the same order.
#pragma once

#include "cuda/infonce/parts.h"

namespace tubeletx::cuda {

constexpr int kCombineThreads = 256;
constexpr int kCombineColumns = 64;
constexpr int kCombineGroups = kCombineThreads * 4 / kCombineColumns;  // of threads, each with all columns
constexpr int kCombineWarps = kCombineThreads / device::kWarp;

/// Shared memory of a block.
template <typename T>
struct CombineMemory {
  Four<T> means[kCombineGroups][kCombineColumns / 4];
  double maxima[kCombineWarps];
  double own_scores[kCombineThreads];
  T shares[kCombineThreads];  // what multiplies the sums of a split, or of an own negative
  T sums[kCombineWarps];
  long long ranks[kCombineWarps];
};

/// 2^x for an x <= 0 that is known more precisely than to T.
template <typename T>
TUBELETX_DEVICE T power_of_difference(double x) {
  if constexpr (sizeof(T) == sizeof(double)) return exp2(x);
  // In float, x would lose what stands behind the point.
  if (!(x > -1000)) return x == x ? T(0) : static_cast<T>(x);
  const double whole = rint(x);
  const double scale = bit_cast<double>(static_cast<uint64_t>(static_cast<int64_t>(whole) + 1023) << 52);
  return static_cast<T>(device::power_of_two(static_cast<float>(x - whole)) * scale);
}

/// A block's row.
template <typename T>
struct CombinedRow {
  const QueueInfoNCEArguments& arguments;
  CombineMemory<T>& memory;
  int64_t row;
  int64_t feature;  // first of the thread's four
  bool has_mean;
  double factor;    // log2(e) / temperature
  double positive;  // its score
  double maximum;   // of the negatives' scores
  T sum;            // of this thread's negatives
  long long rank;   // likewise
  Four<T> mean;     // of this thread's features, over the negatives of its group

  static TUBELETX_DEVICE int lane() { return device::thread() % device::kWarp; }
  static TUBELETX_DEVICE int warp() { return device::thread() / device::kWarp; }
  static TUBELETX_DEVICE int group() { return device::thread() / (kCombineColumns / 4); }

  TUBELETX_DEVICE void take(const Four<T>& numbers, T share) {
#pragma unroll
    for (int c = 0; c < 4; ++c) mean.values[c] = fma(numbers.values[c], share, mean.values[c]);
  }

  /// The largest value of the block.
  TUBELETX_DEVICE double largest_of_block(double value) {
    value = device::warp_maximum(value);
    if (lane() == 0) memory.maxima[warp()] = value;
    device::synchronize_block();
#pragma unroll
    for (int i = 0; i < kCombineWarps; ++i) value = memory.maxima[i] > value ? memory.maxima[i] : value;
    return value;
  }

  static TUBELETX_DEVICE SplitState<T> empty() { return {empty_softmax_state<double>().maximum, T(0), 0}; }
  static TUBELETX_DEVICE SplitState<T> load_state(const SplitState<T>* place) {
    const SplitState<T> state = *place;
    return state.sum == 0 ? empty() : state;
  }

  TUBELETX_DEVICE void take_splits() {
    const int64_t splits = arguments.plan.splits;
    const SplitState<T>* states = static_cast<const SplitState<T>*>(arguments.states) + row * splits;
    const T* means = static_cast<const T*>(arguments.means) + row * arguments.mean_stride + feature;
    const int64_t stride = arguments.batch * arguments.mean_stride;
    // Under way while the shares are worked out.
    constexpr int kAhead = sizeof(T) == sizeof(float) ? 4 : 2;
    Four<T> early[kAhead];
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      const int64_t split = group() + i * kCombineGroups;
      early[i] = Four<T>{};
      if (has_mean && split < splits) early[i] = four_at(means + split * stride);
    }
    SplitState<T> state = empty();
    double largest = state.maximum;
#pragma unroll 1
    for (int64_t split = device::thread(); split < splits; split += kCombineThreads) {
      const SplitState<T> other = load_state(states + split);
      if (split == device::thread()) state = other;
      largest = other.maximum > largest ? other.maximum : largest;
    }
    maximum = largest_of_block(largest);
#pragma unroll 1
    for (int64_t first = 0; first < splits; first += kCombineThreads) {
      const int64_t mine = first + device::thread();
      if (first > 0) {
        device::synchronize_block();
        state = mine < splits ? load_state(states + mine) : empty();
      }
      const T share = power_of_difference<T>((state.maximum - maximum) * factor);
      memory.shares[device::thread()] = share;
      sum = fma(state.sum, share, sum);
      rank += state.rank;
      device::synchronize_block();
      if (!has_mean) continue;
      const int count = static_cast<int>(splits - first < kCombineThreads ? splits - first : kCombineThreads);
      if (first == 0) {
#pragma unroll
        for (int i = 0; i < kAhead; ++i) {
          const int place = group() + i * kCombineGroups;
          if (place < count) take(early[i], memory.shares[place]);
        }
      }
#pragma unroll 4
      for (int place = group() + (first == 0 ? kAhead * kCombineGroups : 0); place < count; place += kCombineGroups) {
        take(four_at(means + (first + place) * stride), memory.shares[place]);
      }
    }
  }

  TUBELETX_DEVICE void take_own_negatives() {
    const Numbers& own = arguments.own;
#pragma unroll 1
    for (int64_t first = 0; first < arguments.own_size; first += kCombineThreads) {
      const int64_t rest = arguments.own_size - first;
      const int count = static_cast<int>(rest < kCombineThreads ? rest : kCombineThreads);
      const int64_t offset = row * own.strides[0] + first * own.strides[1];
      device::synchronize_block();
      for (int base = warp() * kDotsOfWarp; base < count; base += kCombineWarps * kDotsOfWarp) {
        const int place = base + dot_of_thread() < count ? base + dot_of_thread() : base;
        double score[1];
        exact_dots<T, 1>(row_of(arguments.query, row, false),
                         {NumberRow{own, offset + place * own.strides[1], own.strides[2], false}}, arguments.features,
                         score);
        if (device::thread() % kThreadsOfDot == 0) memory.own_scores[place] = score[0];
      }
      device::synchronize_block();
      const bool is_one = device::thread() < count;
      const double score = is_one ? memory.own_scores[device::thread()] : -static_cast<double>(kInfinity);
      rank += is_one && !(score <= positive);
      const double earlier = maximum;
      maximum = largest_of_block(score > maximum ? score : maximum);
      const T keep = power_of_difference<T>((earlier - maximum) * factor);
      const T share = is_one ? power_of_difference<T>((score - maximum) * factor) : T(0);
      memory.shares[device::thread()] = share;
      sum = fma(sum, keep, share);
#pragma unroll
      for (int c = 0; c < 4; ++c) mean.values[c] *= keep;
      device::synchronize_block();
      if (!has_mean) continue;
#pragma unroll 1
      for (int place = group(); place < count; place += kCombineGroups) {
        Four<T> numbers{};
#pragma unroll
        for (int c = 0; c < 4; ++c) {
          if (feature + c >= arguments.features) continue;
          const int64_t at = offset + place * own.strides[1] + (feature + c) * own.strides[2];
          numbers.values[c] = static_cast<T>(load_number(own, at));
        }
        take(numbers, memory.shares[place]);
      }
    }
  }

  /// Sums over the block, the same in all threads.
  TUBELETX_DEVICE void merge_threads() {
    sum = device::warp_sum(sum);
    rank = device::warp_sum(rank);
    if (lane() == 0) {
      memory.sums[warp()] = sum;
      memory.ranks[warp()] = rank;
    }
    if (has_mean) memory.means[group()][device::thread() % (kCombineColumns / 4)] = mean;
    device::synchronize_block();
    sum = 0;
    rank = 0;
#pragma unroll
    for (int i = 0; i < kCombineWarps; ++i) {
      sum += memory.sums[i];
      rank += memory.ranks[i];
    }
  }

  TUBELETX_DEVICE void store(bool is_first) {
    // How far the negatives stand above the positive, in powers of 2.
    const double gap = (maximum - positive) * factor;
    const bool negatives_lead = gap > 0;
    const T smaller = power_of_difference<T>(negatives_lead ? -gap : gap);
    const int64_t column = device::block_y() * kCombineColumns + device::thread();
    if (arguments.need_gradient && device::thread() < kCombineColumns && column < arguments.features) {
      const T* numbers = memory.means[0][0].values + device::thread();
      T total = 0;
#pragma unroll
      for (int i = 0; i < kCombineGroups; ++i) total += numbers[i * kCombineColumns];
      total *= negatives_lead ? 1 / (sum + smaller) : smaller / (1 + sum * smaller);
      static_cast<T*>(arguments.negative_mean)[row * arguments.features + column] = total;
    }
    if (is_first && device::thread() == kCombineThreads - 1) {
      const double rest =
          negatives_lead ? log(static_cast<double>(sum + smaller)) : log1p(static_cast<double>(sum) * smaller);
      const double loss = negatives_lead ? gap * 0.69314718055994530942 + rest : rest;
      static_cast<T*>(arguments.loss)[row] = static_cast<T>(loss);
      static_cast<T*>(arguments.log_sum_exp)[row] = static_cast<T>(positive * arguments.scale + loss);
      // A diverged run has no hits.
      arguments.rank[row] = positive == positive ? rank : arguments.queue_size + arguments.own_size;
    }
  }
};

template <typename T>
TUBELETX_KERNEL(kCombineThreads, sizeof(T) == sizeof(float) ? 4 : 2)
queue_infonce_combine(TUBELETX_KERNEL_ARGUMENT QueueInfoNCEArguments arguments) {
  CombineMemory<T>& memory = *static_cast<CombineMemory<T>*>(device::shared_memory());
  const int slice = device::block_y();
  const int64_t row = device::block_x();
  const int64_t feature = int64_t{slice} * kCombineColumns + device::thread() % (kCombineColumns / 4) * 4;
  CombinedRow<T> combined{arguments,
                          memory,
                          row,
                          feature,
                          arguments.need_gradient && feature < arguments.mean_stride,
                          arguments.scale * 1.44269504088896340736,
                          arguments.positives[row],
                          0,
                          T(0),
                          0,
                          {}};
  combined.take_splits();
  combined.take_own_negatives();
  combined.merge_threads();
  combined.store(slice == 0);
}

}  // namespace tubeletx::cuda
