// First kernel of queue InfoNCE, for queues in half precision: both products on the matrix units, scores and weights
// in registers in between. The layout of the sums of one product is that of the left factor of the next.
#pragma once

#include <type_traits>

#include "cuda/infonce/queries.h"

namespace tubeletx::cuda {

/// Negatives [first, first + Tile::negatives) into shared memory, zeros from `last` and past the features on.
template <typename Element, typename Tile>
TUBELETX_DEVICE void load_negatives(const QueueInfoNCEArguments& arguments, Element* target, int64_t first,
                                    int64_t last) {
  const Element* queue = static_cast<const Element*>(arguments.queue.data);
  const int64_t row_stride = arguments.queue.strides[0];
  const int64_t column_stride = arguments.queue.strides[1];
  if (arguments.queue_is_aligned) {
    constexpr int vector = 8;
    constexpr int vectors = Tile::width / vector;
    for (int i = device::thread(); i < Tile::negatives * vectors; i += Tile::threads) {
      const int row = i / vectors;
      const int column = i % vectors * vector;
      const bool valid = first + row < last && column < arguments.features;
      const Element* source = valid ? queue + (first + row) * row_stride + column : queue;
      device::copy_16_bytes(target + row * Tile::stride + column, source, valid);
    }
    return;
  }
  for (int i = device::thread(); i < Tile::negatives * Tile::width; i += Tile::threads) {
    const int row = i / Tile::width;
    const int column = i % Tile::width;
    const bool valid = first + row < last && column < arguments.features;
    target[row * Tile::stride + column] =
        valid ? queue[(first + row) * row_stride + column * column_stride] : Element{0};
  }
}

/// The block's queries in 16-bit numbers, and behind each its thresholds.
template <typename Element, typename Tile>
TUBELETX_DEVICE void load_queries(const QueueInfoNCEArguments& arguments, Element* target, int64_t first) {
  const int parts = static_cast<int>(arguments.plan.parts);
  prepare_queries<float, Tile>(
      arguments, first,
      [&](int row, int64_t feature, const float (&values)[8]) {
        float rest[8];
#pragma unroll
        for (int i = 0; i < 8; ++i) rest[i] = values[i];
        for (int part = 0; part < parts; ++part) {
          Four<uint32_t> packed;
#pragma unroll
          for (int i = 0; i < 8; i += 2) {
            packed.values[i / 2] = device::pack<Element>(rest[i], rest[i + 1]);
            rest[i] -= to_real(Element{static_cast<uint16_t>(packed.values[i / 2])});
            rest[i + 1] -= to_real(Element{static_cast<uint16_t>(packed.values[i / 2] >> 16)});
          }
          *reinterpret_cast<Four<uint32_t>*>(target + (part * Tile::rows + row) * Tile::stride + feature) = packed;
        }
      },
      [&](int row, const RowThresholds<float>& thresholds) {
        static_assert(sizeof(thresholds) <= sizeof(Element) * (Tile::stride - Tile::width));
        *reinterpret_cast<RowThresholds<float>*>(target + row * Tile::stride + Tile::width) = thresholds;
      });
}

/// What a thread of the kernel holds: for each of its queries 2 t and 2 t + 1 (t counts its tiles of 16 rows, in which
/// it has rows lane / 4 and lane / 4 + 8), every fourth pair of columns.
template <typename Element, typename Tile>
struct MatrixBlock {
  static constexpr int row_tiles = Tile::row_tiles;
  static constexpr int queries = 2 * row_tiles;
  static constexpr int score_tiles = Tile::negatives / 8;
  static constexpr int share = Tile::width / Tile::column_warps;  // features of a warp
  static constexpr int mean_tiles = share / 8;
  /// Weights reach 2^headroom instead of 1 where small ones would leave the range of the element.
  static constexpr float headroom = std::is_same_v<Element, Half> ? 8 : 0;
  static_assert(row_tiles * score_tiles * 4 <= 32, "undecided scores are marked in 32 bits");

