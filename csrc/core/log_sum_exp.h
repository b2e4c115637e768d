// Partial softmax states: the sum of e^s over a set of scores, kept relative to their maximum so that no score
// overflows.
#pragma once

#include <cmath>

#include "core/exponential.h"
#include "core/macros.h"

namespace tubeletx {

/// Stands for sum * e^maximum. A set of one score s is {s, 1}.
template <typename T>
struct SoftmaxState {
  T maximum;
  T sum;
};

/// The state of no scores. Its maximum is finite, since the difference of two infinities would be NaN.
template <typename T>
TUBELETX_HOST_DEVICE inline SoftmaxState<T> empty_softmax_state() {
  return {static_cast<T>(sizeof(T) == sizeof(float) ? -3.4028234663852886e38 : -1.7976931348623157e308), T(0)};
}

/// What multiplies every quantity that is relative to the one maximum or the other when their states are merged.
template <typename T>
struct MergeFactors {
  T keep;
  T take;
};

/// Adds the scores of `other` to `state`.
template <typename T>
TUBELETX_HOST_DEVICE inline MergeFactors<T> merge(SoftmaxState<T>& state, const SoftmaxState<T>& other) {
  const T maximum = other.maximum > state.maximum ? other.maximum : state.maximum;
  const MergeFactors<T> factors{exponential(state.maximum - maximum), exponential(other.maximum - maximum)};
  state.sum = state.sum * factors.keep + other.sum * factors.take;
  state.maximum = maximum;
  return factors;
}

/// log(e^score + sum of e^s) - score for a score that is not among those of `state`. Accurate relative to the result,
/// even where the scores are huge or the result is tiny.
template <typename T>
TUBELETX_HOST_DEVICE inline T log_sum_exp_above(const SoftmaxState<T>& state, T score) {
  if (state.maximum > score) {
    return (state.maximum - score) + std::log(state.sum + exponential(score - state.maximum));
  }
  return std::log1p(state.sum * exponential(state.maximum - score));
}

}  // namespace tubeletx
