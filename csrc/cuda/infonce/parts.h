// Steps that several kernels of queue InfoNCE share.
#pragma once

#include <cmath>
#include <limits>

#include "cuda/device.h"
#include "cuda/infonce/launchers.h"
#include "cuda/infonce/plan.h"

namespace tubeletx::cuda {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

/// Four numbers that are loaded together.
template <typename T>
struct alignas(16) Four {
  T values[4];
};

template <typename T>
TUBELETX_DEVICE const Four<T>& four_at(const T* numbers) {
  return *reinterpret_cast<const Four<T>*>(numbers);
}

/// A block's part of the work: Tile::rows queries from `first_row` on, and the negatives [begin, end) of one split.
template <typename Tile>
struct BlockShare {
  int64_t split, first_row, begin, end;

  explicit TUBELETX_DEVICE BlockShare(const QueueInfoNCEArguments& arguments)
      : split(device::block_x() % arguments.plan.splits),
        first_row(device::block_x() / arguments.plan.splits * Tile::rows),
        begin(split * arguments.plan.split_tiles * Tile::negatives),
        end(begin + arguments.plan.split_tiles * Tile::negatives) {
    if (end > arguments.queue_size) end = arguments.queue_size;
  }
};

/// The number at `offset` from the start; where T is float, without branches, so that several are loaded together.
template <typename T>
TUBELETX_DEVICE T load_real(const Numbers& numbers, int64_t offset) {
  if constexpr (sizeof(T) == sizeof(double)) {
    return load_number(numbers, offset);
  } else {
    const bool is_wide = numbers.type == NumberType::kFloat;
    const char* place = static_cast<const char*>(numbers.data) + offset * (is_wide ? 4 : 2);
    float wide = 0;
    uint16_t bits = 0;
    if (is_wide) wide = *reinterpret_cast<const float*>(place);
    if (!is_wide) bits = *reinterpret_cast<const uint16_t*>(place);
    return is_wide ? wide : numbers.type == NumberType::kHalf ? device::widen(Half{bits}) : to_real(BFloat16{bits});
  }
}

/// A row of features.
struct NumberRow {
  const Numbers& numbers;
  int64_t offset, stride;
};

TUBELETX_DEVICE NumberRow row_of(const Numbers& matrix, int64_t row) {
  return {matrix, row * matrix.strides[0], matrix.strides[1]};
}

/// Threads that work out an exact scalar product, and how many a warp works out at a time.
constexpr int kThreadsOfDot = 8;
constexpr int kDotsOfWarp = device::kWarp / kThreadsOfDot;

TUBELETX_DEVICE int dot_of_thread() { return device::thread() % device::kWarp / kThreadsOfDot; }

/// Scalar products of one row with `count` others, which may differ between the groups of threads. Sums in double, in
/// an order that depends on the size alone: equal rows give equal results, whichever kernel asks, so that ties stay
/// ties. `ahead` features of a thread are loaded together.
template <typename T, int ahead, int count>
TUBELETX_DEVICE void exact_dots(const NumberRow& left, const NumberRow (&right)[count], int64_t size,
                                double (&sums)[count]) {
#pragma unroll
  for (int r = 0; r < count; ++r) sums[r] = 0;
#pragma unroll ahead
  for (int64_t i = device::thread() % kThreadsOfDot; i < size; i += kThreadsOfDot) {
    const double number = load_real<T>(left.numbers, left.offset + i * left.stride);
#pragma unroll
    for (int r = 0; r < count; ++r) {
      sums[r] = fma(number, static_cast<double>(load_real<T>(right[r].numbers, right[r].offset + i * right[r].stride)),
                    sums[r]);
    }
  }
#pragma unroll
  for (int mask = kThreadsOfDot / 2; mask > 0; mask /= 2) {
#pragma unroll
    for (int r = 0; r < count; ++r) sums[r] += device::shuffle_xor(sums[r], mask);
  }
}

template <typename T>
TUBELETX_DEVICE double score_of_positive(const QueueInfoNCEArguments& arguments, int64_t row) {
  double score[1];
  exact_dots<T, 4>(row_of(arguments.query, row), {row_of(arguments.key, row)}, arguments.features, score);
  return score[0];
}

/// Decides by exact scores, in double.
template <typename T, int ahead>
TUBELETX_DEVICE bool beats_positive(const QueueInfoNCEArguments& arguments, int64_t row, int64_t negative) {
  double scores[2];
  exact_dots<T, ahead>(row_of(arguments.query, row), {row_of(arguments.queue, negative), row_of(arguments.key, row)},
                       arguments.features, scores);
  return !(scores[0] <= scores[1]);
}

/// log2(e) / temperature: softmax weights are powers of 2, for which the hardware has an instruction.
template <typename T>
TUBELETX_DEVICE T exponent_factor(const QueueInfoNCEArguments& arguments) {
  return static_cast<T>(arguments.scale * 1.44269504088896340736);
}

/// Takes scores up to `largest` into a row's running maximum, and returns what multiplies everything that is relative
/// to the earlier one. Scores that are not numbers do not move the maximum; they show in the weights.
template <typename T>
TUBELETX_DEVICE T raise_maximum(T& maximum, T largest) {
  const T earlier = maximum;
  maximum = largest > maximum ? largest : maximum;
  return device::power_of_two(earlier - maximum);
}

/// Launches a kernel over the queue as planned.
template <typename Arguments>
void launch_planned(void (*kernel)(Arguments), const Arguments& arguments, const QueueInfoNCEPlan& plan,
                    Stream stream) {
  device::launch(kQueueInfoNCE, kernel, plan.row_blocks * plan.splits, plan.slices, static_cast<int>(plan.threads),
                 plan.shared_bytes, arguments, stream);
}

}  // namespace tubeletx::cuda
