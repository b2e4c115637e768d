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
    constexpr int kVector = 8;
    constexpr int kVectors = Tile::kWidth / kVector;
#pragma unroll 4
    for (int i = lane; i < 16 * kVectors; i += device::kWarp) {
      const int row = first_row + i / kVectors;
      const int column = i % kVectors * kVector;
      const bool valid = first + row < last && column < arguments.features;
      const Element* source = valid ? queue + (first + row) * row_stride + column : queue;
      device::copy_16_bytes(target + row * Tile::kStride + column, source, valid);
    }
    return;
  }
#pragma unroll 1
  for (int i = lane; i < 16 * Tile::kWidth; i += device::kWarp) {
    const int row = first_row + i / Tile::kWidth;
    const int column = i % Tile::kWidth;
    const bool valid = first + row < last && column < arguments.features;
    target[row * Tile::kStride + column] =
        valid ? queue[(first + row) * row_stride + column * column_stride] : Element{0};
  }
}

/// The block's queries in 16-bit numbers, and behind each its thresholds.
template <typename Element, typename Tile>
TUBELETX_DEVICE void load_queries(const QueueInfoNCEArguments& arguments, Element* target, int64_t first) {
  prepare_queries<float, Element, Tile::kParts, Tile>(
      arguments, first,
      [&](int row, int64_t feature, const float (&values)[8]) {
        write_parts<Element, Tile::kParts>(target + row * Tile::kStride + feature, Tile::kRows * Tile::kStride, values);
      },
      [&](int row, const RowThresholds<float>& thresholds) {
        static_assert(sizeof(thresholds) <= sizeof(Element) * (Tile::kStride - Tile::kWidth));
        *reinterpret_cast<RowThresholds<float>*>(target + row * Tile::kStride + Tile::kWidth) = thresholds;
      });
}

/// A block's shared memory.
template <typename Element, typename Tile>
struct MatrixMemory {
  static constexpr int kTile = Tile::kNegatives * Tile::kStride;  // elements

  Element* queries;
  Element* negatives;  // a ring of tiles
  Element* weights;    // (rows, negatives) of the tile at work
  float* of_warps;     // (rows, warps) what the warps tell each other of a row

  TUBELETX_DEVICE MatrixMemory(void* memory, int64_t stages)
      : queries(static_cast<Element*>(memory)),
        negatives(queries + Tile::kParts * Tile::kRows * Tile::kStride),
        weights(negatives + stages * kTile),
        of_warps(reinterpret_cast<float*>(weights + Tile::kRows * Tile::kWeightStride)) {}
};

/// What a thread of the kernel holds.
template <typename Element, typename Tile>
struct MatrixBlock {
  static constexpr int kRowTiles = Tile::kRowTiles;
  static constexpr int kScoreTiles = 2;                       // of 8 negatives, of a warp
  static constexpr int kShare = Tile::kWidth / Tile::kWarps;  // features of a warp
  static constexpr int kMeanTiles = kShare / 8;
  using Rows = MatrixRows<Element, kRowTiles, kScoreTiles>;
  using Memory = MatrixMemory<Element, Tile>;

  const Memory& memory;
  Rows rows;
  typename Rows::Scores scores;
  float means[kRowTiles][kMeanTiles][4];

  static TUBELETX_DEVICE int lane() { return device::thread() % device::kWarp; }
  static TUBELETX_DEVICE int warp() { return device::thread() / device::kWarp; }

  explicit TUBELETX_DEVICE MatrixBlock(const Memory& shared) : memory(shared) {
    rows.start([&](int row) {
      return *reinterpret_cast<const RowThresholds<float>*>(memory.queries + row * Tile::kStride + Tile::kWidth);
    });
#pragma unroll
    for (int t = 0; t < kRowTiles; ++t) {
#pragma unroll
      for (int n = 0; n < kMeanTiles; ++n) {
#pragma unroll
        for (int c = 0; c < 4; ++c) means[t][n][c] = 0;
      }
    }
  }

