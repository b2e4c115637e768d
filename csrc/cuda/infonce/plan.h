// How the GPU cuts queue InfoNCE into blocks, and what its kernels hand to each other.
#pragma once

#include <cstdint>
#include <type_traits>

#include "core/macros.h"
#include "core/numbers.h"

namespace tubeletx {

/// What the scores of a row are held against. A kernel computes scores over the query's magnitude, a power of two, so
/// that none overflows.
template <typename T>
struct RowThresholds {
  T positive;   // the positive's score, in the kernel's units
  T tolerance;  // within which rounding decides whether a score is above it, likewise; never zero
  T factor;     // log2(e) / temperature, for a score of 1 in the kernel's units
  T magnitude;  // of the query
};

/// What a split of the queue leaves of a row: the softmax state of its scores, their maximum in double, where all fit,
/// and how many of them beat the positive.
template <typename T>
struct alignas(16) SplitState {
  double maximum;
  T sum;  // relative to the maximum
  int32_t rank;
};

/// A block of the kernel on matrix units: `kRowTiles` x 16 queries. Each warp multiplies all of them with its own 16
/// negatives of a tile, and keeps its share of the columns of the sums weighted by the softmax over the whole tile.
template <int kWidth_, int kRowTiles_, int kWarps_, int kParts_>
struct MatrixTile {
  static constexpr int kWidth = kWidth_;  // most features; fewer are filled up with zeros
  static constexpr int kRowTiles = kRowTiles_;
  static constexpr int kWarps = kWarps_;
  static constexpr int kParts = kParts_;  // 16-bit numbers that stand for one number of the query
  static constexpr int kRows = 16 * kRowTiles;
  static constexpr int kNegatives = 16 * kWarps;
  static constexpr int kThreads = 32 * kWarps;
  static constexpr int kThreadsOfRow = kThreads / kRows < 8 ? kThreads / kRows : 8;  // that prepare a query
  static constexpr int kBlocks = 8 / kWarps;  // that share a multiprocessor: with more there were more to combine
  static constexpr int kMostStages = 3;       // tiles in memory at a time; where memory is short, one less
  /// Elements from row to row in shared memory: 16 bytes more than the row holds, so that the eight rows that one
  /// matrix load takes lie in different banks. Behind a query they hold its thresholds.
  static constexpr int kStride = kWidth + 8;
  static constexpr int kWeightStride = kNegatives + 8;

  static constexpr int64_t shared_bytes(int stages) {
    return int64_t{2} * (kStride * (kParts * kRows + stages * kNegatives) + kRows * kWeightStride) +
           int64_t{4} * kRows * kWarps;
  }
};

/// A block of the kernel on the matrix units of whole warpgroups: two that multiply 64 queries each with all negatives
/// of a tile, and one that fetches.
template <int kPanels_, int kParts_>
struct WarpgroupTile {
  static constexpr int kPanels = kPanels_;  // of 64 features
  static constexpr int kParts = kParts_;    // 16-bit numbers that stand for one number of the query
  static constexpr int kWidth = 64 * kPanels;
  static constexpr int kRows = 128;
  static constexpr int kNegatives = 128;
  static constexpr int kMostStages = 4;  // tiles in memory at a time
  static constexpr int kWarpgroups = 3;
  static constexpr int kThreads = 128 * kWarpgroups;
  static constexpr int kThreadsOfRow = 2;  // that prepare a query: those that multiply
  static constexpr int kMultiplyingWarps = 4 * (kWarpgroups - 1);
  static constexpr int kBlocks = 1;
  static constexpr int kAlignment = 1024;

