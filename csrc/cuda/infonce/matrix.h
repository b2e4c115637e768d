// First kernel of queue InfoNCE, for queues in half precision: both products on the matrix units, scores and weights
// in registers in between. The layout of the sums of one product is that of the left factor of the next.
#pragma once

#include "cuda/infonce/queries.h"
#include "cuda/infonce/rows.h"

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
        write_parts(target + row * Tile::stride + feature, Tile::rows * Tile::stride, parts, values);
      },
      [&](int row, const RowThresholds<float>& thresholds) {
        static_assert(sizeof(thresholds) <= sizeof(Element) * (Tile::stride - Tile::width));
        *reinterpret_cast<RowThresholds<float>*>(target + row * Tile::stride + Tile::width) = thresholds;
      });
}

/// What a thread of the kernel holds.
template <typename Element, typename Tile>
struct MatrixBlock {
  static constexpr int row_tiles = Tile::row_tiles;
  static constexpr int score_tiles = Tile::negatives / 8;
  static constexpr int share = Tile::width / Tile::column_warps;  // features of a warp
  static constexpr int mean_tiles = share / 8;
  using Rows = MatrixRows<row_tiles, score_tiles>;

  Rows rows;
  typename Rows::Scores scores;
  float means[row_tiles][mean_tiles][4];

  static TUBELETX_DEVICE int lane() { return device::thread() % device::kWarp; }
  static TUBELETX_DEVICE int column_warp() { return device::thread() / device::kWarp % Tile::column_warps; }
  /// First query of the warp in the block.
  static TUBELETX_DEVICE int warp_row() {
    return device::thread() / (device::kWarp * Tile::column_warps) * 16 * row_tiles;
  }

  TUBELETX_DEVICE void start(const Element* query_rows) {
    rows.start([&](int row) {
      const Element* query = query_rows + (warp_row() + row) * Tile::stride;
      return *reinterpret_cast<const RowThresholds<float>*>(query + Tile::width);
    });
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
  TUBELETX_DEVICE void score(const Element* query_rows, const Element* negatives, int parts) {
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
#pragma unroll 4
      for (int step = 0; step < Tile::width / 16; ++step) {
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

  /// scores = softmax weights relative to each row's running maximum, means likewise
  TUBELETX_DEVICE void soften() {
    float keep[Rows::queries];
    if (!rows.soften(scores, kHeadroom<Element>, keep)) return;
#pragma unroll
    for (int t = 0; t < row_tiles; ++t) {
#pragma unroll
      for (int n = 0; n < mean_tiles; ++n) {
#pragma unroll
        for (int c = 0; c < 4; ++c) means[t][n][c] *= keep[2 * t + c / 2];
      }
    }
  }

  /// means += weights negatives, for the warp's features
  TUBELETX_DEVICE void accumulate(const Element* negatives) {
    const Element* right_row = negatives + lane() % 16 * Tile::stride + column_warp() * share + lane() / 16 * 8;
#pragma unroll
    for (int step = 0; step < score_tiles / 2; ++step) {
      uint32_t left[row_tiles][4];
#pragma unroll
      for (int t = 0; t < row_tiles; ++t) pack_weights<Element>(left[t], scores[t], step);
#pragma unroll
      for (int n = 0; n < mean_tiles; n += 2) {
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

  TUBELETX_DEVICE void store(const QueueInfoNCEArguments& arguments, const BlockShare<Tile>& part) {
    const int64_t first_row = part.first_row + warp_row();
    if (arguments.need_gradient) {
      Rows::template store_means<mean_tiles>(arguments, means, part.split, first_row, column_warp() * share);
    }
    if (column_warp() == 0) rows.store(arguments, part, first_row);
  }
};

template <typename Element, typename Tile>
TUBELETX_KERNEL(Tile::threads, Tile::blocks)
queue_infonce_matrix(TUBELETX_KERNEL_ARGUMENT QueueInfoNCEArguments arguments) {
  device::let_next_kernel_start();
  const BlockShare<Tile> share(arguments);
  const int64_t first_row = share.first_row, begin = share.begin, end = share.end;
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
    block.score(queries, current, parts);
    if (first + Tile::negatives > end) block.rows.mask(block.scores, static_cast<int>(end - first));
    if (block.column_warp() == 0) {
      block.rows.count_above(block.scores, first);
    }
    block.soften();
    if (arguments.need_gradient) block.accumulate(current);
    device::synchronize_block();
    Element* const done = current;
    current = next;
    next = done;
  }
  block.store(arguments, share);
}

template <typename Element>
void launch_matrix(const QueueInfoNCEArguments& arguments, Stream stream) {
  const auto launch = [&](void (*kernel)(QueueInfoNCEArguments)) {
    launch_planned(kernel, arguments, arguments.plan, stream);
  };
  switch (arguments.plan.kernel) {
    case QueueKernel::kSmallMatrix64:
      return launch(queue_infonce_matrix<Element, SmallMatrixTile64>);
    case QueueKernel::kLargeMatrix64:
      return launch(queue_infonce_matrix<Element, LargeMatrixTile64>);
    case QueueKernel::kSmallMatrix128:
      return launch(queue_infonce_matrix<Element, SmallMatrixTile128>);
    case QueueKernel::kLargeMatrix128:
      return launch(queue_infonce_matrix<Element, LargeMatrixTile128>);
    case QueueKernel::kSmallMatrix256:
      return launch(queue_infonce_matrix<Element, SmallMatrixTile256>);
    case QueueKernel::kLargeMatrix256:
      return launch(queue_infonce_matrix<Element, LargeMatrixTile256>);
    default:
      return launch(queue_infonce_matrix<Element, MatrixTile512>);
  }
}

}  // namespace tubeletx::cuda