  float scores[row_tiles][score_tiles][4];
  float means[row_tiles][mean_tiles][4];
  RowThresholds<float> thresholds[queries];
  float maximum[queries];
  float sum[queries];  // over this thread's columns alone
  int rank[queries];   // likewise

  static TUBELETX_DEVICE int lane() { return device::thread() % device::kWarp; }
  static TUBELETX_DEVICE int column_warp() { return device::thread() / device::kWarp % Tile::column_warps; }
  /// First query of the warp in the block.
  static TUBELETX_DEVICE int warp_row() {
    return device::thread() / (device::kWarp * Tile::column_warps) * 16 * row_tiles;
  }
  /// Query q of the thread at `lane` in the block.
  static TUBELETX_DEVICE int row_of(int q, int lane) { return warp_row() + q / 2 * 16 + q % 2 * 8 + lane / 4; }

  TUBELETX_DEVICE void start(const Element* query_rows) {
#pragma unroll
    for (int q = 0; q < queries; ++q) {
      const Element* row = query_rows + row_of(q, lane()) * Tile::stride;
      thresholds[q] = *reinterpret_cast<const RowThresholds<float>*>(row + Tile::width);
      maximum[q] = empty_softmax_state<float>().maximum;
      sum[q] = 0;
      rank[q] = 0;
    }
#pragma unroll
    for (int t = 0; t < row_tiles; ++t) {
#pragma unroll
      for (int n = 0; n < mean_tiles; ++n) {
#pragma unroll
        for (int c = 0; c < 4; ++c) means[t][n][c] = 0;
      }
    }
  }

  /// scores = queries negatives^T
  TUBELETX_DEVICE void score(const Element* query_rows, const Element* negatives, int parts, int steps) {
#pragma unroll
    for (int t = 0; t < row_tiles; ++t) {
#pragma unroll
      for (int n = 0; n < score_tiles; ++n) {
#pragma unroll
        for (int c = 0; c < 4; ++c) scores[t][n][c] = 0;
      }
    }
    const Element* left_row = query_rows + (warp_row() + lane() % 16) * Tile::stride + lane() / 16 * 8;
    const Element* right_row = negatives + (lane() / 16 * 8 + lane() % 8) * Tile::stride + lane() / 8 % 2 * 8;
    // The small parts first, as in any sum.
    for (int part = parts - 1; part >= 0; --part) {
#pragma unroll 2
      for (int step = 0; step < steps; ++step) {
        uint32_t left[row_tiles][4];
#pragma unroll
        for (int t = 0; t < row_tiles; ++t) {
          device::load_matrices(left[t], left_row + (part * Tile::rows + 16 * t) * Tile::stride + 16 * step);
        }
#pragma unroll
        for (int n = 0; n < score_tiles; n += 2) {
          uint32_t right[4];
          device::load_matrices(right, right_row + 8 * n * Tile::stride + 16 * step);
#pragma unroll
          for (int t = 0; t < row_tiles; ++t) {
            device::multiply_accumulate<Element>(scores[t][n], left[t], right[0], right[1]);
            device::multiply_accumulate<Element>(scores[t][n + 1], left[t], right[2], right[3]);
          }
        }
      }
    }
  }

  /// Takes the columns from `count` on out of the tile.
  TUBELETX_DEVICE void mask(int count) {
#pragma unroll
    for (int n = 0; n < score_tiles; ++n) {
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        const bool past = n * 8 + lane() % 4 * 2 + c % 2 >= count;
#pragma unroll
        for (int t = 0; t < row_tiles; ++t) scores[t][n][c] = past ? -kInfinity : scores[t][n][c];
      }
    }
  }

