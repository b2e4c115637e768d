// What the kernels on matrix units do with a tile of scores, in the registers where the products leave it.
#pragma once

#include <type_traits>

#include "cuda/infonce/parts.h"

namespace tubeletx::cuda {

/// The rows of a thread. A warp has `row_tiles` x 16 of them; its thread has rows lane / 4 and lane / 4 + 8 of each
/// tile, numbered 2 t and 2 t + 1, and of 8 columns the two from 2 (lane % 4) on.
template <int row_tiles, int score_tiles>
struct MatrixRows {
  static constexpr int queries = 2 * row_tiles;
  using Scores = float[row_tiles][score_tiles][4];
  /// A bit for each score of a thread.
  using Marks = std::conditional_t<(row_tiles * score_tiles * 4 > 32), uint64_t, uint32_t>;

  RowThresholds<float> thresholds[queries];
  float maximum[queries];
  float sum[queries];       // over this thread's columns alone
  int rank[queries];        // likewise, the negatives that beat the positive
  int candidates[queries];  // likewise, and those that rounding leaves open
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
    for (int q = 0; q < queries; ++q) {
      thresholds[q] = thresholds_of(row_of(q, lane()));
      maximum[q] = empty_softmax_state<float>().maximum;
      sum[q] = 0;
      rank[q] = candidates[q] = 0;
    }
  }

  /// Takes the columns from `count` on out of the tile.
  static TUBELETX_DEVICE void mask(Scores& scores, int count) {
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

  /// Counts the scores above the positive's in the tile from `first_negative` on; what is no number is above.
  TUBELETX_DEVICE void count_above(const Scores& scores, int64_t first_negative) {
#pragma unroll
    for (int t = 0; t < row_tiles; ++t) {
#pragma unroll
      for (int n = 0; n < score_tiles; ++n) {
#pragma unroll
        for (int c = 0; c < 4; ++c) {
          const int q = 2 * t + c / 2;
          rank[q] += !(scores[t][n][c] <= thresholds[q].above);
          candidates[q] += !(scores[t][n][c] <= thresholds[q].maybe);
        }
      }
    }
    bool open = false;
#pragma unroll
    for (int q = 0; q < queries; ++q) open |= rank[q] != candidates[q];
    if (device::ballot(open) == 0) return;
    Marks marks = 0;
#pragma unroll
    for (int t = 0; t < row_tiles; ++t) {
#pragma unroll
      for (int n = 0; n < score_tiles; ++n) {
#pragma unroll
        for (int c = 0; c < 4; ++c) {
          const int q = 2 * t + c / 2;
          const bool near = scores[t][n][c] > thresholds[q].maybe && scores[t][n][c] <= thresholds[q].above;
          marks |= static_cast<Marks>(near) << ((t * score_tiles + n) * 4 + c);
        }
      }
    }
    postpone(first_negative, marks);
#pragma unroll
    for (int q = 0; q < queries; ++q) candidates[q] = rank[q];
  }

  /// Puts the marked scores on the warp's list, as far as it goes.
  TUBELETX_DEVICE void postpone(int64_t first_negative, Marks marks) {
    for (uint32_t owners = device::ballot(marks != 0); owners != 0 && postponed <= device::kWarp;
         owners &= owners - 1) {
      const int owner = device::lowest_bit(owners);
      for (Marks bits = device::shuffle(marks, owner); bits != 0; bits &= bits - 1) {
        const int mark = device::lowest_bit(bits);
        const int row = row_of(mark / (score_tiles * 4) * 2 + mark % 4 / 2, owner);
        const int64_t negative = first_negative + mark / 4 % score_tiles * 8 + owner % 4 * 2 + mark % 2;
        if (lane() == postponed) open_score = static_cast<uint64_t>(row) << 56 | static_cast<uint64_t>(negative);
        ++postponed;
      }
    }
  }

  /// Computes the scores on the warp's list again, in double, several at a time.
  TUBELETX_DEVICE void recount(const QueueInfoNCEArguments& arguments, int64_t first_row) {
#pragma unroll 1
    for (int first = 0; first < postponed; first += kDotsOfWarp) {
      const int place = first + dot_of_thread();
      const bool valid = place < postponed;
      const uint64_t open = device::shuffle(open_score, valid ? place : first);
      const int row = static_cast<int>(open >> 56);
      const int64_t negative = static_cast<int64_t>(open & 0x00ffffffffffffff);
      const bool above = beats_positive<float, 4>(arguments, first_row + row, negative) && valid;
#pragma unroll
      for (int dot = 0; dot < kDotsOfWarp; ++dot) {
        const int winner = device::shuffle(above ? row : -1, dot * kThreadsOfDot);
#pragma unroll
        for (int q = 0; q < queries; ++q) rank[q] += lane() % 4 == 0 && row_of(q, lane()) == winner;
      }
    }
  }

  /// The same for all scores of the split, where the list was too short: many of them tie.
  TUBELETX_DEVICE void recount_all(const QueueInfoNCEArguments& arguments, int64_t first_row, int64_t begin,
                                   int64_t end) {
#pragma unroll 1
    for (int row = 0; row < 16 * row_tiles && first_row + row < arguments.batch; ++row) {
      int count = 0;
#pragma unroll 1
      for (int64_t first = begin; first < end; first += kDotsOfWarp) {
        const int64_t negative = first + dot_of_thread();
        const bool valid = negative < end;
        const bool above = beats_positive<float, 4>(arguments, first_row + row, valid ? negative : first);
        count += valid && above && lane() % kThreadsOfDot == 0;
      }
      count = device::warp_sum(count);
#pragma unroll
      for (int q = 0; q < queries; ++q) {
        if (row_of(q, lane()) == row) rank[q] = lane() % 4 == 0 ? count : 0;
      }
    }
  }

  /// scores = 2^headroom times the softmax weights relative to each row's running maximum. `keep` is what multiplies
  /// the row's earlier weights; returns whether any row of the warp needs that.
  TUBELETX_DEVICE bool soften(Scores& scores, float headroom, float (&keep)[queries]) {
    bool raised = false;
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
    return device::ballot(raised) != 0;
  }

  /// After the last tile.
  template <typename Share>
  TUBELETX_DEVICE void store(const QueueInfoNCEArguments& arguments, const Share& share, int64_t first_row) {
    if (postponed <= device::kWarp) {
      recount(arguments, first_row);
    } else {
      recount_all(arguments, first_row, share.begin, share.end);
    }
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
      if (row >= arguments.batch || lane() % 4 != 0) continue;
      static_cast<SoftmaxState<float>*>(arguments.states)[share.split * arguments.batch + row] = {maximum[q], sum[q]};
      arguments.ranks[share.split * arguments.batch + row] = rank[q];
    }
  }