  static constexpr int64_t shared_bytes(int stages) {
    return kAlignment + int64_t{2} * kWidth * (kParts * kRows + stages * kNegatives);
  }
};

/// A block of the kernel on plain multiply-adds in T, four warps.
template <typename T, int kWidth_, int kRows_, int kNegatives_, int kBlocks_>
struct ExactTile {
  static constexpr int kWidth = kWidth_;  // features of a chunk: more are passed over in chunks, which is slower
  static constexpr int kRows = kRows_;
  static constexpr int kNegatives = kNegatives_;
  static constexpr int kThreads = 128;
  static constexpr int kThreadsOfRow = 4;
  static constexpr int kBlocks = kBlocks_;
  static constexpr int kMostStages = 1;
  static constexpr int kStride = kWidth + 16 / static_cast<int>(sizeof(T));  // as above
  static constexpr int kScoreStride = kRows + 4;                             // keeps vectors of four aligned

  static constexpr int64_t shared_bytes(int) {
    return sizeof(T) * (int64_t{kStride} * (kRows + kNegatives) + int64_t{kScoreStride} * kNegatives) +
           sizeof(RowThresholds<T>) * kRows;
  }
};

// Every block of the smaller sizes fits the 99 KiB of shared memory that the smallest supported GPUs have.
template <int kParts>
using MatrixTile64 = MatrixTile<64, 2, 4, kParts>;
template <int kParts>
using MatrixTile128 = MatrixTile<128, 2, 8, kParts>;
template <int kParts>
using MatrixTile256 = MatrixTile<256, 1, 4, kParts>;
template <int kParts>
using MatrixTile512 = MatrixTile<512, 1, 2, kParts>;
template <int kParts>
using WarpgroupTile64 = WarpgroupTile<1, kParts>;
template <int kParts>
using WarpgroupTile128 = WarpgroupTile<2, kParts>;
using ExactTile128 = ExactTile<float, 128, 32, 64, 3>;
using ExactTile256 = ExactTile<float, 256, 32, 32, 2>;
using ExactTile512 = ExactTile<float, 512, 16, 16, 3>;
using DoubleTile128 = ExactTile<double, 128, 16, 32, 2>;

enum class QueueKernel : int32_t {
  kMatrix64,
  kMatrix128,
  kMatrix256,
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
  int64_t stages;  // tiles in memory at a time
  int64_t shared_bytes;
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
  bool queue_is_aligned;  // likewise
  QueueInfoNCEPlan plan;

  void* loss;           // (B,) T
  int64_t* rank;        // (B,)
  void* log_sum_exp;    // (B,) T
  void* negative_mean;  // (B, D) T