  /// Counts the scores above the positive's.
  TUBELETX_DEVICE void count_above(const QueueInfoNCEArguments& arguments, int64_t first_row, int64_t first_negative) {
    int undecided = 0;
#pragma unroll
    for (int t = 0; t < row_tiles; ++t) {
#pragma unroll
      for (int n = 0; n < score_tiles; ++n) {
#pragma unroll
        for (int c = 0; c < 4; ++c) {
          const int q = 2 * t + c / 2;
          const int above = scores[t][n][c] > thresholds[q].above;
          rank[q] += above;
          undecided += (scores[t][n][c] > thresholds[q].maybe) - above;
        }
      }
    }
    if (device::ballot(undecided != 0) == 0) return;
    uint32_t marks = 0;
#pragma unroll
    for (int t = 0; t < row_tiles; ++t) {
#pragma unroll
      for (int n = 0; n < score_tiles; ++n) {
#pragma unroll
        for (int c = 0; c < 4; ++c) {
          const int q = 2 * t + c / 2;
          const bool near = scores[t][n][c] > thresholds[q].maybe && !(scores[t][n][c] > thresholds[q].above);
          marks |= static_cast<uint32_t>(near) << ((t * score_tiles + n) * 4 + c);
        }
      }
    }
    recount(arguments, first_row, first_negative, marks);
  }

  /// The whole warp computes each marked score again, in double.
  TUBELETX_DEVICE void recount(const QueueInfoNCEArguments& arguments, int64_t first_row, int64_t first_negative,
                               uint32_t marks) {
    for (uint32_t owners = device::ballot(marks != 0); owners != 0; owners &= owners - 1) {
      const int owner = device::lowest_bit(owners);
      for (uint32_t bits = device::shuffle(marks, owner); bits != 0; bits &= bits - 1) {
        const int mark = device::lowest_bit(bits);
        const int owned = mark / (score_tiles * 4) * 2 + mark % 4 / 2;
        const int64_t row = first_row + row_of(owned, owner);
        const int64_t negative = first_negative + mark / 4 % score_tiles * 8 + owner % 4 * 2 + mark % 2;
        const bool above = beats_positive(arguments, row, negative);
#pragma unroll
        for (int q = 0; q < queries; ++q) rank[q] += above && q == owned && lane() == owner;
      }
    }
  }

  /// scores = softmax weights relative to each row's running maximum
  TUBELETX_DEVICE void soften() {
    bool raised = false;
    float keep[queries];
#pragma unroll
    for (int q = 0; q < queries; ++q) {
      float largest = -kInfinity;
#pragma unroll
      for (int n = 0; n < score_tiles; ++n) {
        largest = fmaxf(largest, fmaxf(scores[q / 2][n][q % 2 * 2], scores[q / 2][n][q % 2 * 2 + 1]));
      }
      // Threads 4 i to 4 i + 3 share a row.
      largest = fmaxf(largest, device::shuffle_xor(largest, 1));
      largest = fmaxf(largest, device::shuffle_xor(largest, 2));
      keep[q] = raise_maximum(maximum[q], largest * thresholds[q].factor - headroom);
      raised |= keep[q] != 1.0f;
      sum[q] *= keep[q];
#pragma unroll
      for (int n = 0; n < score_tiles; ++n) {
#pragma unroll
        for (int c = q % 2 * 2; c < q % 2 * 2 + 2; ++c) {
          float& weight = scores[q / 2][n][c];
          weight = device::power_of_two(fmaf(weight, thresholds[q].factor, -maximum[q]));
          sum[q] += weight;
        }
      }
    }
    // After the first tiles a new maximum is rare.
    if (device::ballot(raised) == 0) return;
#pragma unroll
    for (int t = 0; t < row_tiles; ++t) {
#pragma unroll
      for (int n = 0; n < mean_tiles; ++n) {
#pragma unroll
        for (int c = 0; c < 4; ++c) means[t][n][c] *= keep[2 * t + c / 2];
      }
    }
  }