  /// scores = queries negatives^T for the warp's 16 negatives
  TUBELETX_DEVICE void score(const Element* negatives) {
#pragma unroll
    for (int t = 0; t < kRowTiles; ++t) {
#pragma unroll
      for (int n = 0; n < kScoreTiles; ++n) {
#pragma unroll
        for (int c = 0; c < 4; ++c) scores[t][n][c] = 0;
      }
    }
    const Element* left_row = memory.queries + lane() % 16 * Tile::kStride + lane() / 16 * 8;
    const Element* right_row =
        negatives + (16 * warp() + lane() / 16 * 8 + lane() % 8) * Tile::kStride + lane() / 8 % 2 * 8;
    // The small parts first, as in any sum.
#pragma unroll
    for (int part = Tile::kParts - 1; part >= 0; --part) {
#pragma unroll 8
      for (int step = 0; step < Tile::kWidth / 16; ++step) {
        uint32_t right[4];
        device::load_matrices(right, right_row + 16 * step);
#pragma unroll
        for (int t = 0; t < kRowTiles; ++t) {
          uint32_t left[4];
          device::load_matrices(left, left_row + (part * Tile::kRows + 16 * t) * Tile::kStride + 16 * step);
          device::multiply_accumulate<Element>(scores[t][0], left, right[0], right[1]);
          device::multiply_accumulate<Element>(scores[t][1], left, right[2], right[3]);
        }
      }
    }
  }

  /// Tells the other warps the largest score of each row.
  TUBELETX_DEVICE void share_largest(const float (&largest)[Rows::kQueries]) const {
#pragma unroll
    for (int q = 0; q < Rows::kQueries; ++q) {
      if (lane() % 4 == 0) memory.of_warps[Rows::row_of(q, lane()) * Tile::kWarps + warp()] = largest[q];
    }
  }

  /// Weights relative to each row's running maximum over all warps, for all of them; the means likewise.
  TUBELETX_DEVICE void soften(float (&largest)[Rows::kQueries]) {
#pragma unroll
    for (int q = 0; q < Rows::kQueries; ++q) {
      const float* of_row = memory.of_warps + Rows::row_of(q, lane()) * Tile::kWarps;
#pragma unroll
      for (int i = 0; i < Tile::kWarps; ++i) largest[q] = fmaxf(largest[q], of_row[i]);
    }
    float keep[Rows::kQueries];
    const bool raised = rows.soften(scores, largest, keep);
#pragma unroll
    for (int q = 0; q < Rows::kQueries; ++q) {
#pragma unroll
      for (int n = 0; n < kScoreTiles; ++n) {
        const float (&pair)[4] = scores[q / 2][n];
        *reinterpret_cast<uint32_t*>(memory.weights + Rows::row_of(q, lane()) * Tile::kWeightStride + 16 * warp() +
                                     8 * n + lane() % 4 * 2) =
            device::pack<Element>(pair[q % 2 * 2], pair[q % 2 * 2 + 1]);
      }
    }
    if (!raised) return;
#pragma unroll
    for (int t = 0; t < kRowTiles; ++t) {
#pragma unroll
      for (int n = 0; n < kMeanTiles; ++n) {
#pragma unroll
        for (int c = 0; c < 4; ++c) means[t][n][c] *= keep[2 * t + c / 2];
      }
    }
  }

  /// means += weights negatives, over all negatives of the tile, for the warp's features
  TUBELETX_DEVICE void accumulate(const Element* negatives) {
    const Element* left_row = memory.weights + lane() % 16 * Tile::kWeightStride + lane() / 16 * 8;
    const Element* right_row = negatives + lane() % 16 * Tile::kStride + warp() * kShare + lane() / 16 * 8;
#pragma unroll
    for (int step = 0; step < Tile::kNegatives / 16; ++step) {
      uint32_t left[kRowTiles][4];
#pragma unroll
      for (int t = 0; t < kRowTiles; ++t) {
        device::load_matrices(left[t], left_row + 16 * t * Tile::kWeightStride + 16 * step);
      }
#pragma unroll
      for (int n = 0; n < kMeanTiles; n += 2) {
        uint32_t right[4];
        device::load_transposed_matrices(right, right_row + 16 * step * Tile::kStride + 8 * n);
#pragma unroll
        for (int t = 0; t < kRowTiles; ++t) {
          device::multiply_accumulate<Element>(means[t][n], left[t], right[0], right[1]);
          device::multiply_accumulate<Element>(means[t][n + 1], left[t], right[2], right[3]);
        }
      }
    }
  }

