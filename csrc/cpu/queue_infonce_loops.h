// The loops of queue_infonce_pass.cpp, included once for each instruction set: in its namespace, where Vector<T>
// and TUBELETX_TARGET are defined. Hence no include guard.
//
// Lanes are queries. A number of a negative multiplies a vector of queries, so that the queue is read as it lies: a
// block of kRows negatives (or features, in the weighted sums) times kVectors vectors of queries stays in registers.

#define TUBELETX_LOCAL TUBELETX_TARGET inline __attribute__((always_inline))

template <typename T>
inline constexpr int64_t kWidth = sizeof(Vector<T>) / sizeof(T);

template <typename T>
TUBELETX_LOCAL Vector<T>& vector_at(T* place) {
  return *reinterpret_cast<Vector<T>*>(place);
}

/// scores[row][lane] = sum over features of negatives[row][feature] * queries[feature][lane]
template <typename T, int kVectors, int kRows>
TUBELETX_LOCAL void score_rows(const T* negatives, int64_t stride, T* queries, int64_t features, T* scores) {
  constexpr int64_t kLanes = kVectors * kWidth<T>;
  Vector<T> sums[kRows][kVectors] = {};
  constexpr int64_t kLine = 64 / sizeof(T);
  for (int64_t first = 0; first < features; first += kLine) {
    // The next tile into the second-level cache: many short rows at a time are no stream that a processor foresees.
    for (int row = 0; row < kRows; ++row) __builtin_prefetch(negatives + (row + kTileRows) * stride + first, 0, 2);
    const int64_t end = first + kLine < features ? first + kLine : features;
    for (int64_t feature = first; feature < end; ++feature) {
      Vector<T> query[kVectors];
      for (int v = 0; v < kVectors; ++v) query[v] = vector_at(queries + feature * kLanes + v * kWidth<T>);
#pragma GCC unroll 24
      for (int row = 0; row < kRows; ++row) {
        for (int v = 0; v < kVectors; ++v) sums[row][v] += negatives[row * stride + feature] * query[v];
      }
    }
  }
  for (int row = 0; row < kRows; ++row) {
    for (int v = 0; v < kVectors; ++v) vector_at(scores + row * kLanes + v * kWidth<T>) = sums[row][v];
  }
}

/// sums[feature][lane] += sum over rows of negatives[row][feature] * weights[row][lane]
template <typename T, int kVectors, int kFeatures>
TUBELETX_LOCAL void weigh_features(const T* negatives, int64_t stride, T* weights, int64_t rows, T* sums) {
  constexpr int64_t kLanes = kVectors * kWidth<T>;
  Vector<T> kept[kFeatures][kVectors];
  for (int feature = 0; feature < kFeatures; ++feature) {
    for (int v = 0; v < kVectors; ++v) kept[feature][v] = vector_at(sums + feature * kLanes + v * kWidth<T>);
  }
  for (int64_t row = 0; row < rows; ++row) {
    Vector<T> weight[kVectors];
    for (int v = 0; v < kVectors; ++v) weight[v] = vector_at(weights + row * kLanes + v * kWidth<T>);
#pragma GCC unroll 24
    for (int feature = 0; feature < kFeatures; ++feature) {
      for (int v = 0; v < kVectors; ++v) kept[feature][v] += negatives[row * stride + feature] * weight[v];
    }
  }
  for (int feature = 0; feature < kFeatures; ++feature) {
    for (int v = 0; v < kVectors; ++v) vector_at(sums + feature * kLanes + v * kWidth<T>) = kept[feature][v];
  }
}

/// out[lane] = e^((scores[lane] - maxima[lane]) * scales[lane])
template <typename T, int64_t kLanes>
TUBELETX_LOCAL void weigh(const T* scores, const T* maxima, const T* scales, T* out) {
  for (int64_t lane = 0; lane < kLanes; ++lane) out[lane] = exponential((scores[lane] - maxima[lane]) * scales[lane]);
}

