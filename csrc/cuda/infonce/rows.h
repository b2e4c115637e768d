// What the kernels on matrix units do with a tile of scores, in the registers where the products leave it.
#pragma once

#include <type_traits>

#include "cuda/infonce/parts.h"

namespace tubeletx::cuda {

/// How sure it is that a score beats the positive, on multiply-adds alone: 0 if it does not, 1 if it does, and
/// something between where rounding decides.
struct Certainty {
  float slope, offset;

  // Scores that rounding leaves open lie between, with room for that of the certainty itself.
  static constexpr float kLow = 0x1p-6f;
  static constexpr float kHigh = 1 - kLow;

  Certainty() = default;
  explicit TUBELETX_DEVICE Certainty(const RowThresholds<float>& thresholds) {
    const float reach = 1.0625f * thresholds.tolerance;
    slope = 0.5f / reach;
    offset = 0.5f - thresholds.positive * slope;
  }
  TUBELETX_DEVICE float of(float score) const { return device::saturated_fma(score, slope, offset); }
};

/// The rows of a thread. A warp has `kRowTiles` x 16 of them; its thread has rows lane / 4 and lane / 4 + 8 of each
/// tile, numbered 2 t and 2 t + 1, and of 8 columns the two from 2 (lane % 4) on.
template <typename Element, int kRowTiles, int kScoreTiles>
struct MatrixRows {
  static constexpr int kQueries = 2 * kRowTiles;
  using Scores = float[kRowTiles][kScoreTiles][4];
  /// A bit for each score of a thread.
  using Marks = std::conditional_t<(kRowTiles * kScoreTiles * 4 > 32), uint64_t, uint32_t>;

  /// Weights reach 2^headroom instead of 1 where small ones would leave the range of the element.
  static constexpr float kHeadroom = std::is_same_v<Element, Half> ? 8 : 0;
  static constexpr float kUnitOfWeights = std::is_same_v<Element, Half> ? 0x1p-8f : 1;

  Certainty certainty[kQueries];
  float factor[kQueries];
  float maximum[kQueries];
  float sum[kQueries];  // over this thread's columns alone
  int rank[kQueries];   // likewise, the negatives that beat the positive
  // A list of scores that are to be computed again, one a thread, so that no warp stops for them before the last tile.
  // The row of the warp in the first byte, then the negative.
  uint64_t open_score;
  int postponed;  // its length; more than it holds if it was too short

  static TUBELETX_DEVICE int lane() { return device::thread() % device::kWarp; }
  /// Row q of the thread at `lane` among those of the warp.
  static TUBELETX_DEVICE int row_of(int q, int lane) { return q / 2 * 16 + q % 2 * 8 + lane / 4; }

  /// Before the first tile; thresholds_of(row) finds those of a row of the warp.
  template <typename ThresholdsOf>
  TUBELETX_DEVICE void start(const ThresholdsOf& thresholds_of) {
    open_score = 0;
    postponed = 0;
#pragma unroll
    for (int q = 0; q < kQueries; ++q) {
      const RowThresholds<float> thresholds = thresholds_of(row_of(q, lane()));
      certainty[q] = Certainty(thresholds);
      factor[q] = thresholds.factor;
      maximum[q] = empty_softmax_state<float>().maximum;
      sum[q] = 0;
      rank[q] = 0;
    }
  }

  /// Takes the columns from `count` on out of the tile.
  static TUBELETX_DEVICE void mask(Scores& scores, int count) {
#pragma unroll
    for (int n = 0; n < kScoreTiles; ++n) {
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        const bool past = n * 8 + lane() % 4 * 2 + c % 2 >= count;
#pragma unroll
        for (int t = 0; t < kRowTiles; ++t) scores[t][n][c] = past ? -kInfinity : scores[t][n][c];
      }
    }
  }

  /// Calls `run(q, bit, score)` for each score of the thread, with the bit of its mark.
  template <typename Run>
  static TUBELETX_DEVICE void for_each(const Scores& scores, const Run& run) {
#pragma unroll
    for (int t = 0; t < kRowTiles; ++t) {
#pragma unroll
      for (int n = 0; n < kScoreTiles; ++n) {
#pragma unroll
        for (int c = 0; c < 4; ++c) run(2 * t + c / 2, (t * kScoreTiles + n) * 4 + c, scores[t][n][c]);
      }
    }
  }

