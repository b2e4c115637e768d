// Steps that several kernels of queue InfoNCE share.
#pragma once

#include <cmath>
#include <limits>

#include "core/log_sum_exp.h"
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

/// A block's part of the work: Tile::rows queries, and the negatives of one split. Two numbers, of which the rest is
/// worked out where it is needed.
template <typename Tile>
struct BlockShare {
  const QueueInfoNCEArguments& arguments;
  uint32_t row_block, split;

  explicit TUBELETX_DEVICE BlockShare(const QueueInfoNCEArguments& all) : arguments(all) {
    const uint32_t block = static_cast<uint32_t>(device::block_x());
    const uint32_t splits = static_cast<uint32_t>(arguments.plan.splits);
    row_block = block / splits;
    split = block - row_block * splits;
  }

  TUBELETX_DEVICE int64_t first_row() const { return int64_t{row_block} * Tile::kRows; }
  // The negatives [begin, end).
  TUBELETX_DEVICE int64_t begin() const { return split * arguments.plan.split_tiles * Tile::kNegatives; }
  TUBELETX_DEVICE int64_t end() const {
    const int64_t past = begin() + arguments.plan.split_tiles * Tile::kNegatives;
    return past < arguments.queue_size ? past : arguments.queue_size;
  }
  TUBELETX_DEVICE int tiles() const {
    return static_cast<int>((end() - begin() + Tile::kNegatives - 1) / Tile::kNegatives);
  }
};

/// Eight numbers as they are stored, of 16 or 32 bits: widened when all that shall be loaded together is under way.
struct StoredEight {
  Four<uint32_t> low, high;
};

/// `offset` is that of a 16-byte aligned place; zeros where not `inside`. Without branches.
TUBELETX_DEVICE StoredEight load_stored(const Numbers& numbers, NumberType type, int64_t offset, bool inside) {
  const bool is_wide = type == NumberType::kFloat;
  const char* source = static_cast<const char*>(numbers.data) + offset * (is_wide ? 4 : 2);
  StoredEight stored{};
  if (inside) stored.low = *reinterpret_cast<const Four<uint32_t>*>(source);
  if (inside && is_wide) stored.high = *reinterpret_cast<const Four<uint32_t>*>(source + 16);
  return stored;
}

TUBELETX_DEVICE void widen_eight(const StoredEight& stored, NumberType type, float (&values)[8]) {
  const auto bits = [&](int i) { return static_cast<uint16_t>(stored.low.values[i / 2] >> (16 * (i % 2))); };
  if (type == NumberType::kFloat) {
#pragma unroll
    for (int i = 0; i < 8; ++i)
      values[i] = bit_cast<float>(i < 4 ? stored.low.values[i % 4] : stored.high.values[i % 4]);
  } else if (type == NumberType::kHalf) {
#pragma unroll
    for (int i = 0; i < 8; ++i) values[i] = device::widen(Half{bits(i)});
  } else {
#pragma unroll
    for (int i = 0; i < 8; ++i) values[i] = to_real(BFloat16{bits(i)});
  }
}

/// Eight numbers from `offset` on, `stride` apart, zeros from the `kCount`th on.
template <typename T>
TUBELETX_DEVICE void load_eight(const Numbers& numbers, int64_t offset, int64_t stride, int64_t count, T (&values)[8]) {
  if constexpr (sizeof(T) == sizeof(double)) {
#pragma unroll
    for (int i = 0; i < 8; ++i) values[i] = i < count ? load_number(numbers, offset + i * stride) : 0;
  } else {
    // As if they had been stored together.
    StoredEight stored{};
    const bool is_wide = numbers.type == NumberType::kFloat;
    const char* source = static_cast<const char*>(numbers.data) + offset * (is_wide ? 4 : 2);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      if (i >= count) continue;
      if (is_wide) {
        (i < 4 ? stored.low : stored.high).values[i % 4] = reinterpret_cast<const uint32_t*>(source)[i * stride];
      } else {
        const uint32_t bits = reinterpret_cast<const uint16_t*>(source)[i * stride];
        stored.low.values[i / 2] |= bits << (16 * (i % 2));
      }
    }
    widen_eight(stored, numbers.type, values);
  }
}

/// A row of features; where it is aligned, its numbers are dense, eight from any multiple of eight on can be loaded
/// together, and their count is such a multiple.
struct NumberRow {
  const Numbers& numbers;
  int64_t offset, stride;
  bool aligned;
};

TUBELETX_DEVICE NumberRow row_of(const Numbers& matrix, int64_t row, bool aligned) {
  return {matrix, row * matrix.strides[0], matrix.strides[1], aligned};
}

/// Threads that work out an exact scalar product, and how many a warp works out at a time.
constexpr int kThreadsOfDot = 4;
constexpr int kDotsOfWarp = device::kWarp / kThreadsOfDot;

TUBELETX_DEVICE int dot_of_thread() { return device::thread() % device::kWarp / kThreadsOfDot; }