  /// Writes the weighted sums of `tiles` x 8 features from `first_feature` on.
  template <int tiles>
  static TUBELETX_DEVICE void store_means(const QueueInfoNCEArguments& arguments,
                                          const float (&means)[row_tiles][tiles][4], int64_t split, int64_t first_row,
                                          int64_t first_feature) {
#pragma unroll
    for (int q = 0; q < queries; ++q) {
      const int64_t row = first_row + row_of(q, lane());
      if (row >= arguments.batch) continue;
      float* target = static_cast<float*>(arguments.means) + (split * arguments.batch + row) * arguments.features;
#pragma unroll
      for (int n = 0; n < tiles; ++n) {
        const int64_t feature = first_feature + 8 * n + lane() % 4 * 2;
        const float low = means[q / 2][n][q % 2 * 2];
        const float high = means[q / 2][n][q % 2 * 2 + 1];
        if (arguments.features % 2 == 0) {
          if (feature < arguments.features) *reinterpret_cast<Two*>(target + feature) = {low, high};
        } else {
          if (feature < arguments.features) target[feature] = low;
          if (feature + 1 < arguments.features) target[feature + 1] = high;
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

/// Weights reach 2^headroom instead of 1 where small ones would leave the range of the element.
template <typename Element>
constexpr float kHeadroom = std::is_same_v<Element, Half> ? 8 : 0;

/// The left factor of a product over negatives 16 step to 16 step + 15: the layout of the sums of one product is that
/// of the left factor of the next.
template <typename Element, int score_tiles>
TUBELETX_DEVICE void pack_weights(uint32_t (&left)[4], const float (&weights)[score_tiles][4], int step) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float (&pair)[4] = weights[2 * step + i / 2];
    left[i] = device::pack<Element>(pair[i % 2 * 2], pair[i % 2 * 2 + 1]);
  }
}

}  // namespace tubeletx::cuda