  /// means += weights negatives, for the warp's features among the first `features`
  TUBELETX_DEVICE void accumulate(const Element* negatives, int features) {
    const int first = column_warp() * share;
    const Element* right_row = negatives + lane() % 16 * Tile::stride + first + lane() / 16 * 8;
#pragma unroll
    for (int step = 0; step < score_tiles / 2; ++step) {
      uint32_t left[row_tiles][4];
#pragma unroll
      for (int t = 0; t < row_tiles; ++t) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const float (&weights)[4] = scores[t][2 * step + i / 2];
          left[t][i] = device::pack<Element>(weights[i % 2 * 2], weights[i % 2 * 2 + 1]);
        }
      }
#pragma unroll
      for (int n = 0; n < mean_tiles; n += 2) {
        if (first + 8 * n >= features) break;
        uint32_t right[4];
        device::load_transposed_matrices(right, right_row + 16 * step * Tile::stride + 8 * n);
#pragma unroll
        for (int t = 0; t < row_tiles; ++t) {
          device::multiply_accumulate<Element>(means[t][n], left[t], right[0], right[1]);
          device::multiply_accumulate<Element>(means[t][n + 1], left[t], right[2], right[3]);
        }
      }
    }
  }

  TUBELETX_DEVICE void store(const QueueInfoNCEArguments& arguments, int64_t split, int64_t first_row) {
#pragma unroll
    for (int q = 0; q < queries; ++q) {
      sum[q] += device::shuffle_xor(sum[q], 1);
      sum[q] += device::shuffle_xor(sum[q], 2);
      rank[q] += device::shuffle_xor(rank[q], 1);
      rank[q] += device::shuffle_xor(rank[q], 2);
    }
#pragma unroll
    for (int q = 0; q < queries; ++q) {
      const int64_t row = first_row + row_of(q, lane());
      if (row >= arguments.batch) continue;
      const int64_t place = split * arguments.batch + row;
      if (column_warp() == 0 && lane() % 4 == 0) {
        static_cast<SoftmaxState<float>*>(arguments.states)[place] = {maximum[q], sum[q]};
        arguments.ranks[place] = rank[q];
      }
      if (!arguments.need_gradient) continue;
      float* target = static_cast<float*>(arguments.means) + place * arguments.features;
#pragma unroll
      for (int n = 0; n < mean_tiles; ++n) {
        const int column = column_warp() * share + 8 * n + lane() % 4 * 2;
        if (column < arguments.features) target[column] = means[q / 2][n][q % 2 * 2];
        if (column + 1 < arguments.features) target[column + 1] = means[q / 2][n][q % 2 * 2 + 1];
      }
    }
  }
};

template <typename Element, typename Tile>
TUBELETX_KERNEL(Tile::threads, Tile::blocks)
queue_infonce_matrix(TUBELETX_KERNEL_ARGUMENT QueueInfoNCEArguments arguments) {
  const BlockShare<Tile> share(arguments);
  const int64_t first_row = share.first_row, begin = share.begin, end = share.end;
  const int features = static_cast<int>(arguments.features);
  const int parts = static_cast<int>(arguments.plan.parts);

  Element* const queries = static_cast<Element*>(device::shared_memory());
  Element* current = queries + parts * Tile::rows * Tile::stride;
  Element* next = current + Tile::negatives * Tile::stride;
  load_negatives<Element, Tile>(arguments, current, begin, end);
  device::commit_copies();
  load_queries<Element, Tile>(arguments, queries, first_row);
  device::synchronize_block();

  MatrixBlock<Element, Tile> block;
  block.start(queries);
  for (int64_t first = begin; first < end; first += Tile::negatives) {
    if (first + Tile::negatives < end) {
      load_negatives<Element, Tile>(arguments, next, first + Tile::negatives, end);
    }
    device::commit_copies();
    device::wait_for_copies<1>();
    device::synchronize_block();
    block.score(queries, current, parts, (features + 15) / 16);
    if (first + Tile::negatives > end) block.mask(static_cast<int>(end - first));
    if (block.column_warp() == 0) block.count_above(arguments, first_row, first);
    block.soften();
    if (arguments.need_gradient) block.accumulate(current, features);
    device::synchronize_block();
    Element* const done = current;
    current = next;
    next = done;
  }
  block.store(arguments, share.split, first_row);
}

}  // namespace tubeletx::cuda
