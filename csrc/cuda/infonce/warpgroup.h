// First kernel of queue InfoNCE, for queues in half precision, large batches and GPUs of compute capability 9.0. One
// warpgroup keeps a ring of tiles of the queue filled. Two others, with 64 queries each, multiply: the products of one
// tile run while the weights of the next are worked out.
#pragma once

#include "cuda/infonce/queries.h"
#include "cuda/infonce/rows.h"
#include "cuda/infonce/warpgroup_device.h"

namespace tubeletx::cuda {

struct WarpgroupArguments {
  device::MatrixMap queue;
  QueueInfoNCEArguments common;
};

/// Of a block, beside the panels.
template <typename Tile>
struct WarpgroupMemory {
  device::TransferBarrier full[Tile::kMostStages];
  device::TransferBarrier empty[Tile::kMostStages];
  RowThresholds<float> thresholds[Tile::kRows];
};

#if !defined(__CUDACC__) || defined(TUBELETX_HAS_WARPGROUPS)

/// The tiles of a block's share, as they pass through the ring. A tile is as many panels as the queue has columns for.
template <typename Element, typename Tile>
struct TileRing {
  static constexpr int kPanel = Tile::kNegatives * device::kPanelColumns;  // elements
  static constexpr int kTile = Tile::kPanels * kPanel;

  Element* memory;
  WarpgroupMemory<Tile>& shared;

  static constexpr uint32_t kStages = Tile::kMostStages;

  // Tiles are counted from the first of the share on.
  TUBELETX_DEVICE Element* at(uint32_t index) const { return memory + index % kStages * kTile; }

  /// The thread that fetches; `first` is the tile's first negative.
  TUBELETX_DEVICE void fetch(const device::MatrixMap& queue, uint32_t index, int64_t first) const {
    device::TransferBarrier& full = shared.full[index % kStages];
    device::arrive_and_expect(full, kTile * static_cast<int>(sizeof(Element)));
    for (int p = 0; p < Tile::kPanels; ++p) {
      device::copy_box(at(index) + p * kPanel, queue, static_cast<int>(first), p * device::kPanelColumns, full);
    }
  }
  /// All threads of a warp together.
  TUBELETX_DEVICE void wait_until_full(uint32_t index) const {
    device::wait(shared.full[index % kStages], index / kStages % 2);
    device::synchronize_warp();
  }
  /// The thread that fetches.
  TUBELETX_DEVICE void wait_until_empty(uint32_t index) const {
    device::wait(shared.empty[index % kStages], (index / kStages - 1) % 2);
  }
  /// A thread of every warp that multiplies.
  TUBELETX_DEVICE void release(uint32_t index) const { device::arrive(shared.empty[index % kStages]); }
};

/// What a thread of the warpgroups that multiply holds.
template <typename Element, typename Tile>
struct WarpgroupBlock {
  static constexpr int kScoreTiles = Tile::kNegatives / 8;
  static constexpr int kSteps = Tile::kNegatives / 16;
  static constexpr int kPanelTiles = device::kPanelColumns / 8;
  static constexpr int kTilePanelBytes = TileRing<Element, Tile>::kPanel * sizeof(Element);
  static constexpr int kQueryPanel = Tile::kRows * device::kPanelColumns;
  using Rows = MatrixRows<Element, 1, kScoreTiles>;

  Rows rows;
  typename Rows::Scores scores;
  uint32_t weights[kSteps][4];
  float means[Tile::kPanels][1][kPanelTiles][4];

  /// First of its 64 queries in the block, and of its warp's 16.
  static TUBELETX_DEVICE int warpgroup_row() { return device::thread() / device::kWarpgroup % 2 * 64; }
  static TUBELETX_DEVICE int warp_row() {
    return warpgroup_row() + device::thread() % device::kWarpgroup / device::kWarp * 16;
  }

  TUBELETX_DEVICE void start(const RowThresholds<float>* thresholds) {
    rows.start([&](int row) { return thresholds[warp_row() + row]; });
#pragma unroll
    for (int p = 0; p < Tile::kPanels; ++p) {
#pragma unroll
      for (int n = 0; n < kPanelTiles; ++n) {
#pragma unroll
        for (int c = 0; c < 4; ++c) means[p][0][n][c] = 0;
      }
    }
  }

