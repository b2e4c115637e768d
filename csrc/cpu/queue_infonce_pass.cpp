#include "cpu/queue_infonce_pass.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "cpu/dot.h"
#include "cpu/vector.h"

namespace tubeletx::cpu {
namespace {

/// Negatives that are scored, weighed and summed together: so many that queries and sums, which the first-level cache
/// does not hold beside them, come from the second seldom.
constexpr int64_t kTileRows = 96;
/// In a pass for few queries negatives are most of what is read: so many as the first-level cache holds.
constexpr int64_t kFewTileRows = 48;
constexpr int64_t kMostLanes = 32;
/// Queries that a pass for few takes.
constexpr int64_t kMostFew = 12;

constexpr int64_t round_up(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

/// Of a query's scores within rounding of its positive's, how many are above it when computed exactly: ties stay ties.
/// Compiled once, for the baseline, as the positive's own score is, so that equal vectors have equal scores.
template <typename T>
__attribute__((noinline)) int64_t recount(const QueuePass<T>& pass, int64_t query, const T* tile, int64_t rows,
                                          const T* scores, int64_t step) {
  const double positive = pass.positives[query];
  const T sure = static_cast<T>(positive + pass.tolerances[query]);
  const T maybe = static_cast<T>(positive - pass.tolerances[query]);
  int64_t above = 0;
  for (int64_t row = 0; row < rows; ++row) {
    const T score = scores[row * step];
    if (score <= maybe || !(score <= sure)) continue;
    above += !(dot(pass.query + query * pass.features, tile + row * pass.stride, pass.features) <= positive);
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

#ifdef TUBELETX_AVX512

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

#ifdef __clang__  // which knows no such preference, and would drop all of the list for it
#define TUBELETX_TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,bmi2,fma")))
#else
#define TUBELETX_TARGET \
  __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,bmi2,fma,prefer-vector-width=512")))
#endif
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
  int64_t vector = 16;
#ifdef TUBELETX_AVX512
  if (instructions() == Instructions::kWide) vector = 64;
  if (instructions() == Instructions::kNarrow) vector = 32;
#endif
  return batch <= vector / kSize ? vector / kSize : 2 * vector / kSize;
}

template <typename T>
int64_t scratch_of_a_block(int64_t features) {
  // A pass for few keeps fewer queries, filled up to whole vectors, and the ends of a tile.
  constexpr int64_t kWidth = 64 / sizeof(T);
  return std::max(kMostLanes * (2 * features + kTileRows),
                  2 * kMostFew * round_up(features, kWidth) + (4 + kWidth) * kFewTileRows);
}

template <typename T>
void pass_over_negatives(const QueuePass<T>& pass) {
  constexpr int64_t kSize = sizeof(T);
#ifdef TUBELETX_AVX512
  // Lanes of features pay where less than three quarters of the lanes of queries would be used.
  if (instructions() == Instructions::kWide) {
    if (pass.queries <= 48 / kSize) return in_avx512::pass_over_for_few<T>(pass);
    if (pass.queries <= 64 / kSize) return in_avx512::pass_over<T, 1, 24>(pass);
    return in_avx512::pass_over<T, 2, 12>(pass);
  }
  if (instructions() == Instructions::kNarrow) {
    if (pass.queries <= 24 / kSize) return in_avx2::pass_over_for_few<T>(pass);
    if (pass.queries <= 32 / kSize) return in_avx2::pass_over<T, 1, 12>(pass);
    return in_avx2::pass_over<T, 2, 6>(pass);
  }
#endif
#ifdef TUBELETX_NEON
  constexpr int kSums = 24;  // of 32 registers
#else
  constexpr int kSums = 12;  // of 16
#endif
  if (pass.queries <= 16 / kSize) return in_baseline::pass_over<T, 1, kSums>(pass);
  return in_baseline::pass_over<T, 2, kSums / 2>(pass);
}

template int64_t queries_of_a_block<float>(int64_t);
template int64_t queries_of_a_block<double>(int64_t);
template int64_t scratch_of_a_block<float>(int64_t);
template int64_t scratch_of_a_block<double>(int64_t);
template void pass_over_negatives<float>(const QueuePass<float>&);
template void pass_over_negatives<double>(const QueuePass<double>&);

}  // namespace tubeletx::cpu
