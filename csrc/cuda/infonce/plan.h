// How the GPU cuts queue InfoNCE into blocks, and what its kernels hand to each other.
#pragma once

#include <cstdint>
#include <type_traits>

#include "core/log_sum_exp.h"
#include "core/macros.h"
#include "core/numbers.h"

namespace tubeletx {

/// What the scores of a row are held against, in units of the scores that the kernel computes.
template <typename T>
struct RowThresholds {
  T above;   // higher scores beat the positive for sure
  T maybe;   // lower ones do not; between the two, rounding decides and the score is computed again
  T factor;  // log2(e) / temperature, for a score of 1
};

/// A block of the kernel on matrix units. Its warps stand in rows x columns; each multiplies `row_tiles` x 16 queries
/// with all negatives of a tile, and keeps its share of the columns of the sums weighted by the softmax.
template <int width_, int row_tiles_, int row_warps_, int column_warps_, int negatives_>
struct MatrixTile {
  static constexpr int width = width_;  // most features; fewer are filled up with zeros
  static constexpr int row_tiles = row_tiles_;
  static constexpr int row_warps = row_warps_;
  static constexpr int column_warps = column_warps_;
  static constexpr int negatives = negatives_;  // of a tile; two tiles are in memory at a time
  static constexpr int rows = 16 * row_tiles * row_warps;
  static constexpr int threads = 32 * row_warps * column_warps;
  static constexpr int blocks = 2;  // that share a multiprocessor, registers permitting
  /// Elements from row to row in shared memory: 16 bytes more than the row holds, so that the eight rows that one
  /// matrix load takes lie in different banks. Behind a query they hold its thresholds.
  static constexpr int stride = width + 8;

  static constexpr int64_t shared_bytes(int parts) { return int64_t{2} * stride * (parts * rows + 2 * negatives); }
};

/// A block of the kernel on the matrix units of whole warpgroups: two that multiply 64 queries each with all negatives
/// of a tile, and one that fetches.
template <int panels_, int parts_>
struct WarpgroupTile {
  static constexpr int panels = panels_;  // of 64 features
  static constexpr int parts = parts_;    // 16-bit numbers that stand for one number of the query
  static constexpr int width = 64 * panels;
  static constexpr int rows = 128;
  static constexpr int negatives = 128;
  static constexpr int stages = 4;  // tiles in memory at a time
  static constexpr int warpgroups = 3;
  static constexpr int threads = 128 * warpgroups;
  static constexpr int multiplying_warps = 4 * (warpgroups - 1);
  static constexpr int blocks = 1;
  static constexpr int alignment = 1024;

  static constexpr int64_t shared_bytes(int) {
    return alignment + int64_t{2} * width * (parts * rows + stages * negatives);
  }
};

/// A block of the kernel on plain multiply-adds in T, four warps.
template <typename T, int width_, int rows_, int negatives_, int blocks_>
struct ExactTile {
  static constexpr int width = width_;  // features of a chunk: more are passed over in chunks, which is slower
  static constexpr int rows = rows_;
  static constexpr int negatives = negatives_;
  static constexpr int threads = 128;
  static constexpr int blocks = blocks_;
  static constexpr int stride = width + 16 / static_cast<int>(sizeof(T));  // as above
  static constexpr int score_stride = rows + 4;                            // keeps vectors of four aligned