  double* positives;    // (B,) scores, exact to double
  void* states;         // (B, splits) SplitState<T>
  void* means;          // (splits, B, mean_stride) T, sums of negatives times weights relative to their state's maximum
  int64_t mean_stride;  // D or up to three more, so that four features are aligned
};

namespace infonce {

TUBELETX_HOST_DEVICE constexpr int64_t divide_up(int64_t value, int64_t divisor) {
  return (value + divisor - 1) / divisor;
}

template <typename Tile>
QueueInfoNCEPlan plan_for(QueueKernel kernel, int64_t parts, const QueueInfoNCEArguments& arguments,
                          const Multiprocessors& machine) {
  // A split of fewer negatives would write more partial sums than it reads of the queue.
  constexpr int64_t kLeastTiles = divide_up(128, Tile::kNegatives);
  constexpr int64_t kReservedBytes = 1024;  // that the driver keeps of every block's shared memory
  const auto room = [&](int64_t stages) {
    return machine.shared_bytes / (Tile::shared_bytes(static_cast<int>(stages)) + kReservedBytes);
  };

  QueueInfoNCEPlan plan{};
  plan.kernel = kernel;
  plan.parts = parts;
  plan.row_blocks = divide_up(arguments.batch, Tile::kRows);
  plan.slices = arguments.need_gradient ? divide_up(arguments.features, Tile::kWidth) : 1;
  plan.width = Tile::kWidth;
  plan.threads = Tile::kThreads;
  plan.stages = Tile::kMostStages;
  if (plan.stages > 1 && room(plan.stages) < 1) --plan.stages;
  plan.shared_bytes = Tile::shared_bytes(static_cast<int>(plan.stages));
  // One wave of blocks: the memory for partial sums is then bounded by the larger of B D and a constant of the GPU.
  const int64_t fitting = room(plan.stages);
  const int64_t resident = machine.count * (fitting < 1 ? 1 : fitting > Tile::kBlocks ? Tile::kBlocks : fitting);
  const int64_t tiles = divide_up(arguments.queue_size, Tile::kNegatives);
  const int64_t wanted = resident / (plan.row_blocks * plan.slices > 0 ? plan.row_blocks * plan.slices : 1);
  plan.split_tiles = divide_up(tiles, wanted < 1 ? 1 : wanted);
  if (plan.split_tiles < kLeastTiles) plan.split_tiles = kLeastTiles;
  // At least one, of an empty queue too: it works out the positives.
  plan.splits = tiles == 0 ? 1 : divide_up(tiles, plan.split_tiles);
  return plan;
}

template <template <int> class Tile>
QueueInfoNCEPlan plan_parts(QueueKernel kernel, int64_t parts, const QueueInfoNCEArguments& arguments,
                            const Multiprocessors& machine) {
  return parts == 1 ? plan_for<Tile<1>>(kernel, 1, arguments, machine)
                    : plan_for<Tile<2>>(kernel, 2, arguments, machine);
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
  constexpr int64_t kLargeBatch = 64;
  const int64_t features = arguments.features;
  const NumberType type = arguments.queue.type;
  if (type == NumberType::kDouble) return plan_for<DoubleTile128>(QueueKernel::kDouble128, 0, arguments, machine);
  if (type != NumberType::kFloat && features <= MatrixTile512<1>::kWidth) {
    const int64_t parts = arguments.query.type == type ? 1 : 2;
    // Their copies count rows in 32 bits, and take no row twice.
    const bool is_mapped = arguments.queue_is_aligned && arguments.queue_size > 0 &&
                           arguments.queue_size <= INT32_MAX && arguments.queue.strides[0] >= features;
    if (arguments.batch > kLargeBatch && machine.have_warpgroups && is_mapped && features <= 128) {
      return features > 64 ? plan_parts<WarpgroupTile128>(QueueKernel::kWarpgroup128, parts, arguments, machine)
                           : plan_parts<WarpgroupTile64>(QueueKernel::kWarpgroup64, parts, arguments, machine);
    }
    if (features > 256) return plan_parts<MatrixTile512>(QueueKernel::kMatrix512, parts, arguments, machine);
    if (features > 128) return plan_parts<MatrixTile256>(QueueKernel::kMatrix256, parts, arguments, machine);
    if (features > 64) return plan_parts<MatrixTile128>(QueueKernel::kMatrix128, parts, arguments, machine);
    return plan_parts<MatrixTile64>(QueueKernel::kMatrix64, parts, arguments, machine);
  }
  if (features <= 128) return plan_for<ExactTile128>(QueueKernel::kExact128, 0, arguments, machine);
  if (features <= 256) return plan_for<ExactTile256>(QueueKernel::kExact256, 0, arguments, machine);
  return plan_for<ExactTile512>(QueueKernel::kExact512, 0, arguments, machine);
}

/// Lays the arrays that the kernels share out in memory from `base` on, which may be null, and returns how many bytes
/// they take.
template <typename T>
int64_t lay_out(QueueInfoNCEArguments& arguments, char* base) {
  constexpr int64_t kAlignment = 256;
  const QueueInfoNCEPlan& plan = arguments.plan;
  const int64_t batch = arguments.batch;
  int64_t bytes = 0;
  const auto take = [&](auto*& pointer, int64_t size) {
    if (base != nullptr) pointer = reinterpret_cast<std::remove_reference_t<decltype(pointer)>>(base + bytes);
    bytes += infonce::divide_up(size, kAlignment) * kAlignment;
  };
  arguments.mean_stride = infonce::divide_up(arguments.features, 4) * 4;
  take(arguments.positives, batch * sizeof(double));
  take(arguments.states, plan.splits * batch * sizeof(SplitState<T>));
  take(arguments.means, arguments.need_gradient ? plan.splits * batch * arguments.mean_stride * sizeof(T) : 0);
  return bytes;
}

}  // namespace tubeletx
