// What a block does with its queries before it meets the first negative, while that is on its way: brings them into
// the form of its products, and finds what their scores are to be held against.
#pragma once

#include "cuda/infonce/parts.h"

namespace tubeletx::cuda {

/// Over the `kThreads` neighbours of a row, with the same bits in each.
template <int kThreads, typename T>
TUBELETX_DEVICE T row_sum(T value) {
#pragma unroll
  for (int mask = 1; mask < kThreads; mask *= 2) value += device::shuffle_xor(value, mask);
  return value;
}
template <int kThreads, typename T>
TUBELETX_DEVICE T row_maximum(T value) {
#pragma unroll
  for (int mask = 1; mask < kThreads; mask *= 2) {
    const T other = device::shuffle_xor(value, mask);
    value = other > value ? other : value;
  }
  return value;
}

/// The power of two at or below `largest`, within 2^-126 and 2^126. Divided by it, numbers up to `largest` keep their
/// precision in float16, whose range is narrow, and their squares keep it in float32.
TUBELETX_DEVICE float magnitude_of(float largest) {
  constexpr float kSmallest = 0x1p-126f;
  constexpr float kGreatest = 0x1p126f;
  if (!(largest > kSmallest)) return largest > 0 ? kSmallest : 1.0f;
  if (!(largest < kGreatest)) return kGreatest;
  return bit_cast<float>(bit_cast<uint32_t>(largest) & 0x7f800000u);
}

/// 1 / magnitude, for a magnitude as above.
TUBELETX_DEVICE float inverse_of_magnitude(float magnitude) {
  return bit_cast<float>(0x7f000000u - bit_cast<uint32_t>(magnitude));
}

/// Largest error of a score that a kernel computes, and of the positive's score as computed here, relative to the
/// lengths of the two vectors.
template <typename T, typename Tile, int kParts>
TUBELETX_DEVICE T score_error(const QueueInfoNCEArguments& arguments) {
  const T features = static_cast<T>(arguments.features);
  constexpr T kHalfUnit = sizeof(T) == sizeof(double) ? T(0x1p-53) : T(0x1p-24);  // of a rounding
  const T positive = (features / Tile::kThreadsOfRow + 8) * kHalfUnit;
  if (kParts == 0) return features * kHalfUnit + positive;
  // The matrix units cut sums off instead of rounding them. A sum of 8 products and what came before cuts each of the
  // nine at 2^-24 of the largest, and the result at 2^-23: 5.5 units of 2^-23 for 8 features, here 6. The units that
  // add 16 products at once are more precise than that.
  // What two bfloat16 leave of a float32 is 2^-18 of it.
  const T rest = kParts == 2 && arguments.queue.type == NumberType::kBFloat16 ? T(0x1p-18) : T(0);
  const T error = features * T(0.75 * 0x1p-23) + rest + positive;
  // A score divided by less would not tell what stands behind the point (`Certainty`).
  constexpr T kLeast = T(0x1p-17);
  return error > kLeast ? error : kLeast;
}

/// The thresholds of a row, the same in all of its threads. `keep(feature, values)` is given the query over its
/// magnitude, eight features at a time, up to `kWidth` or the last. `type` is that of the query.
template <bool kAligned, typename Tile, int kParts, typename T, typename Keep>
TUBELETX_DEVICE RowThresholds<T> prepare_query(const QueueInfoNCEArguments& arguments, NumberType type, int64_t row,
                                               const Keep& keep) {
  constexpr int kWidth = Tile::kWidth;
  constexpr int kThreads = Tile::kThreadsOfRow;
  const int64_t features = arguments.features;
  const bool valid = row < arguments.batch;
  const int first = device::thread() % kThreads * 8;
  constexpr int kStep = kThreads * 8;
  // So many pieces of a row are loaded together, and stay in registers if they are all.
  constexpr int kPieces = kWidth / kStep;
  constexpr int kMost = kParts == 1 ? 8 : 4;
  constexpr int kTogether = kAligned ? (kPieces < kMost ? kPieces : kMost) : 1;
  const bool stays = kTogether == kPieces && features <= kWidth;

  StoredEight stored_query[kTogether], stored_key[kTogether];
  const auto load = [&](int64_t feature) {
    if constexpr (kAligned) {
#pragma unroll
      for (int piece = 0; piece < kTogether; ++piece) {
        const int64_t place = feature + piece * kStep;
        const bool inside = valid && place < features;
        stored_query[piece] = load_stored(arguments.query, type, row * arguments.query.strides[0] + place, inside);
        stored_key[piece] = load_stored(arguments.key, type, row * arguments.key.strides[0] + place, inside);
      }
    }
  };
  const auto get = [&](int piece, int64_t place, T(&query)[8], T(&key)[8]) {
    if constexpr (kAligned) {
      widen_eight(stored_query[piece], type, query);
      widen_eight(stored_key[piece], type, key);
    } else {
      const auto load_row = [&](const Numbers& numbers, T(&values)[8]) {
        load_eight(numbers, row * numbers.strides[0] + place * numbers.strides[1], numbers.strides[1],
                   valid ? features - place : 0, values);
      };
      load_row(arguments.query, query);
      load_row(arguments.key, key);
    }
  };
  float largest_query = 0;
  float largest_key = 0;
  int64_t ahead = first;
  do {  // at least once: what stays must be there
    load(ahead);
#pragma unroll
    for (int piece = 0; piece < kTogether; ++piece) {
      T query[8], key[8];
      get(piece, ahead + piece * kStep, query, key);
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        largest_query = fmaxf(largest_query, fabsf(static_cast<float>(query[i])));
        largest_key = fmaxf(largest_key, fabsf(static_cast<float>(key[i])));
      }
    }
    ahead += kTogether * kStep;
  } while (ahead < features);
  // What is half precision and needs no second number keeps its scale: it has no room for another.
  const bool is_scaled = kParts != 1 || type != NumberType::kHalf;
  const float query_magnitude = magnitude_of(row_maximum<kThreads>(largest_query));
  const float key_magnitude = magnitude_of(row_maximum<kThreads>(largest_key));
  const T query_scale = inverse_of_magnitude(query_magnitude);
  const T key_scale = inverse_of_magnitude(key_magnitude);