  static constexpr int64_t shared_bytes() {
    return sizeof(T) * (int64_t{stride} * (rows + negatives) + int64_t{score_stride} * negatives) +
           sizeof(RowThresholds<T>) * rows;
  }
};

// Every block of the smaller sizes fits the 99 KiB of shared memory that the smallest supported GPUs have.
using SmallMatrixTile64 = MatrixTile<64, 1, 2, 2, 64>;
using LargeMatrixTile64 = MatrixTile<64, 2, 4, 1, 32>;
using SmallMatrixTile128 = MatrixTile<128, 1, 2, 2, 64>;
using LargeMatrixTile128 = MatrixTile<128, 2, 4, 1, 32>;
using SmallMatrixTile256 = MatrixTile<256, 1, 2, 2, 32>;
using LargeMatrixTile256 = MatrixTile<256, 1, 4, 1, 32>;
using MatrixTile512 = MatrixTile<512, 1, 2, 2, 16>;
using ExactTile128 = ExactTile<float, 128, 32, 64, 3>;
using ExactTile256 = ExactTile<float, 256, 32, 32, 2>;
using ExactTile512 = ExactTile<float, 512, 16, 16, 3>;
using DoubleTile128 = ExactTile<double, 128, 16, 32, 2>;

enum class QueueKernel : int32_t {
  kSmallMatrix64,
  kLargeMatrix64,
  kSmallMatrix128,
  kLargeMatrix128,
  kSmallMatrix256,
  kLargeMatrix256,
  kMatrix512,
  kWarpgroup64,
  kWarpgroup128,
  kExact128,
  kExact256,
  kExact512,
  kDouble128
};

/// What the plan depends on beside the sizes.
struct Multiprocessors {
  int64_t count;
  int64_t shared_bytes;  // of one
  bool have_warpgroups;  // the code at work is for compute capability 9.0 and knows the products of warpgroups
  bool can_start_early;  // the same, and the driver lets a kernel start before the last one ends, in graphs too
};

struct QueueInfoNCEPlan {
  QueueKernel kernel;
  int64_t parts;        // 16-bit numbers that stand for one number of the query; 0 off the matrix units
  int64_t row_blocks;   // of the batch
  int64_t split_tiles;  // tiles of the queue that one block works through
  int64_t splits;       // of the queue, whose states are merged in order
  int64_t slices;       // of the features whose weighted sums one block keeps
  int64_t width;        // features of a slice
  int64_t threads;
  int64_t shared_bytes;
  bool combines_early;  // the combining kernel starts while the one before it runs
};

/// Everything that the kernels read and write.
struct QueueInfoNCEArguments {
  int64_t batch;       // B
  int64_t queue_size;  // K
  int64_t features;    // D
  int64_t own_size;    // E
  Numbers query;       // (B, D)
  Numbers key;         // (B, D)
  Numbers queue;       // (K, D)
  Numbers own;         // (B, E, D)
  double scale;        // 1 / temperature
  bool need_gradient;
  bool query_is_aligned;  // its rows and the keys' can be read eight numbers at a time, a whole number of times
  bool queue_is_aligned;  // its rows can be copied 16 bytes at a time
  QueueInfoNCEPlan plan;

  void* loss;           // (B,) T
  int64_t* rank;        // (B,)
  void* log_sum_exp;    // (B,) T
  void* negative_mean;  // (B, D) T

