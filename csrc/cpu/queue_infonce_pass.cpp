#include "cpu/queue_infonce_pass.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "cpu/dot.h"
#include "cpu/vector.h"

namespace tubeletx::cpu {
namespace {

/// Negatives that are scored, weighed and summed while they lie in the first-level cache.
constexpr int64_t kTileRows = 48;
constexpr int64_t kMostLanes = 32;

/// Of the scores within rounding of the positive's, how many are above it when computed exactly: ties stay ties.
/// Compiled once, for the baseline, as the positive's own score is, so that equal vectors have equal scores.
template <typename T>
__attribute__((noinline)) int64_t recount(const QueuePass<T>& pass, const T* tile, int64_t rows, const T* scores,
                                          int64_t lanes, int64_t lane) {
  const double positive = pass.positives[lane];
  const T sure = static_cast<T>(positive + pass.tolerances[lane]);
  const T maybe = static_cast<T>(positive - pass.tolerances[lane]);
  int64_t above = 0;
  for (int64_t row = 0; row < rows; ++row) {
    const T score = scores[row * lanes + lane];
    if (score <= maybe || !(score <= sure)) continue;
    above += !(dot(pass.query + lane * pass.features, tile + row * pass.stride, pass.features) <= positive);
  }
  return above;
}

namespace in_baseline {

#define TUBELETX_TARGET
template <typename T>
struct VectorOf {
  typedef T Type __attribute__((vector_size(16)));
};
template <typename T>
using Vector = typename VectorOf<T>::Type;
#include "cpu/queue_infonce_loops.h"
#undef TUBELETX_TARGET

}  // namespace in_baseline

#ifdef TUBELETX_VECTOR_CODE

namespace in_avx2 {

#define TUBELETX_TARGET __attribute__((target("avx2,bmi2,fma")))
template <typename T>
struct VectorOf {
  typedef T Type __attribute__((vector_size(32)));
};
template <typename T>
using Vector = typename VectorOf<T>::Type;
#include "cpu/queue_infonce_loops.h"
#undef TUBELETX_TARGET

}  // namespace in_avx2

namespace in_avx512 {

#define TUBELETX_TARGET \
  __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,bmi2,fma,prefer-vector-width=512")))
template <typename T>
struct VectorOf {
  typedef T Type __attribute__((vector_size(64)));
};
template <typename T>
using Vector = typename VectorOf<T>::Type;
#include "cpu/queue_infonce_loops.h"
#undef TUBELETX_TARGET

}  // namespace in_avx512

#endif

}  // namespace

template <typename T>
int64_t queries_of_a_block(int64_t batch) {
  constexpr int64_t kSize = sizeof(T);
  switch (instructions()) {
    case Instructions::kAvx512:
      // A vector of fewer lanes where more would be left empty: it takes half the time on many processors.
      return batch <= 32 / kSize ? 32 / kSize : batch <= 64 / kSize ? 64 / kSize : 128 / kSize;
    case Instructions::kAvx2:
      return batch <= 32 / kSize ? 32 / kSize : 64 / kSize;
    default:
      return batch <= 16 / kSize ? 16 / kSize : 32 / kSize;
  }
}

template <typename T>
int64_t scratch_of_a_block(int64_t features) {
  return kMostLanes * (2 * features + kTileRows);
}

template <typename T>
void pass_over_negatives(const QueuePass<T>& pass, int64_t block) {
  constexpr int64_t kSize = sizeof(T);
#ifdef TUBELETX_VECTOR_CODE
  if (instructions() == Instructions::kAvx512) {
    if (block == 128 / kSize) return in_avx512::pass_over<T, 2, 12>(pass);
    if (block == 64 / kSize) return in_avx512::pass_over<T, 1, 24>(pass);
  }
  if (instructions() != Instructions::kBaseline) {
    if (block == 64 / kSize) return in_avx2::pass_over<T, 2, 6>(pass);
    return in_avx2::pass_over<T, 1, 12>(pass);
  }
#endif
  if (block == 32 / kSize) return in_baseline::pass_over<T, 2, 6>(pass);
  return in_baseline::pass_over<T, 1, 12>(pass);
}

template int64_t queries_of_a_block<float>(int64_t);
template int64_t queries_of_a_block<double>(int64_t);
template int64_t scratch_of_a_block<float>(int64_t);
template int64_t scratch_of_a_block<double>(int64_t);
template void pass_over_negatives<float>(const QueuePass<float>&, int64_t);
template void pass_over_negatives<double>(const QueuePass<double>&, int64_t);

}  // namespace tubeletx::cpu