  /// Counts the scores above the positive's in the tile from `first_negative` on. One that is no number counts as one
  /// that is not above; it shows in the sum of the weights.
  TUBELETX_DEVICE void count_above(const Scores& scores, int64_t first_negative) {
    float above[kQueries], squares[kQueries];
#pragma unroll
    for (int q = 0; q < kQueries; ++q) above[q] = squares[q] = 0;
    for_each(scores, [&](int q, int, float score) {
      const float certain = certainty[q].of(score);
      above[q] += certain;
      squares[q] = fmaf(certain, certain, squares[q]);
    });
    bool open = false;
#pragma unroll
    for (int q = 0; q < kQueries; ++q) open |= above[q] - squares[q] > Certainty::kLow / 2;
    if (device::ballot(open) != 0) {
      Marks marks = 0;
#pragma unroll
      for (int q = 0; q < kQueries; ++q) above[q] = 0;
      for_each(scores, [&](int q, int bit, float score) {
        // In other words than above: else the compiler keeps all of those for this rare case.
        const float certain = fmaf(score, certainty[q].slope, certainty[q].offset);
        if (certain >= Certainty::kHigh) above[q] += 1;
        marks |= static_cast<Marks>(certain > Certainty::kLow && certain < Certainty::kHigh) << bit;
      });
      postpone(first_negative, marks);
    }
#pragma unroll
    for (int q = 0; q < kQueries; ++q) rank[q] += static_cast<int>(above[q] + 0.5f);
  }

  /// Puts the marked scores on the warp's list, as far as it goes.
  TUBELETX_DEVICE void postpone(int64_t first_negative, Marks marks) {
    for (uint32_t owners = device::ballot(marks != 0); owners != 0 && postponed <= device::kWarp;
         owners &= owners - 1) {
      const int owner = device::lowest_bit(owners);
      for (Marks bits = device::shuffle(marks, owner); bits != 0; bits &= bits - 1) {
        const int mark = device::lowest_bit(bits);
        const int row = row_of(mark / (kScoreTiles * 4) * 2 + mark % 4 / 2, owner);
        const int64_t negative = first_negative + mark / 4 % kScoreTiles * 8 + owner % 4 * 2 + mark % 2;
        if (lane() == postponed) open_score = static_cast<uint64_t>(row) << 56 | static_cast<uint64_t>(negative);
        ++postponed;
      }
    }
  }

  /// Computes the scores on the warp's list again, in double, several at a time. Where the list was too short, since
  /// many of them tie, or where some are no numbers, all scores: those with 8 x `kScoreTiles` negatives of every
  /// `step`, from `begin` on and below `end`.
  TUBELETX_DEVICE void recount(const QueueInfoNCEArguments& arguments, int64_t first_row, int64_t begin, int64_t end,
                               int step) {
    bool unordered = false;
#pragma unroll
    for (int q = 0; q < kQueries; ++q) unordered |= sum[q] != sum[q] && certainty[q].offset == certainty[q].offset;
    const bool all = postponed > device::kWarp || device::ballot(unordered) != 0;
    constexpr int kOfTile = 8 * kScoreTiles;
    const int64_t of_row = begin < end ? infonce::divide_up(end - begin, step) * kOfTile : 0;
    const int64_t count = all ? 16 * kRowTiles * of_row : postponed;
#pragma unroll
    for (int q = 0; q < kQueries; ++q) rank[q] = all ? 0 : rank[q];
#pragma unroll 1
    for (int64_t first = 0; first < count; first += kDotsOfWarp) {
      const int64_t place = first + dot_of_thread() < count ? first + dot_of_thread() : first;
      const uint64_t open = device::shuffle(open_score, static_cast<int>(place % device::kWarp));
      int row = static_cast<int>(open >> 56);
      int64_t negative = static_cast<int64_t>(open & 0x00ffffffffffffff);
      if (all) {
        row = static_cast<int>(place / of_row);
        negative = begin + place % of_row / kOfTile * step + place % kOfTile;
      }
      const bool valid = first + dot_of_thread() < count && first_row + row < arguments.batch && negative < end;
      const bool above =
          beats_positive<float, 2>(arguments, valid ? first_row + row : 0, valid ? negative : 0) && valid;
#pragma unroll
      for (int dot = 0; dot < kDotsOfWarp; ++dot) {
        const int winner = device::shuffle(above ? row : -1, dot * kThreadsOfDot);
#pragma unroll
        for (int q = 0; q < kQueries; ++q) rank[q] += lane() % 4 == 0 && row_of(q, lane()) == winner;
      }
    }
  }