  /// scores = queries negatives^T, in the background
  TUBELETX_DEVICE void score(device::Factor queries, const Element* negatives) {
    constexpr int kStep = 16 * sizeof(Element);  // bytes
    constexpr int kStepsOfPanel = device::kPanelColumns / 16;
    const device::Factor tile = device::factor_of(negatives);
    device::touch(scores[0]);
    // The small parts first, as in any sum.
#pragma unroll
    for (int part = Tile::kParts - 1; part >= 0; --part) {
#pragma unroll
      for (int p = 0; p < Tile::kPanels; ++p) {
#pragma unroll
        for (int i = 0; i < kStepsOfPanel; ++i) {
          constexpr int kQueryPanelBytes = kQueryPanel * sizeof(Element);
          const bool add = part < Tile::kParts - 1 || p > 0 || i > 0;
          device::multiply_rows<Element>(
              scores[0], device::advance(queries, (part * Tile::kPanels + p) * kQueryPanelBytes + i * kStep),
              device::advance(tile, p * kTilePanelBytes + i * kStep), add);
        }
      }
    }
    device::touch(scores[0]);
    device::commit_products();
  }

  /// means += weights negatives, in the background
  TUBELETX_DEVICE void accumulate(const Element* negatives) {
    const device::Factor tile = device::factor_of(negatives);
    touch_means();
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      constexpr int kRowsBytes = 16 * device::kPanelColumns * sizeof(Element);
#pragma unroll
      for (int p = 0; p < Tile::kPanels; ++p) {
        device::multiply_columns<Element>(means[p][0], weights[step],
                                          device::advance(tile, p * kTilePanelBytes + step * kRowsBytes));
      }
    }
    touch_means();
    device::commit_products();
  }

  TUBELETX_DEVICE void touch_means() {
#pragma unroll
    for (int p = 0; p < Tile::kPanels; ++p) device::touch(means[p][0]);
  }

  /// Ranks and softmax weights of the scores, of which `count` negatives are real.
  TUBELETX_DEVICE bool soften(int64_t first_negative, int64_t count, float (&keep)[Rows::kQueries]) {
    if (count < Tile::kNegatives) rows.mask(scores, static_cast<int>(count));
    float largest[Rows::kQueries];
    rows.find_largest(scores, largest);
    rows.count_above(scores, first_negative);
    return rows.soften(scores, largest, keep);
  }

  /// Hands the weights over to the next product, and makes the sums so far relative to the same maximum.
  TUBELETX_DEVICE void hand_over(bool raised, const float (&keep)[Rows::kQueries]) {
#pragma unroll
    for (int step = 0; step < kSteps; ++step) pack_weights<Element>(weights[step], scores[0], step);
    if (!raised) return;
#pragma unroll
    for (int p = 0; p < Tile::kPanels; ++p) {
#pragma unroll
      for (int n = 0; n < kPanelTiles; ++n) {
#pragma unroll
        for (int c = 0; c < 4; ++c) means[p][0][n][c] *= keep[c / 2];
      }
    }
  }

  /// The whole share of a block.
  TUBELETX_DEVICE void run(const QueueInfoNCEArguments& arguments, const BlockShare<Tile>& share,
                           const Element* queries, const RowThresholds<float>* thresholds,
                           const TileRing<Element, Tile>& ring) {
    const int tiles = share.tiles();
    float keep[Rows::kQueries];
    const auto soften_tile = [&](int index) {
      const int64_t first = share.begin() + int64_t{index} * Tile::kNegatives;
      return soften(first, share.end() - first, keep);
    };

    const device::Factor query_rows = device::factor_of(queries + warpgroup_row() * device::kPanelColumns);
    ring.wait_until_full(0);
    device::begin_products();
    score(query_rows, ring.at(0));
    device::wait_for_products<0>();
    device::touch(scores[0]);
    hand_over(soften_tile(0), keep);
#pragma unroll 1
    for (int index = 1; index < tiles; ++index) {
      ring.wait_until_full(index);
      device::begin_products();
      score(query_rows, ring.at(index));
      accumulate(ring.at(index - 1));
      device::wait_for_products<1>();
      device::touch(scores[0]);
      const bool raised = soften_tile(index);
      device::wait_for_products<0>();
      touch_means();
      if (device::thread() % device::kWarp == 0) ring.release(index - 1);
      hand_over(raised, keep);
    }
    device::begin_products();
    accumulate(ring.at(tiles - 1));
    device::wait_for_products<0>();
    touch_means();

    const int64_t first_row = share.first_row() + warp_row();
    if (arguments.need_gradient) {
#pragma unroll
      for (int p = 0; p < Tile::kPanels; ++p) {
        Rows::template store_means<kPanelTiles>(arguments, means[p], share.split, first_row, p * device::kPanelColumns);
      }
    }
    rows.recount(arguments, first_row, share.begin(), share.end(), Tile::kNegatives);
    rows.finish();
    if (device::thread() % 4 != 0) return;
#pragma unroll
    for (int q = 0; q < Rows::kQueries; ++q) {
      const int row = Rows::row_of(q, device::thread() % device::kWarp);
      Rows::store_state(arguments, share.split, first_row + row, rows.maximum[q],
                        thresholds[warp_row() + row].magnitude, rows.sum[q], rows.rank[q]);
    }
  }
};

