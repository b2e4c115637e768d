// First kernel of queue InfoNCE, for queues in half precision: both products on the matrix units. The warps of a block
// score different negatives, and tell each other the largest scores and then the weights, for they sum different
// features over all of them. All that a block reads at first is asked for at once.
#pragma once

#include "cuda/infonce/queries.h"
#include "cuda/infonce/rows.h"

namespace tubeletx::cuda {

/// Negatives [first, first + Tile::negatives) into shared memory, zeros from `last` and past the features on. A warp
/// loads those that it multiplies.
template <typename Element, typename Tile>
TUBELETX_DEVICE void load_negatives(const QueueInfoNCEArguments& arguments, Element* target, int64_t first,
                                    int64_t last) {
  const Element* queue = static_cast<const Element*>(arguments.queue.data);
  const int64_t row_stride = arguments.queue.strides[0];
  const int64_t column_stride = arguments.queue.strides[1];
  const int lane = device::thread() % device::kWarp;
  const int first_row = device::thread() / device::kWarp * 16;
  if (arguments.queue_is_aligned) {
    constexpr int vector = 8;
    constexpr int vectors = Tile::width / vector;
#pragma unroll 4
    for (int i = lane; i < 16 * vectors; i += device::kWarp) {
      const int row = first_row + i / vectors;
      const int column = i % vectors * vector;
      const bool valid = first + row < last && column < arguments.features;
      const Element* source = valid ? queue + (first + row) * row_stride + column : queue;
      device::copy_16_bytes(target + row * Tile::stride + column, source, valid);
    }
    return;
  }
#pragma unroll 1
  for (int i = lane; i < 16 * Tile::width; i += device::kWarp) {
    const int row = first_row + i / Tile::width;
    const int column = i % Tile::width;
    const bool valid = first + row < last && column < arguments.features;
    target[row * Tile::stride + column] =
        valid ? queue[(first + row) * row_stride + column * column_stride] : Element{0};
  }
}

/// The block's queries in 16-bit numbers, and behind each its thresholds.
template <typename Element, typename Tile>
TUBELETX_DEVICE void load_queries(const QueueInfoNCEArguments& arguments, Element* target, int64_t first) {
  prepare_queries<float, Element, Tile::parts, Tile>(
      arguments, first,
      [&](int row, int64_t feature, const float (&values)[8]) {
        write_parts<Element, Tile::parts>(target + row * Tile::stride + feature, Tile::rows * Tile::stride, values);
      },
      [&](int row, const RowThresholds<float>& thresholds) {
        static_assert(sizeof(thresholds) <= sizeof(Element) * (Tile::stride - Tile::width));
        *reinterpret_cast<RowThresholds<float>*>(target + row * Tile::stride + Tile::width) = thresholds;
      });
}

/// A block's shared memory.
template <typename Element, typename Tile>
struct MatrixMemory {
  static constexpr int tile = Tile::negatives * Tile::stride;  // elements

  Element* queries;
  Element* negatives;  // a ring of tiles
  Element* weights;    // (rows, negatives) of the tile at work
  float* of_warps;     // (rows, warps) what the warps tell each other of a row

  TUBELETX_DEVICE MatrixMemory(void* memory, int64_t stages)
      : queries(static_cast<Element*>(memory)),
        negatives(queries + Tile::parts * Tile::rows * Tile::stride),
        weights(negatives + stages * tile),
        of_warps(reinterpret_cast<float*>(weights + Tile::rows * Tile::weight_stride)) {}
};

/// What a thread of the kernel holds.
template <typename Element, typename Tile>
struct MatrixBlock {
  static constexpr int row_tiles = Tile::row_tiles;
  static constexpr int score_tiles = 2;                    // of 8 negatives, of a warp
  static constexpr int share = Tile::width / Tile::warps;  // features of a warp
  static constexpr int mean_tiles = share / 8;
  using Rows = MatrixRows<Element, row_tiles, score_tiles>;
  using Memory = MatrixMemory<Element, Tile>;

  const Memory& memory;
  Rows rows;
  typename Rows::Scores scores;
  float means[row_tiles][mean_tiles][4];

  static TUBELETX_DEVICE int lane() { return device::thread() % device::kWarp; }
  static TUBELETX_DEVICE int warp() { return device::thread() / device::kWarp; }