template <typename T, int kVectors, int kRows>
TUBELETX_TARGET void pass_over(const QueuePass<T>& pass) {
  constexpr int64_t kLanes = kVectors * kWidth<T>;
  using Counts = decltype(Vector<T>{} <= Vector<T>{});
  T* const queries = pass.scratch;
  T* const sums = queries + pass.features * kLanes;
  T* const scores = sums + pass.features * kLanes;
  alignas(64) T maxima[kLanes], totals[kLanes], scales[kLanes], surely_above[kLanes], maybe_above[kLanes], keep[kLanes];
  int64_t ranks[kLanes] = {};
  for (int64_t lane = 0; lane < kLanes; ++lane) {
    const bool used = lane < pass.queries;
    for (int64_t i = 0; i < pass.features; ++i) {
      queries[i * kLanes + lane] = used ? pass.query[lane * pass.features + i] : T(0);
    }
    const double positive = used ? pass.positives[lane] : 0.0;
    const double tolerance = used ? pass.tolerances[lane] : 1.0;
    surely_above[lane] = static_cast<T>(positive + tolerance);
    maybe_above[lane] = static_cast<T>(positive - tolerance);
    scales[lane] = used ? pass.scales[lane] : T(1);
    maxima[lane] = empty_softmax_state<T>().maximum;
    totals[lane] = 0;
  }
  std::fill(sums, sums + pass.features * kLanes, T(0));

  for (int64_t first = 0; first < pass.count; first += kTileRows) {
    const T* const tile = pass.negatives + first * pass.stride;
    const int64_t rows = std::min(kTileRows, pass.count - first);
    int64_t row = 0;
    for (; row + kRows <= rows; row += kRows) {
      score_rows<T, kVectors, kRows>(tile + row * pass.stride, pass.stride, queries, pass.features,
                                     scores + row * kLanes);
    }
    for (; row < rows; ++row) {
      score_rows<T, kVectors, 1>(tile + row * pass.stride, pass.stride, queries, pass.features, scores + row * kLanes);
    }

    bool has_grown = false;
    for (int v = 0; v < kVectors; ++v) {
      const Vector<T> sure = vector_at(surely_above + v * kWidth<T>), maybe = vector_at(maybe_above + v * kWidth<T>);
      Vector<T> top = vector_at(maxima + v * kWidth<T>);
      Counts above{}, candidates{};
      for (row = 0; row < rows; ++row) {
        const Vector<T> score = vector_at(scores + row * kLanes + v * kWidth<T>);
        top = score > top ? score : top;
        above -= ~(score <= sure);  // a true comparison is -1; NaN counts as above
        candidates -= ~(score <= maybe);
      }
      alignas(64) T tops[kWidth<T>];
      vector_at(tops) = top;
      for (int64_t i = 0; i < kWidth<T>; ++i) {
        const int64_t lane = v * kWidth<T> + i;
        ranks[lane] += above[i];
        if (candidates[i] != above[i] && lane < pass.queries)
          ranks[lane] += recount(pass, tile, rows, scores, kLanes, lane);
        has_grown |= tops[i] > maxima[lane];
        keep[lane] = tops[i];
      }
    }
    if (has_grown) {
      alignas(64) T grown[kLanes];
      std::memcpy(grown, keep, sizeof grown);
      weigh<T, kLanes>(maxima, grown, scales, keep);
      std::memcpy(maxima, grown, sizeof grown);
      for (int64_t lane = 0; lane < kLanes; ++lane) totals[lane] *= keep[lane];
      if (pass.sums != nullptr) {
        for (int64_t i = 0; i < pass.features; ++i) {
          for (int64_t lane = 0; lane < kLanes; ++lane) sums[i * kLanes + lane] *= keep[lane];
        }
      }
    }
    for (row = 0; row < rows; ++row) {
      weigh<T, kLanes>(scores + row * kLanes, maxima, scales, scores + row * kLanes);
    }
    for (int v = 0; v < kVectors; ++v) {
      Vector<T> total = vector_at(totals + v * kWidth<T>);
      for (row = 0; row < rows; ++row) total += vector_at(scores + row * kLanes + v * kWidth<T>);
      vector_at(totals + v * kWidth<T>) = total;
    }
    if (pass.sums == nullptr) continue;
    int64_t i = 0;
    for (; i + kRows <= pass.features; i += kRows) {
      weigh_features<T, kVectors, kRows>(tile + i, pass.stride, scores, rows, sums + i * kLanes);
    }
    for (; i + 4 <= pass.features; i += 4) {
      weigh_features<T, kVectors, 4>(tile + i, pass.stride, scores, rows, sums + i * kLanes);
    }
    for (; i < pass.features; ++i) {
      weigh_features<T, kVectors, 1>(tile + i, pass.stride, scores, rows, sums + i * kLanes);
    }
  }

  for (int64_t lane = 0; lane < pass.queries; ++lane) {
    // Nothing is at most NaN.
    pass.ranks[lane] += std::isnan(pass.positives[lane]) ? pass.count : ranks[lane];
    const auto [old, taken] = merge_scores(pass.states[lane], {maxima[lane], totals[lane]}, pass.scales[lane]);
    if (pass.sums == nullptr) continue;
    T* const row = pass.sums + lane * pass.features;
    for (int64_t i = 0; i < pass.features; ++i) row[i] = row[i] * old + sums[i * kLanes + lane] * taken;
  }
}

#undef TUBELETX_LOCAL