  void* states;    // (splits, B) SoftmaxState<T>, in powers of 2
  int64_t* ranks;  // (splits, B)
  void* means;     // (splits, B, D) T, sums of negatives times weights relative to the maximum of their state
};

namespace infonce {

TUBELETX_HOST_DEVICE constexpr int64_t divide_up(int64_t value, int64_t divisor) {
  return (value + divisor - 1) / divisor;
}

template <typename Tile>
QueueInfoNCEPlan plan_for(QueueKernel kernel, int64_t parts, int64_t shared_bytes,
                          const QueueInfoNCEArguments& arguments, const Multiprocessors& machine) {
  // A split of fewer negatives would write more partial sums than it reads of the queue.
  constexpr int64_t least_tiles = divide_up(128, Tile::negatives);
  constexpr int64_t reserved_bytes = 1024;  // that the driver keeps of every block's shared memory
  const int64_t room = machine.shared_bytes / (shared_bytes + reserved_bytes);
  const int64_t resident = machine.count * (room < 1 ? 1 : room > Tile::blocks ? Tile::blocks : room);

  QueueInfoNCEPlan plan{};
  plan.kernel = kernel;
  plan.parts = parts;
  plan.row_blocks = divide_up(arguments.batch, Tile::rows);
  plan.slices = arguments.need_gradient ? divide_up(arguments.features, Tile::width) : 1;
  plan.width = Tile::width;
  plan.threads = Tile::threads;
  plan.shared_bytes = shared_bytes;
  plan.combines_early = machine.can_start_early;
  // One wave of blocks: the memory for partial sums is then bounded by the larger of B D and a constant of the GPU.
  const int64_t tiles = divide_up(arguments.queue_size, Tile::negatives);
  const int64_t wanted = resident / (plan.row_blocks * plan.slices > 0 ? plan.row_blocks * plan.slices : 1);
  plan.split_tiles = divide_up(tiles, wanted < 1 ? 1 : wanted);
  if (plan.split_tiles < least_tiles) plan.split_tiles = least_tiles;
  plan.splits = divide_up(tiles, plan.split_tiles);
  return plan;
}

template <typename Tile>
QueueInfoNCEPlan plan_matrix(QueueKernel kernel, int64_t parts, const QueueInfoNCEArguments& arguments,
                             const Multiprocessors& machine) {
  return plan_for<Tile>(kernel, parts, Tile::shared_bytes(static_cast<int>(parts)), arguments, machine);
}

template <int panels>
QueueInfoNCEPlan plan_warpgroup(QueueKernel kernel, int64_t parts, const QueueInfoNCEArguments& arguments,
                                const Multiprocessors& machine) {
  return parts == 1 ? plan_matrix<WarpgroupTile<panels, 1>>(kernel, 1, arguments, machine)
                    : plan_matrix<WarpgroupTile<panels, 2>>(kernel, 2, arguments, machine);
}

template <typename Tile>
QueueInfoNCEPlan plan_exact(QueueKernel kernel, const QueueInfoNCEArguments& arguments,
                            const Multiprocessors& machine) {
  return plan_for<Tile>(kernel, 0, Tile::shared_bytes(), arguments, machine);
}

}  // namespace infonce

/// Chooses the kernel and cuts the work. The bits of the results depend on the sizes and the GPU's make, nothing else.
///
/// A queue in half precision goes through the matrix units, and loses nothing there: products of 16-bit numbers are
/// exact in float32, and a query of another type is written as the sum of two 16-bit numbers. A float32 queue takes
/// plain float32 multiply-adds. TF32 would be faster, but would round every feature to 11 bits behind the caller's
/// back; who wants the speed stores the queue in half precision, which also halves its traffic and its memory.
inline QueueInfoNCEPlan plan_queue_infonce(const QueueInfoNCEArguments& arguments, const Multiprocessors& machine) {
  using namespace infonce;
  constexpr int64_t large_batch = 64;
  const int64_t features = arguments.features;
  const NumberType type = arguments.queue.type;
  if (type == NumberType::kDouble) return plan_exact<DoubleTile128>(QueueKernel::kDouble128, arguments, machine);
  if (type != NumberType::kFloat && features <= MatrixTile512::width) {
    const bool large = arguments.batch > large_batch;
    const int64_t parts = arguments.query.type == type ? 1 : 2;
    // Their copies count rows in 32 bits, and take no row twice.
    const bool is_mapped =
        arguments.queue_is_aligned && arguments.queue_size <= INT32_MAX && arguments.queue.strides[0] >= features;
    if (large && machine.have_warpgroups && is_mapped && features <= 128) {
      return features > 64 ? plan_warpgroup<2>(QueueKernel::kWarpgroup128, parts, arguments, machine)
                           : plan_warpgroup<1>(QueueKernel::kWarpgroup64, parts, arguments, machine);
    }
    if (features > 256) return plan_matrix<MatrixTile512>(QueueKernel::kMatrix512, parts, arguments, machine);
    if (features > 128) {
      return large ? plan_matrix<LargeMatrixTile256>(QueueKernel::kLargeMatrix256, parts, arguments, machine)
                   : plan_matrix<SmallMatrixTile256>(QueueKernel::kSmallMatrix256, parts, arguments, machine);
    }
    if (features > 64) {
      return large ? plan_matrix<LargeMatrixTile128>(QueueKernel::kLargeMatrix128, parts, arguments, machine)
                   : plan_matrix<SmallMatrixTile128>(QueueKernel::kSmallMatrix128, parts, arguments, machine);
    }
    return large ? plan_matrix<LargeMatrixTile64>(QueueKernel::kLargeMatrix64, parts, arguments, machine)
                 : plan_matrix<SmallMatrixTile64>(QueueKernel::kSmallMatrix64, parts, arguments, machine);
  }
  if (features <= 128) return plan_exact<ExactTile128>(QueueKernel::kExact128, arguments, machine);
  if (features <= 256) return plan_exact<ExactTile256>(QueueKernel::kExact256, arguments, machine);
  return plan_exact<ExactTile512>(QueueKernel::kExact512, arguments, machine);
}

/// Lays the arrays that the kernels share out in memory from `base` on, which may be null, and returns how many bytes
/// they take.
template <typename T>
int64_t lay_out(QueueInfoNCEArguments& arguments, char* base) {
  constexpr int64_t alignment = 256;
  const QueueInfoNCEPlan& plan = arguments.plan;
  const int64_t batch = arguments.batch;
  int64_t bytes = 0;
  const auto take = [&](auto*& pointer, int64_t size) {
    if (base != nullptr) pointer = reinterpret_cast<std::remove_reference_t<decltype(pointer)>>(base + bytes);
    bytes += infonce::divide_up(size, alignment) * alignment;
  };
  take(arguments.states, plan.splits * batch * sizeof(SoftmaxState<T>));
  take(arguments.ranks, plan.splits * batch * sizeof(int64_t));
  take(arguments.means, arguments.need_gradient ? plan.splits * batch * arguments.features * sizeof(T) : 0);
  return bytes;
}

}  // namespace tubeletx
