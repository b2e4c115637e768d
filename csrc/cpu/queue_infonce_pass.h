// One pass over a part of the queue for a block of queries: scores, ranks, softmax weights and the sums of negatives
// that these weigh, with no matrix of scores.
#pragma once

#include <cstdint>

#include "core/log_sum_exp.h"

namespace tubeletx::cpu {

/// Work that one thread does by itself. `states`, `ranks` and `sums` hold what was found so far, and are added to; the
/// maximum of a state is a score, not a logit.
template <typename T>
struct QueuePass {
  int64_t queries;  // at most queries_of_a_block
  int64_t features;
  const T* query;  // (queries, features), dense
  const T* negatives;
  int64_t count;  // of the negatives
  int64_t stride;
  bool are_cached;           // the negatives, in the second-level cache
  const double* positives;   // exact score of each query's key
  const double* tolerances;  // rounding error that the scores here may have where they are near that
  const T* scales;           // of each query, what makes a logit of a score
  SoftmaxState<T>* states;
  int64_t* ranks;
  T* sums;     // (queries, features), or null where no gradient is needed
  T* scratch;  // scratch_of_a_block numbers, aligned to 64 bytes
};

/// Adds the scores of `other` to `state`. Differences are multiplied, not scores: those of the largest scores would
/// overflow.
template <typename T>
inline MergeFactors<T> merge_scores(SoftmaxState<T>& state, const SoftmaxState<T>& other, T scale) {
  const T maximum = other.maximum > state.maximum ? other.maximum : state.maximum;
  const MergeFactors<T> factors{exponential((state.maximum - maximum) * scale),
                                exponential((other.maximum - maximum) * scale)};
  state.sum = state.sum * factors.keep + other.sum * factors.take;
  state.maximum = maximum;
  return factors;
}

/// How many queries of a batch of `batch` are passed over the queue together: as many as lanes of the vectors used.
template <typename T>
int64_t queries_of_a_block(int64_t batch);

template <typename T>
int64_t scratch_of_a_block(int64_t features);

template <typename T>
void pass_over_negatives(const QueuePass<T>& pass);

}  // namespace tubeletx::cpu