/// The block's queries in 16-bit numbers, a panel for each 64 features of each part, and their thresholds.
template <typename Element, typename Tile>
TUBELETX_DEVICE void load_query_panels(const QueueInfoNCEArguments& arguments, Element* panels,
                                       RowThresholds<float>* thresholds, int64_t first_row) {
  constexpr int kPanel = WarpgroupBlock<Element, Tile>::kQueryPanel;
  prepare_queries<float, Element, Tile::kParts, Tile>(
      arguments, first_row,
      [&](int row, int64_t feature, const float (&values)[8]) {
        const int column = static_cast<int>(feature);
        Element* target = panels + column / device::kPanelColumns * kPanel +
                          device::panel_offset(row, column % device::kPanelColumns / 8);
        write_parts<Element, Tile::kParts>(target, Tile::kPanels * kPanel, values);
      },
      [&](int row, const RowThresholds<float>& prepared) { thresholds[row] = prepared; });
}

#endif

template <typename Element, typename Tile>
TUBELETX_KERNEL(Tile::kThreads, 1)
queue_infonce_warpgroups([[maybe_unused]] TUBELETX_KERNEL_ARGUMENT WarpgroupArguments arguments) {
#if !defined(__CUDACC__) || defined(TUBELETX_HAS_WARPGROUPS)
  const BlockShare<Tile> share(arguments.common);
  const int tiles = share.tiles();
  WarpgroupMemory<Tile>& shared = device::fixed_shared_memory<WarpgroupMemory<Tile>>();
  Element* const queries = static_cast<Element*>(device::aligned_shared_memory<device::kPanelAlignment>());
  const TileRing<Element, Tile> ring{queries + Tile::kParts * Tile::kRows * Tile::kWidth, shared};
  const auto fetch = [&](int index) {
    ring.fetch(arguments.queue, index, share.begin() + int64_t{index} * Tile::kNegatives);
  };

  constexpr int kFetchingWarp = Tile::kMultiplyingWarps;
  const int warp = device::thread() / device::kWarp;
  const bool fetches = device::thread() == kFetchingWarp * device::kWarp;
  if (fetches) {
    for (int stage = 0; stage < Tile::kMostStages; ++stage) {
      device::initialise(shared.full[stage], 1);
      device::initialise(shared.empty[stage], Tile::kMultiplyingWarps);
    }
    device::publish_shared_memory();
    for (int index = 0; index < Tile::kMostStages && index < tiles; ++index) fetch(index);
  }
  device::synchronize_warp();
  // Of the warps that have no queries to prepare, one.
  if (warp == kFetchingWarp + 1) {
    store_positives<float>(arguments.common, share);
  }
  load_query_panels<Element, Tile>(arguments.common, queries, shared.thresholds, share.first_row());
  device::publish_shared_memory();
  device::synchronize_block();

  if (warp >= kFetchingWarp) {
    device::keep_few_registers<24>();
    if (fetches) {
#pragma unroll 1
      for (int index = Tile::kMostStages; index < tiles; ++index) {
        ring.wait_until_empty(index);
        fetch(index);
      }
    }
  } else {
    device::take_more_registers<240>();
    WarpgroupBlock<Element, Tile> block;
    block.start(shared.thresholds);
    block.run(arguments.common, share, queries, shared.thresholds, ring);
  }
#endif
}

template <typename Element>
void launch_warpgroups(const QueueInfoNCEArguments& arguments, Stream stream) {
  const QueueInfoNCEPlan& plan = arguments.plan;
  const Numbers& queue = arguments.queue;
  const WarpgroupArguments all{
      device::map_matrix(kQueueInfoNCE, queue.type == NumberType::kHalf, queue.data, arguments.queue_size,
                         arguments.features, queue.strides[0], WarpgroupTile<1, 1>::kNegatives),
      arguments};
  const auto launch = [&](void (*kernel)(WarpgroupArguments)) { launch_planned(kernel, all, plan, stream); };
  if (plan.kernel == QueueKernel::kWarpgroup64) {
    launch(plan.parts == 1 ? queue_infonce_warpgroups<Element, WarpgroupTile<1, 1>>
                           : queue_infonce_warpgroups<Element, WarpgroupTile<1, 2>>);
  } else {
    launch(plan.parts == 1 ? queue_infonce_warpgroups<Element, WarpgroupTile<2, 1>>
                           : queue_infonce_warpgroups<Element, WarpgroupTile<2, 2>>);
  }
}

}  // namespace tubeletx::cuda
