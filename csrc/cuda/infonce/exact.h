// First kernel of queue InfoNCE, for float32 and float64: multiply-adds at full precision, the scores of a tile in
// shared memory in between. A warp softens and accumulates the same queries, so it needs no one to wait for there.
#pragma once

#include "cuda/infonce/queries.h"

namespace tubeletx::cuda {

/// Features [first_feature, ...) of rows [first, last) into shared memory, zeros past the last of both up to `rows` and
/// the width of the tile. Aligned rows are of type T; others are multiplied by scale(row).
template <typename T, typename Tile, typename Scale>
TUBELETX_DEVICE void load_exact_rows(const Numbers& source, bool is_aligned, T* target, int rows, int64_t first,
                                     int64_t last, int64_t first_feature, int64_t features, const Scale& scale) {
  const int64_t row_stride = source.strides[0];
  const int64_t column_stride = source.strides[1];
  if (is_aligned) {
    constexpr int kVector = 16 / sizeof(T);
    constexpr int kVectors = Tile::kWidth / kVector;
    const T* numbers = static_cast<const T*>(source.data);
    for (int i = device::thread(); i < rows * kVectors; i += Tile::kThreads) {
      const int row = i / kVectors;
      const int column = i % kVectors * kVector;
      const bool valid = first + row < last && first_feature + column < features;
      const T* from = valid ? numbers + (first + row) * row_stride + first_feature + column : numbers;
      device::copy_16_bytes(target + row * Tile::kStride + column, from, valid);
    }
    device::commit_copies();
    device::wait_for_copies<0>();
    return;
  }
  for (int i = device::thread(); i < rows * Tile::kWidth; i += Tile::kThreads) {
    const int64_t row = first + i / Tile::kWidth;
    const int64_t feature = first_feature + i % Tile::kWidth;
    const bool valid = row < last && feature < features;
    target[i / Tile::kWidth * Tile::kStride + i % Tile::kWidth] =
        valid
            ? static_cast<T>(load_number(source, row * row_stride + feature * column_stride)) * scale(i / Tile::kWidth)
            : T(0);
  }
}

template <typename T, typename Tile>
struct ExactBlock {
  static constexpr int kWarps = Tile::kThreads / device::kWarp;
  static constexpr int kQueries = Tile::kRows / kWarps;                // of a warp
  static constexpr int kVectors = Tile::kWidth / (4 * device::kWarp);  // of four features that a thread accumulates
  // For the scores the threads stand in 8 rows and 16 columns.
  static constexpr int kScoreRows = Tile::kRows / 8;
  static constexpr int kScoreColumns = Tile::kNegatives / 16;
  static constexpr int kColumns = (Tile::kNegatives + device::kWarp - 1) / device::kWarp;  // of a row, for a lane

  T scores[kScoreRows][kScoreColumns];
  T means[kQueries][kVectors][4];
  SoftmaxState<T> state[kQueries];  // the same in all threads of a warp
  int rank[kQueries];               // of this thread's columns

  static TUBELETX_DEVICE int lane() { return device::thread() % device::kWarp; }
  static TUBELETX_DEVICE int warp_row() { return device::thread() / device::kWarp * kQueries; }

  TUBELETX_DEVICE void start() {
#pragma unroll
    for (int q = 0; q < kQueries; ++q) {
      state[q] = empty_softmax_state<T>();
      rank[q] = 0;
#pragma unroll
      for (int v = 0; v < kVectors; ++v) {
#pragma unroll
        for (int c = 0; c < 4; ++c) means[q][v][c] = 0;
      }
    }
  }

  TUBELETX_DEVICE void clear_scores() {
#pragma unroll
    for (int i = 0; i < kScoreRows; ++i) {
#pragma unroll
      for (int j = 0; j < kScoreColumns; ++j) scores[i][j] = 0;
    }
  }

  /// scores += queries negatives^T over `count` features
  TUBELETX_DEVICE void score(const T* query_rows, const T* negatives, int count) {
    const T* left_row = query_rows + device::thread() / 16 * Tile::kStride;
    const T* right_row = negatives + device::thread() % 16 * Tile::kStride;
#pragma unroll 1
    for (int feature = 0; feature < count; feature += 4) {
      Four<T> left[kScoreRows];
#pragma unroll
      for (int i = 0; i < kScoreRows; ++i) left[i] = four_at(left_row + 8 * i * Tile::kStride + feature);
#pragma unroll
      for (int j = 0; j < kScoreColumns; ++j) {
        const Four<T> right = four_at(right_row + 16 * j * Tile::kStride + feature);
#pragma unroll
        for (int i = 0; i < kScoreRows; ++i) {
#pragma unroll
          for (int c = 0; c < 4; ++c) scores[i][j] = fma(left[i].values[c], right.values[c], scores[i][j]);
        }
      }
    }
  }

