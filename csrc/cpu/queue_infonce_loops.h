// The loops of queue_infonce_pass.cpp, included once for each instruction set: in its namespace, where Vector<T>
// and TUBELETX_TARGET are defined. Hence no include guard.
//
// The queue is read as it lies. In pass_over lanes are queries, and a number of a negative multiplies a vector of them:
// a block of kRows negatives (or features, in the weighted sums) times kVectors vectors of queries stays in registers.
// In pass_over_for_few, where most of those lanes would be empty, lanes are features.

#define TUBELETX_LOCAL TUBELETX_TARGET inline __attribute__((always_inline))

template <typename T>
inline constexpr int64_t kWidth = sizeof(Vector<T>) / sizeof(T);

template <typename T>
TUBELETX_LOCAL Vector<T>& vector_at(T* place) {
  return *reinterpret_cast<Vector<T>*>(place);
}

/// scores[row][lane] = sum over features of negatives[row][feature] * queries[feature][lane]
template <typename T, int kVectors, int kRows>
TUBELETX_LOCAL void score_rows(const T* negatives, int64_t stride, T* queries, int64_t features, bool are_cached,
                               T* scores) {
  constexpr int64_t kLanes = kVectors * kWidth<T>;
  Vector<T> sums[kRows][kVectors] = {};
  constexpr int64_t kLine = 64 / sizeof(T);
  for (int64_t first = 0; first < features; first += kLine) {
    // The next tile into the second-level cache: many short rows at a time are no stream that a processor foresees.
    if (!are_cached) {
      for (int row = 0; row < kRows; ++row) __builtin_prefetch(negatives + (row + kTileRows) * stride + first, 0, 2);
    }
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

/// e^x of each lane, x <= 0; below -87 (float) or -708 (double) it is 0, of NaN NaN.
template <typename T>
TUBELETX_LOCAL Vector<T> exponentials(Vector<T> x) {
  if constexpr (sizeof(T) == sizeof(float)) {
    using Bits = decltype(x <= x);
    using Constants = ExponentialConstants<float>;
    // x = (exponent + rest) ln 2. The sum that rounds holds in its low bits the exponent as a float has it.
    constexpr float kRounder = Constants::kRounder + Constants::kExponentBias;
    constexpr float kLog2E = 1.44269504088896340736f;
    const Vector<T> rounded = x * kLog2E + kRounder;
    const Vector<T> rest = x * kLog2E - (rounded - kRounder);
    // 2^rest for |rest| <= 1/2 with the least relative error, 2e-9, and exactly 1 at 0.
    constexpr float kCoefficients[] = {
        0x1.41fbbcp-13f, 0x1.5f3e52p-10f, 0x1.3b2d4cp-7f, 0x1.c6aee8p-5f, 0x1.ebfbdcp-3f, 0x1.62e430p-1f, 1.0f};
    Vector<T> power = rest * kCoefficients[0] + kCoefficients[1];
#pragma GCC unroll 8
    for (int i = 2; i < 7; ++i) power = power * rest + kCoefficients[i];
    power *= reinterpret_cast<Vector<T>>(reinterpret_cast<Bits>(rounded) << Constants::kMantissaBits);
    return x < Constants::kLowest ? Vector<T>{} : power;
  } else {
    alignas(64) T lanes[kWidth<T>];
    vector_at(lanes) = x;
    for (T& lane : lanes) lane = exponential(lane);
    return vector_at(lanes);
  }
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
      score_rows<T, kVectors, kRows>(tile + row * pass.stride, pass.stride, queries, pass.features, pass.are_cached,
                                     scores + row * kLanes);
    }
    for (; row < rows; ++row) {
      score_rows<T, kVectors, 1>(tile + row * pass.stride, pass.stride, queries, pass.features, pass.are_cached,
                                 scores + row * kLanes);
    }

    bool has_grown = false;
    for (int v = 0; v < kVectors; ++v) {
      const Vector<T> sure = vector_at(surely_above + v * kWidth<T>), maybe = vector_at(maybe_above + v * kWidth<T>);
      Vector<T> top = vector_at(maxima + v * kWidth<T>);
      Counts above{}, candidates{};
      for (row = 0; row < rows; ++row) {
        const Vector<T> score = vector_at(scores + row * kLanes + v * kWidth<T>);
        top = score > top ? score : top;
        above = score <= sure ? above : above + 1;  // NaN counts as above
        candidates = score <= maybe ? candidates : candidates + 1;
      }
      alignas(64) T tops[kWidth<T>];
      vector_at(tops) = top;
      for (int64_t i = 0; i < kWidth<T>; ++i) {
        const int64_t lane = v * kWidth<T> + i;
        ranks[lane] += above[i];
        if (candidates[i] != above[i] && lane < pass.queries) {
          ranks[lane] += recount(pass, lane, tile, rows, scores + lane, kLanes);
        }
        has_grown |= tops[i] > maxima[lane];
        keep[lane] = tops[i];
      }
    }
    if (has_grown) {
      for (int64_t lane = 0; lane < kLanes; lane += kWidth<T>) {
        const Vector<T> grown = vector_at(keep + lane);
        vector_at(keep + lane) = exponentials<T>((vector_at(maxima + lane) - grown) * vector_at(scales + lane));
        vector_at(maxima + lane) = grown;
      }
      for (int64_t lane = 0; lane < kLanes; ++lane) totals[lane] *= keep[lane];
      if (pass.sums != nullptr) {
        for (int64_t i = 0; i < pass.features; ++i) {
          for (int64_t lane = 0; lane < kLanes; ++lane) sums[i * kLanes + lane] *= keep[lane];
        }
      }
    }
    for (int v = 0; v < kVectors; ++v) {
      const int64_t lane = v * kWidth<T>;
      const Vector<T> maximum = vector_at(maxima + lane), scale = vector_at(scales + lane);
      Vector<T> total = vector_at(totals + lane);
      for (row = 0; row < rows; ++row) {
        Vector<T>& score = vector_at(scores + row * kLanes + lane);
        const Vector<T> weight = exponentials<T>((score - maximum) * scale);
        score = weight;
        total += weight;
      }
      vector_at(totals + lane) = total;
    }
    if (pass.sums == nullptr) continue;
    int64_t i = 0;
    for (; i + kRows <= pass.features; i += kRows) {
      weigh_features<T, kVectors, kRows>(tile + i, pass.stride, scores, rows, sums + i * kLanes);
    }
    for (; i + 8 <= pass.features; i += 8) {
      weigh_features<T, kVectors, 8>(tile + i, pass.stride, scores, rows, sums + i * kLanes);
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

template <typename T>
TUBELETX_LOCAL Vector<T> loose_vector_at(const T* place) {
  Vector<T> vector;
  __builtin_memcpy(&vector, place, sizeof vector);
  return vector;
}

/// Each two adjacent lanes added: those of `low`, then those of `high`.
template <typename T, int... kLanes>
TUBELETX_LOCAL Vector<T> add_pairs(Vector<T> low, Vector<T> high, std::integer_sequence<int, kLanes...>) {
  return __builtin_shufflevector(low, high, (2 * kLanes)...) + __builtin_shufflevector(low, high, (2 * kLanes + 1)...);
}

/// Lane i: the sum of the lanes of vectors[i].
template <typename T>
TUBELETX_LOCAL Vector<T> sum_each(Vector<T> (&vectors)[kWidth<T>]) {
#pragma GCC unroll 4
  for (int count = kWidth<T>; count > 1; count /= 2) {
#pragma GCC unroll 8
    for (int i = 0; i < count / 2; ++i) {
      vectors[i] = add_pairs<T>(vectors[2 * i], vectors[2 * i + 1], std::make_integer_sequence<int, kWidth<T>>{});
    }
  }
  return vectors[0];
}

/// A tile of negatives in vectors of features.
template <typename T>
struct FeatureTile {
  const T* negatives;
  int64_t stride;
  int64_t rows;
  int64_t whole;     // features in whole vectors
  int64_t features;  // filled up to whole vectors
  const T* tails;    // (rows, one vector): the features from `whole` on, filled up with zeros
};

/// Adds the products of one vector of features: of each query with each of kRows negatives.
template <typename T, int kQueries, int kRows>
TUBELETX_LOCAL void add_products(const T* const (&rows)[kRows], int64_t at, T* queries, int64_t features,
                                 Vector<T> (&sums)[kQueries][kRows]) {
  Vector<T> negative[kRows];
  for (int row = 0; row < kRows; ++row) negative[row] = loose_vector_at(rows[row] + at);
#pragma GCC unroll 4
  for (int query = 0; query < kQueries; ++query) {
    const Vector<T> factor = vector_at(queries + query * features);
    for (int row = 0; row < kRows; ++row) sums[query][row] += negative[row] * factor;
  }
}

/// scores[query][row] = sum over features of negatives[row][feature] * queries[query][feature]. Scores beyond the
/// tile's rows, up to a whole vector, are those of the last row.
template <typename T, int kQueries>
TUBELETX_LOCAL void score_few(const FeatureTile<T>& tile, T* queries, T* scores) {
  constexpr int kRows = kWidth<T> / kQueries;
  // As many rows side by side as share the loads of several queries, else so few that memory is read nearly in order.
  constexpr int kTogether = kQueries > 1 || kRows < 2 ? kRows : 2;
  for (int64_t first = 0; first < round_up(tile.rows, kWidth<T>); first += kRows) {
    Vector<T> sums[kWidth<T>];
#pragma GCC unroll 16
    for (int i = 0; i < kRows; i += kTogether) {
      const T *rows[kTogether], *tails[kTogether];
      for (int j = 0; j < kTogether; ++j) {
        const int64_t row = std::min(first + i + j, tile.rows - 1);
        rows[j] = tile.negatives + row * tile.stride;
        tails[j] = tile.tails + row * kWidth<T>;
      }
      Vector<T> both[kQueries][kTogether] = {};
      for (int64_t feature = 0; feature < tile.whole; feature += kWidth<T>) {
        add_products<T, kQueries, kTogether>(rows, feature, queries + feature, tile.features, both);
      }
      if (tile.whole < tile.features) {
        add_products<T, kQueries, kTogether>(tails, 0, queries + tile.whole, tile.features, both);
      }
      for (int query = 0; query < kQueries; ++query) {
        for (int j = 0; j < kTogether; ++j) sums[query * kRows + i + j] = both[query][j];
      }
    }
    alignas(64) T sum[kWidth<T>];
    vector_at(sum) = sum_each<T>(sums);
    for (int query = 0; query < kQueries; ++query) {
      __builtin_memcpy(scores + query * kFewTileRows + first, sum + query * kRows, kRows * sizeof(T));
    }
  }
}

/// sums[query][feature] += sum over rows of negatives[row][feature] * weights[query][row], for kVectors of features.
/// With kAhead the next tile comes into the second-level cache meanwhile: scoring waits for memory, weighing need not.
template <typename T, int kQueries, int kVectors, bool kAhead>
TUBELETX_LOCAL void weigh_vectors(const T* negatives, int64_t stride, int64_t rows, const T* weights, T* sums,
                                  int64_t features) {
  Vector<T> kept[kQueries][kVectors];
  for (int query = 0; query < kQueries; ++query) {
    for (int v = 0; v < kVectors; ++v) kept[query][v] = vector_at(sums + query * features + v * kWidth<T>);
  }
  for (int64_t row = 0; row < rows; ++row) {
    if constexpr (kAhead) {
      for (int v = 0; v < kVectors; ++v)
        __builtin_prefetch(negatives + (row + kFewTileRows) * stride + v * kWidth<T>, 0, 2);
    }
    Vector<T> negative[kVectors];
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) negative[v] = loose_vector_at(negatives + row * stride + v * kWidth<T>);
#pragma GCC unroll 4
    for (int query = 0; query < kQueries; ++query) {
      const T weight = weights[query * kFewTileRows + row];
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) kept[query][v] += negative[v] * weight;
    }
  }
  for (int query = 0; query < kQueries; ++query) {
    for (int v = 0; v < kVectors; ++v) vector_at(sums + query * features + v * kWidth<T>) = kept[query][v];
  }
}

template <typename T, int kQueries, bool kAhead>
TUBELETX_LOCAL void weigh_few(const FeatureTile<T>& tile, const T* weights, T* sums) {
  constexpr int kMost = sizeof(Vector<T>) == 64 && kQueries < 4 ? 8 : 4;
  const auto [negatives, stride, rows, whole, features, tails] = tile;
  int64_t i = 0;
  for (; i + kMost * kWidth<T> <= whole; i += kMost * kWidth<T>) {
    weigh_vectors<T, kQueries, kMost, kAhead>(negatives + i, stride, rows, weights, sums + i, features);
  }
  for (; i + 2 * kWidth<T> <= whole; i += 2 * kWidth<T>) {
    weigh_vectors<T, kQueries, 2, kAhead>(negatives + i, stride, rows, weights, sums + i, features);
  }
  for (; i < whole; i += kWidth<T>) {
    weigh_vectors<T, kQueries, 1, kAhead>(negatives + i, stride, rows, weights, sums + i, features);
  }
  if (i < features) weigh_vectors<T, kQueries, 1, false>(tails, kWidth<T>, rows, weights, sums + i, features);
}

/// What is known of one of few queries; lanes are negatives.
template <typename T>
struct FewState {
  Vector<T> total;
  T maximum;
  T scale;
  T surely_above;
  T maybe_above;
  int64_t rank;
};

template <typename Lanes>
TUBELETX_LOCAL int64_t sum_of(Lanes lanes) {
  int64_t sum = 0;
  for (size_t i = 0; i < sizeof(Lanes) / sizeof(lanes[0]); ++i) sum += lanes[i];
  return sum;
}

/// Ranks a query's scores, and turns them into weights; what lies beyond the rows, into zeros. Returns what the sums so
/// far are to be multiplied by.
template <typename T>
TUBELETX_LOCAL T weigh_scores(const QueuePass<T>& pass, int64_t lane, const FeatureTile<T>& tile, T* scores,
                              FewState<T>& state) {
  using Counts = decltype(Vector<T>{} <= Vector<T>{});
  const int64_t end = round_up(tile.rows, kWidth<T>);
  Vector<T> highest = vector_at(scores);
  Counts above{}, candidates{};
  for (int64_t row = 0; row < end; row += kWidth<T>) {
    const Vector<T> score = vector_at(scores + row);
    highest = score > highest ? score : highest;
    above = score <= state.surely_above ? above : above + 1;
    candidates = score <= state.maybe_above ? candidates : candidates + 1;
  }
  // The last row was counted for those beyond it too.
  state.rank += sum_of(above) - (end - tile.rows) * !(scores[end - 1] <= state.surely_above);
  if (sum_of(candidates != above) != 0) state.rank += recount(pass, lane, tile.negatives, tile.rows, scores, 1);

  T keep = 1;
  if (sum_of(highest > state.maximum) != 0) {
    T maximum = state.maximum;
    for (int64_t i = 0; i < kWidth<T>; ++i) maximum = highest[i] > maximum ? highest[i] : maximum;
    keep = exponential((state.maximum - maximum) * state.scale);
    state.maximum = maximum;
    state.total *= keep;
  }
  for (int64_t row = 0; row < end; row += kWidth<T>) {
    vector_at(scores + row) = exponentials<T>((vector_at(scores + row) - state.maximum) * state.scale);
  }
  for (int64_t row = tile.rows; row < end; ++row) scores[row] = 0;
  for (int64_t row = 0; row < end; row += kWidth<T>) state.total += vector_at(scores + row);
  return keep;
}

/// One tile for kQueries queries from `first` on.
template <typename T, int kQueries>
TUBELETX_LOCAL void pass_tile(const QueuePass<T>& pass, const FeatureTile<T>& tile, int64_t first, T* queries, T* sums,
                              T* scores, FewState<T>* states) {
  score_few<T, kQueries>(tile, queries + first * tile.features, scores);
  for (int64_t query = 0; query < kQueries && first + query < pass.queries; ++query) {
    const T keep = weigh_scores(pass, first + query, tile, scores + query * kFewTileRows, states[first + query]);
    if (keep == 1 || pass.sums == nullptr) continue;
    T* const row = sums + (first + query) * tile.features;
    for (int64_t i = 0; i < tile.features; ++i) row[i] *= keep;
  }
  if (pass.sums == nullptr) return;
  // For one query alone memory is read in order, which processors foresee, and prefetching costs more than it brings.
  if (kQueries > 1 && first == 0) {
    weigh_few<T, kQueries, true>(tile, scores, sums);
  } else {
    weigh_few<T, kQueries, false>(tile, scores, sums + first * tile.features);
  }
}

template <typename T>
TUBELETX_TARGET void pass_over_for_few(const QueuePass<T>& pass) {
  FeatureTile<T> tile{};
  tile.stride = pass.stride;
  tile.whole = pass.features / kWidth<T> * kWidth<T>;
  tile.features = round_up(pass.features, kWidth<T>);
  const int64_t padded = round_up(pass.queries, 4);
  T* const queries = pass.scratch;
  T* const sums = queries + padded * tile.features;
  T* const scores = sums + padded * tile.features;
  T* const tails = scores + 4 * kFewTileRows;
  std::fill(queries, tails + kFewTileRows * kWidth<T>, T(0));
  tile.tails = tails;
  FewState<T> states[kMostFew];
  for (int64_t lane = 0; lane < pass.queries; ++lane) {
    const T* const query = pass.query + lane * pass.features;
    std::copy(query, query + pass.features, queries + lane * tile.features);
    states[lane] = {Vector<T>{},
                    empty_softmax_state<T>().maximum,
                    pass.scales[lane],
                    static_cast<T>(pass.positives[lane] + pass.tolerances[lane]),
                    static_cast<T>(pass.positives[lane] - pass.tolerances[lane]),
                    0};
  }

  for (int64_t first = 0; first < pass.count; first += kFewTileRows) {
    tile.negatives = pass.negatives + first * pass.stride;
    tile.rows = std::min(kFewTileRows, pass.count - first);
    if (tile.whole < tile.features) {
      for (int64_t row = 0; row < tile.rows; ++row) {
        const T* const from = tile.negatives + row * tile.stride;
        std::copy(from + tile.whole, from + pass.features, tails + row * kWidth<T>);
      }
    }
    for (int64_t query = 0; query < pass.queries;) {
      if (pass.queries - query > 2) {
        pass_tile<T, 4>(pass, tile, query, queries, sums, scores, states);
        query += 4;
      } else if (pass.queries - query == 2) {
        pass_tile<T, 2>(pass, tile, query, queries, sums, scores, states);
        query += 2;
      } else {
        pass_tile<T, 1>(pass, tile, query, queries, sums, scores, states);
        query += 1;
      }
    }
  }

  for (int64_t lane = 0; lane < pass.queries; ++lane) {
    FewState<T>& state = states[lane];
    pass.ranks[lane] += std::isnan(pass.positives[lane]) ? pass.count : state.rank;
    T total = 0;
    for (int64_t i = 0; i < kWidth<T>; ++i) total += state.total[i];
    const auto [old, taken] = merge_scores(pass.states[lane], {state.maximum, total}, state.scale);
    if (pass.sums == nullptr) continue;
    T* const row = pass.sums + lane * pass.features;
    const T* const found = sums + lane * tile.features;
    for (int64_t i = 0; i < pass.features; ++i) row[i] = row[i] * old + found[i] * taken;
  }
}

#undef TUBELETX_LOCAL