  TUBELETX_DEVICE void store(const QueueInfoNCEArguments& arguments, const BlockShare<Tile>& part) {
    if (arguments.need_gradient) {
      Rows::template store_means<kMeanTiles>(arguments, means, part.split, part.first_row(), warp() * kShare);
    }
    rows.recount(arguments, part.first_row(), part.begin() + 16 * warp(), part.end(), Tile::kNegatives);
    rows.finish();
    // A row's sum and rank over the warps, in their order.
    int* const ranks = reinterpret_cast<int*>(memory.weights);
    static_assert(sizeof(int) * Tile::kRows * Tile::kWarps <= sizeof(Element) * Tile::kRows * Tile::kWeightStride);
    device::synchronize_block();
#pragma unroll
    for (int q = 0; q < Rows::kQueries; ++q) {
      if (lane() % 4 != 0) continue;
      const int place = Rows::row_of(q, lane()) * Tile::kWarps + warp();
      memory.of_warps[place] = rows.sum[q];
      ranks[place] = rows.rank[q];
    }
    device::synchronize_block();
    if (warp() != 0) return;
#pragma unroll
    for (int q = 0; q < Rows::kQueries; ++q) {
      const int row = Rows::row_of(q, lane());
      if (lane() % 4 != 0) continue;
      float sum = 0;
      int rank = 0;
#pragma unroll
      for (int i = 0; i < Tile::kWarps; ++i) {
        sum += memory.of_warps[row * Tile::kWarps + i];
        rank += ranks[row * Tile::kWarps + i];
      }
      const auto& thresholds =
          *reinterpret_cast<const RowThresholds<float>*>(memory.queries + row * Tile::kStride + Tile::kWidth);
      Rows::store_state(arguments, part.split, part.first_row() + row, rows.maximum[q], thresholds.magnitude, sum,
                        rank);
    }
  }
};

template <typename Element, typename Tile>
TUBELETX_KERNEL(Tile::kThreads, Tile::kBlocks)
queue_infonce_matrix(TUBELETX_KERNEL_ARGUMENT QueueInfoNCEArguments arguments) {
  const BlockShare<Tile> share(arguments);
  const int stages = static_cast<int>(arguments.plan.stages);
  const int tiles = share.tiles();
  const MatrixMemory<Element, Tile> memory(device::shared_memory(), stages);
  int stage = 0;  // of the next tile that is loaded
  int loaded = 0;
  const auto load_next = [&] {
    if (loaded < tiles) {
      load_negatives<Element, Tile>(arguments, memory.negatives + stage * memory.kTile,
                                    share.begin() + int64_t{loaded} * Tile::kNegatives, share.end());
    }
    device::commit_copies();
    ++loaded;
    stage = stage + 1 == stages ? 0 : stage + 1;
  };
  for (int i = 1; i < stages; ++i) load_next();
  load_queries<Element, Tile>(arguments, memory.queries, share.first_row());
  if (device::thread() / device::kWarp == Tile::kWarps - 1) store_positives<float>(arguments, share);
  device::synchronize_block();

  MatrixBlock<Element, Tile> block(memory);
  int current = 0;
#pragma unroll 1
  for (int index = 0; index < tiles; ++index) {
    const int64_t first = share.begin() + int64_t{index} * Tile::kNegatives + 16 * (device::thread() / device::kWarp);
    const Element* const negatives = memory.negatives + current * memory.kTile;
    if (stages == Tile::kMostStages) {
      device::wait_for_copies<Tile::kMostStages - 2>();
    } else {
      device::wait_for_copies<Tile::kMostStages - 3>();
    }
    device::synchronize_warp();
    block.score(negatives);
    if (first + 16 > share.end()) block.rows.mask(block.scores, static_cast<int>(share.end() - first));
    float largest[decltype(block.rows)::kQueries];
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