  /// Hands the scores to the warps of their queries; a column of the tile is a row of `weights`.
  TUBELETX_DEVICE void share_scores(T* weights) const {
#pragma unroll
    for (int j = 0; j < kScoreColumns; ++j) {
#pragma unroll
      for (int i = 0; i < kScoreRows; ++i) {
        weights[(device::thread() % 16 + 16 * j) * Tile::kScoreStride + device::thread() / 16 + 8 * i] = scores[i][j];
      }
    }
  }

  /// Counts the scores above the positive's, what is no number among them, and turns the scores into weights relative
  /// to each row's running maximum.
  TUBELETX_DEVICE void soften(const QueueInfoNCEArguments& arguments, const RowThresholds<T>* block_thresholds,
                              T* weights, int64_t first_row, int64_t first_negative, int count) {
#pragma unroll
    for (int q = 0; q < kQueries; ++q) {
      const RowThresholds<T> thresholds = block_thresholds[warp_row() + q];
      T row[kColumns];
      T largest = -T(kInfinity);
      uint32_t undecided = 0;
#pragma unroll
      for (int j = 0; j < kColumns; ++j) {
        const int column = lane() + j * device::kWarp;
        row[j] = column < count ? weights[column * Tile::kScoreStride + warp_row() + q] : -T(kInfinity);
        largest = row[j] > largest ? row[j] : largest;
        const bool above = !(row[j] <= thresholds.positive + thresholds.tolerance);
        rank[q] += above;
        undecided |= static_cast<uint32_t>(row[j] > thresholds.positive - thresholds.tolerance && !above) << j;
      }
      if (device::ballot(undecided != 0) != 0) {
        recount(arguments, first_row + warp_row() + q, first_negative, undecided, rank[q]);
      }
      const T keep = raise_maximum(state[q].maximum, device::warp_maximum(largest), thresholds.factor);
      T sum = 0;
#pragma unroll
      for (int j = 0; j < kColumns; ++j) {
        const int column = lane() + j * device::kWarp;
        // The difference first: what is large may be so large that its multiple is not a number.
        const T weight = device::power_of_two((row[j] - state[q].maximum) * thresholds.factor);
        if (column < Tile::kNegatives) weights[column * Tile::kScoreStride + warp_row() + q] = weight;
        sum += weight;
      }
      state[q].sum = state[q].sum * keep + device::warp_sum(sum);
#pragma unroll
      for (int v = 0; v < kVectors; ++v) {
#pragma unroll
        for (int c = 0; c < 4; ++c) means[q][v][c] *= keep;
      }
    }
  }

  /// The whole warp computes each marked score of a row again, in double.
  static TUBELETX_DEVICE void recount(const QueueInfoNCEArguments& arguments, int64_t row, int64_t first_negative,
                                      uint32_t marks, int& rank) {
    for (uint32_t owners = device::ballot(marks != 0); owners != 0; owners &= owners - 1) {
      const int owner = device::lowest_bit(owners);
      for (uint32_t bits = device::shuffle(marks, owner); bits != 0; bits &= bits - 1) {
        const int64_t negative = first_negative + owner + device::lowest_bit(bits) * device::kWarp;
        const bool above = beats_positive<T, 1>(arguments, row, negative);
        rank += above && lane() == owner;
      }
    }
  }

  /// means += weights negatives over `count` negatives
  TUBELETX_DEVICE void accumulate(const T* weights, const T* negatives, int count) {
#pragma unroll 1
    for (int column = 0; column < count; ++column) {
      const T* weight_row = weights + column * Tile::kScoreStride + warp_row();
      Four<T> weight[kQueries / 4];
#pragma unroll
      for (int i = 0; i < kQueries / 4; ++i) weight[i] = four_at(weight_row + 4 * i);
#pragma unroll
      for (int v = 0; v < kVectors; ++v) {
        const Four<T> negative = four_at(negatives + column * Tile::kStride + 4 * (lane() + v * device::kWarp));
#pragma unroll
        for (int q = 0; q < kQueries; ++q) {
#pragma unroll
          for (int c = 0; c < 4; ++c) {
            means[q][v][c] = fma(weight[q / 4].values[q % 4], negative.values[c], means[q][v][c]);
          }
        }
      }
    }
  }

