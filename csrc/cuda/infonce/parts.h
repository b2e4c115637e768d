// Steps that several kernels of queue InfoNCE share.
#pragma once

#include <cmath>
#include <limits>

#include "core/queue_infonce_plan.h"
#include "cuda/device.h"
#include "cuda/infonce/launchers.h"

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

/// Scalar product of two rows, by a warp. Sums in double, in an order that depends on the size alone: equal rows give
/// equal results, whichever kernel asks, so that ties stay ties.
TUBELETX_DEVICE double warp_dot(const Numbers& left, int64_t left_offset, int64_t left_stride, const Numbers& right,
                                int64_t right_offset, int64_t right_stride, int64_t size) {
  double sum = 0;
  for (int64_t i = device::thread() % device::kWarp; i < size; i += device::kWarp) {
    sum =
        fma(load_number(left, left_offset + i * left_stride), load_number(right, right_offset + i * right_stride), sum);
  }
  return device::warp_sum(sum);
}

TUBELETX_DEVICE double score_of_positive(const QueueInfoNCEArguments& arguments, int64_t row) {
  const Numbers& query = arguments.query;
  const Numbers& key = arguments.key;
  return warp_dot(query, row * query.strides[0], query.strides[1], key, row * key.strides[0], key.strides[1],
                  arguments.features);
}

/// Decides by exact scores, in double.
TUBELETX_DEVICE bool beats_positive(const QueueInfoNCEArguments& arguments, int64_t row, int64_t negative) {
  const Numbers& query = arguments.query;
  const Numbers& queue = arguments.queue;
  const double score = warp_dot(query, row * query.strides[0], query.strides[1], queue, negative * queue.strides[0],
                                queue.strides[1], arguments.features);
  return score > score_of_positive(arguments, row);
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