  explicit TUBELETX_DEVICE MatrixBlock(const Memory& shared) : memory(shared) {
    rows.start([&](int row) {
      return *reinterpret_cast<const RowThresholds<float>*>(memory.queries + row * Tile::stride + Tile::width);
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

  /// scores = queries negatives^T for the warp's 16 negatives
  TUBELETX_DEVICE void score(const Element* negatives) {
#pragma unroll
    for (int t = 0; t < row_tiles; ++t) {
#pragma unroll
      for (int n = 0; n < score_tiles; ++n) {
#pragma unroll
        for (int c = 0; c < 4; ++c) scores[t][n][c] = 0;
      }
    }
    const Element* left_row = memory.queries + lane() % 16 * Tile::stride + lane() / 16 * 8;
    const Element* right_row =
        negatives + (16 * warp() + lane() / 16 * 8 + lane() % 8) * Tile::stride + lane() / 8 % 2 * 8;
    // The small parts first, as in any sum.
#pragma unroll
    for (int part = Tile::parts - 1; part >= 0; --part) {
#pragma unroll 8
      for (int step = 0; step < Tile::width / 16; ++step) {
        uint32_t right[4];
        device::load_matrices(right, right_row + 16 * step);
#pragma unroll
        for (int t = 0; t < row_tiles; ++t) {
          uint32_t left[4];
          device::load_matrices(left, left_row + (part * Tile::rows + 16 * t) * Tile::stride + 16 * step);
          device::multiply_accumulate<Element>(scores[t][0], left, right[0], right[1]);
          device::multiply_accumulate<Element>(scores[t][1], left, right[2], right[3]);
        }
      }
    }
  }

  /// Tells the other warps the largest score of each row.
  TUBELETX_DEVICE void share_largest(const float (&largest)[Rows::queries]) const {
#pragma unroll
    for (int q = 0; q < Rows::queries; ++q) {
      if (lane() % 4 == 0) memory.of_warps[Rows::row_of(q, lane()) * Tile::warps + warp()] = largest[q];
    }
  }

  /// Weights relative to each row's running maximum over all warps, for all of them; the means likewise.
  TUBELETX_DEVICE void soften(float (&largest)[Rows::queries]) {
#pragma unroll
    for (int q = 0; q < Rows::queries; ++q) {
      const float* of_row = memory.of_warps + Rows::row_of(q, lane()) * Tile::warps;
#pragma unroll
      for (int i = 0; i < Tile::warps; ++i) largest[q] = fmaxf(largest[q], of_row[i]);
    }
    float keep[Rows::queries];
    const bool raised = rows.soften(scores, largest, keep);
#pragma unroll
    for (int q = 0; q < Rows::queries; ++q) {
#pragma unroll
      for (int n = 0; n < score_tiles; ++n) {
        const float (&pair)[4] = scores[q / 2][n];
        *reinterpret_cast<uint32_t*>(memory.weights + Rows::row_of(q, lane()) * Tile::weight_stride + 16 * warp() +
                                     8 * n + lane() % 4 * 2) =
            device::pack<Element>(pair[q % 2 * 2], pair[q % 2 * 2 + 1]);
      }
    }
    if (!raised) return;
#pragma unroll
    for (int t = 0; t < row_tiles; ++t) {
#pragma unroll
      for (int n = 0; n < mean_tiles; ++n) {
#pragma unroll
        for (int c = 0; c < 4; ++c) means[t][n][c] *= keep[2 * t + c / 2];
      }
    }
  }

  /// means += weights negatives, over all negatives of the tile, for the warp's features
  TUBELETX_DEVICE void accumulate(const Element* negatives) {
    const Element* left_row = memory.weights + lane() % 16 * Tile::weight_stride + lane() / 16 * 8;
    const Element* right_row = negatives + lane() % 16 * Tile::stride + warp() * share + lane() / 16 * 8;
#pragma unroll
    for (int step = 0; step < Tile::negatives / 16; ++step) {
      uint32_t left[row_tiles][4];
#pragma unroll
      for (int t = 0; t < row_tiles; ++t) {
        device::load_matrices(left[t], left_row + 16 * t * Tile::weight_stride + 16 * step);
      }
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
    if (arguments.need_gradient) {
      Rows::template store_means<mean_tiles>(arguments, means, part.split, part.first_row(), warp() * share);
    }
    rows.recount(arguments, part.first_row(), part.begin() + 16 * warp(), part.end(), Tile::negatives);
    rows.finish();
    // A row's sum and rank over the warps, in their order.
    int* const ranks = reinterpret_cast<int*>(memory.weights);
    static_assert(sizeof(int) * Tile::rows * Tile::warps <= sizeof(Element) * Tile::rows * Tile::weight_stride);
    device::synchronize_block();
#pragma unroll
    for (int q = 0; q < Rows::queries; ++q) {
      if (lane() % 4 != 0) continue;
      const int place = Rows::row_of(q, lane()) * Tile::warps + warp();
      memory.of_warps[place] = rows.sum[q];
      ranks[place] = rows.rank[q];
    }
    device::synchronize_block();
    if (warp() != 0) return;
#pragma unroll
    for (int q = 0; q < Rows::queries; ++q) {
      const int row = Rows::row_of(q, lane());
      if (lane() % 4 != 0) continue;
      float sum = 0;
      int rank = 0;
#pragma unroll
      for (int i = 0; i < Tile::warps; ++i) {
        sum += memory.of_warps[row * Tile::warps + i];
        rank += ranks[row * Tile::warps + i];
      }
      const auto& thresholds =
          *reinterpret_cast<const RowThresholds<float>*>(memory.queries + row * Tile::stride + Tile::width);
      Rows::store_state(arguments, part.split, part.first_row() + row, rows.maximum[q], thresholds.magnitude, sum,
                        rank);
    }
  }
};

template <typename Element, typename Tile>
TUBELETX_KERNEL(Tile::threads, Tile::blocks)
queue_infonce_matrix(TUBELETX_KERNEL_ARGUMENT QueueInfoNCEArguments arguments) {
  const BlockShare<Tile> share(arguments);
  const int stages = static_cast<int>(arguments.plan.stages);
  const int tiles = share.tiles();
  const MatrixMemory<Element, Tile> memory(device::shared_memory(), stages);
  int stage = 0;  // of the next tile that is loaded
  int loaded = 0;
  const auto load_next = [&] {
    if (loaded < tiles) {
      load_negatives<Element, Tile>(arguments, memory.negatives + stage * memory.tile,
                                    share.begin() + int64_t{loaded} * Tile::negatives, share.end());
    }
    device::commit_copies();
    ++loaded;
    stage = stage + 1 == stages ? 0 : stage + 1;
  };
  for (int i = 1; i < stages; ++i) load_next();
  load_queries<Element, Tile>(arguments, memory.queries, share.first_row());
  if (device::thread() / device::kWarp == Tile::warps - 1) store_positives<float>(arguments, share);
  device::synchronize_block();

  MatrixBlock<Element, Tile> block(memory);
  int current = 0;
#pragma unroll 1
  for (int index = 0; index < tiles; ++index) {
    const int64_t first = share.begin() + int64_t{index} * Tile::negatives + 16 * (device::thread() / device::kWarp);
    const Element* const negatives = memory.negatives + current * memory.tile;
    if (stages == Tile::most_stages) {
      device::wait_for_copies<Tile::most_stages - 2>();
    } else {
      device::wait_for_copies<Tile::most_stages - 3>();
    }
    device::synchronize_warp();
    block.score(negatives);
    if (first + 16 > share.end()) block.rows.mask(block.scores, static_cast<int>(share.end() - first));
    float largest[decltype(block.rows)::queries];
    block.rows.find_largest(block.scores, largest);
    block.share_largest(largest);
    block.rows.count_above(block.scores, first);
    device::synchronize_block();
    // All warps are done with the tile before.
    load_next();
    block.soften(largest);
    device::synchronize_block();
    if (arguments.need_gradient) block.accumulate(negatives);
    current = current + 1 == stages ? 0 : current + 1;
  }
  device::wait_for_copies<0>();
  block.store(arguments, share);
}

template <typename Element>
void launch_matrix(const QueueInfoNCEArguments& arguments, Stream stream) {
  const auto launch = [&](void (*kernel)(QueueInfoNCEArguments)) {
    launch_planned(kernel, arguments, arguments.plan, stream);
  };
  const bool whole = arguments.plan.parts == 1;
  switch (arguments.plan.kernel) {
    case QueueKernel::kMatrix64:
      return launch(whole ? queue_infonce_matrix<Element, MatrixTile64<1>>
                          : queue_infonce_matrix<Element, MatrixTile64<2>>);
    case QueueKernel::kMatrix128:
      return launch(whole ? queue_infonce_matrix<Element, MatrixTile128<1>>
                          : queue_infonce_matrix<Element, MatrixTile128<2>>);
    case QueueKernel::kMatrix256:
      return launch(whole ? queue_infonce_matrix<Element, MatrixTile256<1>>
                          : queue_infonce_matrix<Element, MatrixTile256<2>>);
    default:
      return launch(whole ? queue_infonce_matrix<Element, MatrixTile512<1>>
                          : queue_infonce_matrix<Element, MatrixTile512<2>>);
  }
}

}  // namespace tubeletx::cuda