  T positive = 0, query_square = 0, key_square = 0;
#pragma unroll 1
  for (int64_t feature = first; feature < kWidth || feature < features; feature += kTogether * kStep) {
    if (!stays) load(feature);
#pragma unroll
    for (int piece = 0; piece < kTogether; ++piece) {
      T query[8], key[8], kept[8];
      get(piece, feature + piece * kStep, query, key);
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        const T scaled_query = query[i] * query_scale;
        const T scaled_key = key[i] * key_scale;
        positive = fma(scaled_query, scaled_key, positive);
        query_square = fma(scaled_query, scaled_query, query_square);
        key_square = fma(scaled_key, scaled_key, key_square);
        kept[i] = is_scaled ? scaled_query : query[i];
      }
      keep(feature + piece * kStep, kept);
    }
  }
  positive = row_sum<kThreads>(positive);
  const T length = sqrt(row_sum<kThreads>(query_square) * row_sum<kThreads>(key_square));
  const T unit = key_magnitude * (is_scaled ? T(1) : T(query_magnitude));
  const T magnitude = is_scaled ? query_magnitude : 1.0f;
  // Within the range of T, so that nothing times it is not a number.
  constexpr double kSmallest = sizeof(T) == sizeof(double) ? 1e-300 : 1e-37;
  const double factor = arguments.scale * 1.44269504088896340736 * static_cast<double>(magnitude);
  constexpr T kLeastTolerance = sizeof(T) == sizeof(double) ? T(1e-300) : T(0x1p-126);
  const T tolerance = score_error<T, Tile, kParts>(arguments) * length * unit;
  // No score of a row past the batch is looked at again.
  return {valid ? positive * unit : T(kInfinity), tolerance > kLeastTolerance ? tolerance : kLeastTolerance,
          static_cast<T>(factor < kSmallest       ? kSmallest
                         : factor > 1 / kSmallest ? 1 / kSmallest
                                                  : factor),
          magnitude};
}

/// Prepares the block's queries from `first_row` on: keep(row, feature, values) as above, and keep_thresholds(row,
/// thresholds), the row counted within the block. `Element` is the type of the queries where `kParts` is 1.
template <typename T, typename Element, int kParts, typename Tile, typename Keep, typename KeepThresholds>
TUBELETX_DEVICE void prepare_queries(const QueueInfoNCEArguments& arguments, int64_t first_row, const Keep& keep,
                                     const KeepThresholds& keep_thresholds) {
  constexpr int kThreads = Tile::kThreadsOfRow;
  static_assert(Tile::kRows * kThreads % device::kWarp == 0, "a warp prepares together or not at all");
  constexpr NumberType kElement = std::is_same_v<Element, Half> ? NumberType::kHalf : NumberType::kBFloat16;
  const NumberType type = kParts == 1 ? kElement : arguments.query.type;
#pragma unroll 1
  for (int place = device::thread(); place < Tile::kRows * kThreads; place += Tile::kThreads) {
    const int row = place / kThreads;
    const auto keep_of_row = [&](int64_t feature, const T(&values)[8]) { keep(row, feature, values); };
    RowThresholds<T> thresholds;
    if constexpr (sizeof(T) == sizeof(float)) {
      thresholds = arguments.query_is_aligned
                       ? prepare_query<true, Tile, kParts, T>(arguments, type, first_row + row, keep_of_row)
                       : prepare_query<false, Tile, kParts, T>(arguments, type, first_row + row, keep_of_row);
    } else {
      thresholds = prepare_query<false, Tile, kParts, T>(arguments, type, first_row + row, keep_of_row);
    }
    if (place % kThreads == 0) keep_thresholds(row, thresholds);
  }
}

/// Writes eight numbers as the sum of `kParts` 16-bit numbers each; the parts lie `part_stride` elements apart.
template <typename Element, int kParts>
TUBELETX_DEVICE void write_parts(Element* target, int part_stride, const float (&values)[8]) {
  float rest[8];
#pragma unroll
  for (int i = 0; i < 8; ++i) rest[i] = values[i];
#pragma unroll
  for (int part = 0; part < kParts; ++part) {
    Four<uint32_t> packed;
#pragma unroll
    for (int i = 0; i < 8; i += 2) {
      const uint32_t pair = device::pack<Element>(rest[i], rest[i + 1]);
      rest[i] -= to_real(Element{static_cast<uint16_t>(pair)});
      rest[i + 1] -= to_real(Element{static_cast<uint16_t>(pair >> 16)});
      packed.values[i / 2] = pair;
    }
    *reinterpret_cast<Four<uint32_t>*>(target + part * part_stride) = packed;
  }
}

}  // namespace tubeletx::cuda