  /// The largest score of each row of the warp.
  static TUBELETX_DEVICE void find_largest(const Scores& scores, float (&largest)[kQueries]) {
#pragma unroll
    for (int q = 0; q < kQueries; ++q) {
      largest[q] = -kInfinity;
#pragma unroll
      for (int n = 0; n < kScoreTiles; ++n) {
        largest[q] = fmaxf(largest[q], fmaxf(scores[q / 2][n][q % 2 * 2], scores[q / 2][n][q % 2 * 2 + 1]));
      }
      // Threads 4 i to 4 i + 3 share a row.
      largest[q] = fmaxf(largest[q], device::shuffle_xor(largest[q], 1));
      largest[q] = fmaxf(largest[q], device::shuffle_xor(largest[q], 2));
    }
  }

  /// scores = 2^headroom times the softmax weights relative to each row's running maximum, into which `largest` is
  /// taken. `keep` is what multiplies the row's earlier weights; returns whether any row of the warp needs that.
  TUBELETX_DEVICE bool soften(Scores& scores, const float (&largest)[kQueries], float (&keep)[kQueries]) {
    bool raised = false;
#pragma unroll
    for (int q = 0; q < kQueries; ++q) {
      keep[q] = raise_maximum(maximum[q], largest[q], factor[q]);
      raised |= keep[q] != 1.0f;
      sum[q] *= keep[q];
#pragma unroll
      for (int n = 0; n < kScoreTiles; ++n) {
#pragma unroll
        for (int c = q % 2 * 2; c < q % 2 * 2 + 2; ++c) {
          float& weight = scores[q / 2][n][c];
          // The difference first: what is large may be so large that its multiple is not a number.
          const float difference = weight - maximum[q];
          weight =
              device::power_of_two(kHeadroom == 0 ? difference * factor[q] : fmaf(difference, factor[q], kHeadroom));
          sum[q] += weight;
        }
      }
    }
    // After the first tiles a new maximum is rare.
    return device::ballot(raised) != 0;
  }

  /// After the last tile: the sums and ranks of the warp's columns, the same in the threads that share a row.
  TUBELETX_DEVICE void finish() {
#pragma unroll
    for (int q = 0; q < kQueries; ++q) {
      sum[q] += device::shuffle_xor(sum[q], 1);
      sum[q] += device::shuffle_xor(sum[q], 2);
      rank[q] += device::shuffle_xor(rank[q], 1);
      rank[q] += device::shuffle_xor(rank[q], 2);
    }
  }

  static TUBELETX_DEVICE void store_state(const QueueInfoNCEArguments& arguments, int64_t split, int64_t row,
                                          float maximum, float magnitude, float sum, int rank) {
    if (row >= arguments.batch) return;
    static_cast<SplitState<float>*>(arguments.states)[row * arguments.plan.splits + split] = {
        static_cast<double>(maximum) * static_cast<double>(magnitude), sum * kUnitOfWeights, rank};
  }

  /// Writes the weighted sums of `kTiles` x 8 features from `first_feature` on.
  template <int kTiles>
  static TUBELETX_DEVICE void store_means(const QueueInfoNCEArguments& arguments,
                                          const float (&means)[kRowTiles][kTiles][4], int64_t split, int64_t first_row,
                                          int64_t first_feature) {
#pragma unroll
    for (int q = 0; q < kQueries; ++q) {
      const int64_t row = first_row + row_of(q, lane());
      if (row >= arguments.batch) continue;
      float* target = static_cast<float*>(arguments.means) + (split * arguments.batch + row) * arguments.mean_stride;
#pragma unroll
      for (int n = 0; n < kTiles; ++n) {
        const int64_t feature = first_feature + 8 * n + lane() % 4 * 2;
        if (feature < arguments.mean_stride) {
          *reinterpret_cast<Two*>(target + feature) = {means[q / 2][n][q % 2 * 2] * kUnitOfWeights,
                                                       means[q / 2][n][q % 2 * 2 + 1] * kUnitOfWeights};
        }
      }
    }
  }

  /// Two numbers that are stored together.
  struct alignas(8) Two {
    float low;
    float high;
  };
};

/// The left factor of a product over negatives 16 step to 16 step + 15: the layout of the sums of one product is that
/// of the left factor of the next.
template <typename Element, int kScoreTiles>
TUBELETX_DEVICE void pack_weights(uint32_t (&left)[4], const float (&weights)[kScoreTiles][4], int step) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float (&pair)[4] = weights[2 * step + i / 2];
    left[i] = device::pack<Element>(pair[i % 2 * 2], pair[i % 2 * 2 + 1]);
  }
}

}  // namespace tubeletx::cuda