/// Scalar products of one row with `kCount` others, which may differ between the groups of threads. Sums in double, in
/// an order that depends on the size alone: equal rows give equal results, whichever kernel asks, so that ties stay
/// ties. `kAhead` pieces of a row, of eight features for each thread, are loaded together.
template <typename T, int kAhead, int kCount>
TUBELETX_DEVICE void exact_dots(const NumberRow& left, const NumberRow (&right)[kCount], int64_t size,
                                double (&sums)[kCount]) {
#pragma unroll
  for (int r = 0; r < kCount; ++r) sums[r] = 0;
  const auto add = [&](const auto(&numbers)[8], const auto(&others)[8], double& sum) {
#pragma unroll
    for (int i = 0; i < 8; ++i) sum = fma(static_cast<double>(numbers[i]), static_cast<double>(others[i]), sum);
  };
  const int first = device::thread() % kThreadsOfDot * 8;
  constexpr int kStep = kThreadsOfDot * 8;
  bool aligned = left.aligned;
#pragma unroll
  for (int r = 0; r < kCount; ++r) aligned = aligned && right[r].aligned;
  if (sizeof(T) == sizeof(float) && aligned) {
#pragma unroll 1
    for (int64_t feature = first; feature < size; feature += kAhead * kStep) {
      StoredEight lefts[kAhead], rights[kCount][kAhead];
#pragma unroll
      for (int piece = 0; piece < kAhead; ++piece) {
        const int64_t place = feature + piece * kStep;
        lefts[piece] = load_stored(left.numbers, left.numbers.type, left.offset + place, place < size);
#pragma unroll
        for (int r = 0; r < kCount; ++r) {
          const Numbers& numbers = right[r].numbers;
          rights[r][piece] = load_stored(numbers, numbers.type, right[r].offset + place, place < size);
        }
      }
#pragma unroll
      for (int piece = 0; piece < kAhead; ++piece) {
        float numbers[8], others[8];
        widen_eight(lefts[piece], left.numbers.type, numbers);
#pragma unroll
        for (int r = 0; r < kCount; ++r) {
          widen_eight(rights[r][piece], right[r].numbers.type, others);
          add(numbers, others, sums[r]);
        }
      }
    }
  } else {
#pragma unroll 1
    for (int64_t feature = first; feature < size; feature += kStep) {
      T numbers[8], others[8];
      load_eight(left.numbers, left.offset + feature * left.stride, left.stride, size - feature, numbers);
#pragma unroll
      for (int r = 0; r < kCount; ++r) {
        const NumberRow& row = right[r];
        load_eight(row.numbers, row.offset + feature * row.stride, row.stride, size - feature, others);
        add(numbers, others, sums[r]);
      }
    }
  }
#pragma unroll
  for (int mask = kThreadsOfDot / 2; mask > 0; mask /= 2) {
#pragma unroll
    for (int r = 0; r < kCount; ++r) sums[r] += device::shuffle_xor(sums[r], mask);
  }
}

/// Decides by exact scores, in double.
template <typename T, int kAhead>
TUBELETX_DEVICE bool beats_positive(const QueueInfoNCEArguments& arguments, int64_t row, int64_t negative) {
  double scores[2];
  exact_dots<T, kAhead>(row_of(arguments.query, row, arguments.query_is_aligned),
                        {row_of(arguments.queue, negative, arguments.queue_is_aligned),
                         row_of(arguments.key, row, arguments.query_is_aligned)},
                        arguments.features, scores);
  return !(scores[0] <= scores[1]);
}

/// A warp writes the exact scores of the positives of a block's rows; the splits share the rows out.
template <typename T, typename Tile>
TUBELETX_DEVICE void store_positives(const QueueInfoNCEArguments& arguments, const BlockShare<Tile>& share) {
#pragma unroll 1
  for (int64_t first = share.split; first < Tile::kRows; first += arguments.plan.splits * kDotsOfWarp) {
    const int64_t place = first + dot_of_thread() * arguments.plan.splits;
    const int64_t row = share.first_row() + place;
    const bool valid = place < Tile::kRows && row < arguments.batch;
    double score[1];
    exact_dots<T, 2>(row_of(arguments.query, valid ? row : 0, arguments.query_is_aligned),
                     {row_of(arguments.key, valid ? row : 0, arguments.query_is_aligned)}, arguments.features, score);
    if (valid && device::thread() % kThreadsOfDot == 0) arguments.positives[row] = score[0];
  }
}

/// Takes scores up to `largest` into a row's running maximum, and returns what multiplies everything that is relative
/// to the earlier one. Scores that are not numbers do not move the maximum; they show in the weights.
template <typename T>
TUBELETX_DEVICE T raise_maximum(T& maximum, T largest, T factor) {
  const T earlier = maximum;
  maximum = largest > maximum ? largest : maximum;
  return device::power_of_two((earlier - maximum) * factor);
}

/// Launches a kernel over the queue as planned.
template <typename Arguments>
void launch_planned(void (*kernel)(Arguments), const Arguments& arguments, const QueueInfoNCEPlan& plan,
                    Stream stream) {
  device::launch(kQueueInfoNCE, kernel, plan.row_blocks * plan.splits, plan.slices, static_cast<int>(plan.threads),
                 plan.shared_bytes, arguments, stream);
}

}  // namespace tubeletx::cuda