  TUBELETX_DEVICE void store(const QueueInfoNCEArguments& arguments, const RowThresholds<T>* block_thresholds,
                             int64_t split, int64_t first_row, int64_t first_feature) {
#pragma unroll
    for (int q = 0; q < kQueries; ++q) {
      const int count = device::warp_sum(rank[q]);
      const int64_t row = first_row + warp_row() + q;
      if (row >= arguments.batch) continue;
      if (first_feature == 0 && lane() == 0) {
        const double magnitude = block_thresholds[warp_row() + q].magnitude;
        static_cast<SplitState<T>*>(arguments.states)[row * arguments.plan.splits + split] = {
            static_cast<double>(state[q].maximum) * magnitude, state[q].sum, count};
      }
      if (!arguments.need_gradient) continue;
      T* target = static_cast<T*>(arguments.means) + (split * arguments.batch + row) * arguments.mean_stride;
#pragma unroll
      for (int v = 0; v < kVectors; ++v) {
#pragma unroll
        for (int c = 0; c < 4; ++c) {
          const int64_t feature = first_feature + 4 * (lane() + v * device::kWarp) + c;
          if (feature < arguments.mean_stride) target[feature] = means[q][v][c];
        }
      }
    }
  }
};

template <typename T, typename Tile>
TUBELETX_KERNEL(Tile::kThreads, Tile::kBlocks)
queue_infonce_exact(TUBELETX_KERNEL_ARGUMENT QueueInfoNCEArguments arguments) {
  const BlockShare<Tile> share(arguments);
  const int64_t first_row = share.first_row(), begin = share.begin(), end = share.end();
  const int64_t slice = device::block_y();
  const int64_t chunks = infonce::divide_up(arguments.features, Tile::kWidth);

  T* const queries = static_cast<T*>(device::shared_memory());
  T* const negatives = queries + Tile::kRows * Tile::kStride;
  T* const weights = negatives + Tile::kNegatives * Tile::kStride;
  RowThresholds<T>* const thresholds =
      reinterpret_cast<RowThresholds<T>*>(weights + Tile::kNegatives * Tile::kScoreStride);
  ExactBlock<T, Tile> block;
  block.start();
  prepare_queries<T, T, 0, Tile>(
      arguments, first_row,
      [&](int row, int64_t feature, const T(&values)[8]) {
        if (chunks > 1) return;
#pragma unroll
        for (int i = 0; i < 8; ++i) queries[row * Tile::kStride + feature + i] = values[i];
      },
      [&](int row, const RowThresholds<T>& prepared) { thresholds[row] = prepared; });
  if (slice == 0 && device::thread() < device::kWarp) store_positives<T>(arguments, share);
  device::synchronize_block();
  for (int64_t first = begin; first < end; first += Tile::kNegatives) {
    const int count = static_cast<int>(end - first < Tile::kNegatives ? end - first : Tile::kNegatives);
    const auto load_negatives = [&](int64_t first_feature) {
      load_exact_rows<T, Tile>(arguments.queue, arguments.queue_is_aligned, negatives, Tile::kNegatives, first, end,
                               first_feature, arguments.features, [](int) { return T(1); });
    };
    block.clear_scores();
    // Every slice sums its scores in this order: all of them find the same weights.
    for (int64_t chunk = 0; chunk < chunks; ++chunk) {
      const int64_t feature = chunk * Tile::kWidth;
      const int64_t rest = arguments.features - feature;
      device::synchronize_block();
      if (chunks > 1) {
        load_exact_rows<T, Tile>(arguments.query, false, queries, Tile::kRows, first_row, arguments.batch, feature,
                                 arguments.features, [&](int row) { return 1 / thresholds[row].magnitude; });
      }
      load_negatives(feature);
      device::synchronize_block();
      block.score(queries, negatives, static_cast<int>(rest < Tile::kWidth ? rest : Tile::kWidth));
    }
    block.share_scores(weights);
    device::synchronize_block();
    if (arguments.need_gradient && slice != chunks - 1) {
      load_negatives(slice * Tile::kWidth);
      device::synchronize_block();
    }
    block.soften(arguments, thresholds, weights, first_row, first, count);
    device::synchronize_warp();
    if (arguments.need_gradient) block.accumulate(weights, negatives, count);
  }
  block.store(arguments, thresholds, share.split, first_row, slice * Tile::kWidth);
}

}  // namespace tubeletx::cuda
