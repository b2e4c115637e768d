// What a block does with its queries before it meets the first negative, while that is on its way: brings them into
// the form of its products, and finds what their scores are to be held against.
#pragma once

#include "cuda/infonce/parts.h"

namespace tubeletx::cuda {

/// Over the `threads` neighbours of a row, with the same bits in each.
template <int threads, typename T>
TUBELETX_DEVICE T row_sum(T value) {
#pragma unroll
  for (int mask = 1; mask < threads; mask *= 2) value += device::shuffle_xor(value, mask);
  return value;
}
template <int threads, typename T>
TUBELETX_DEVICE T row_maximum(T value) {
#pragma unroll
  for (int mask = 1; mask < threads; mask *= 2) {
    const T other = device::shuffle_xor(value, mask);
    value = other > value ? other : value;
  }
  return value;
}

/// The power of two at or below `largest`, within 2^-126 and 2^126. Divided by it, numbers up to `largest` keep their
/// precision in float16, whose range is narrow, and their squares keep it in float32.
TUBELETX_DEVICE float magnitude_of(float largest) {
  constexpr float smallest = 0x1p-126f;
  constexpr float greatest = 0x1p126f;
  if (!(largest > smallest)) return largest > 0 ? smallest : 1.0f;
  if (!(largest < greatest)) return greatest;
  return bit_cast<float>(bit_cast<uint32_t>(largest) & 0x7f800000u);
}

/// 1 / magnitude, for a magnitude as above.
TUBELETX_DEVICE float inverse_of_magnitude(float magnitude) {
  return bit_cast<float>(0x7f000000u - bit_cast<uint32_t>(magnitude));
}

/// Largest error of a score that a kernel computes, and of the positive's score as computed here, relative to the
/// lengths of the two vectors.
template <typename T, typename Tile, int parts>
TUBELETX_DEVICE T score_error(const QueueInfoNCEArguments& arguments) {
  const T features = static_cast<T>(arguments.features);
  constexpr T half_unit = sizeof(T) == sizeof(double) ? T(0x1p-53) : T(0x1p-24);  // of a rounding
  const T positive = (features / Tile::threads_of_row + 8) * half_unit;
  if (parts == 0) return features * half_unit + positive;
  // The matrix units cut sums off instead of rounding them. A sum of 8 products and what came before cuts each of the
  // nine at 2^-24 of the largest, and the result at 2^-23: 5.5 units of 2^-23 for 8 features, here 6. The units that
  // add 16 products at once are more precise than that.
  // What two bfloat16 leave of a float32 is 2^-18 of it.
  const T rest = parts == 2 && arguments.queue.type == NumberType::kBFloat16 ? T(0x1p-18) : T(0);
  const T error = features * T(0.75 * 0x1p-23) + rest + positive;
  // A score divided by less would not tell what stands behind the point (`Certainty`).
  constexpr T least = T(0x1p-17);
  return error > least ? error : least;
}

/// The thresholds of a row, the same in all of its threads. `keep(feature, values)` is given the query over its
/// magnitude, eight features at a time, up to `width` or the last. `type` is that of the query.
template <bool aligned, typename Tile, int parts, typename T, typename Keep>
TUBELETX_DEVICE RowThresholds<T> prepare_query(const QueueInfoNCEArguments& arguments, NumberType type, int64_t row,
                                               const Keep& keep) {
  constexpr int width = Tile::width;
  constexpr int threads = Tile::threads_of_row;
  const int64_t features = arguments.features;
  const bool valid = row < arguments.batch;
  const int first = device::thread() % threads * 8;
  constexpr int step = threads * 8;
  // So many pieces of a row are loaded together, and stay in registers if they are all.
  constexpr int pieces = width / step;
  constexpr int most = parts == 1 ? 8 : 4;
  constexpr int together = aligned ? (pieces < most ? pieces : most) : 1;
  const bool stays = together == pieces && features <= width;

  StoredEight stored_query[together], stored_key[together];
  const auto load = [&](int64_t feature) {
    if constexpr (aligned) {
#pragma unroll
      for (int piece = 0; piece < together; ++piece) {
        const int64_t place = feature + piece * step;
        const bool inside = valid && place < features;
        stored_query[piece] = load_stored(arguments.query, type, row * arguments.query.strides[0] + place, inside);
        stored_key[piece] = load_stored(arguments.key, type, row * arguments.key.strides[0] + place, inside);
      }
    }
  };
  const auto get = [&](int piece, int64_t place, T(&query)[8], T(&key)[8]) {
    if constexpr (aligned) {
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
    for (int piece = 0; piece < together; ++piece) {
      T query[8], key[8];
      get(piece, ahead + piece * step, query, key);
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        largest_query = fmaxf(largest_query, fabsf(static_cast<float>(query[i])));
        largest_key = fmaxf(largest_key, fabsf(static_cast<float>(key[i])));
      }
    }
    ahead += together * step;
  } while (ahead < features);
  // What is half precision and needs no second number keeps its scale: it has no room for another.
  const bool is_scaled = parts != 1 || type != NumberType::kHalf;
  const float query_magnitude = magnitude_of(row_maximum<threads>(largest_query));
  const float key_magnitude = magnitude_of(row_maximum<threads>(largest_key));
  const T query_scale = inverse_of_magnitude(query_magnitude);
  const T key_scale = inverse_of_magnitude(key_magnitude);

  T positive = 0, query_square = 0, key_square = 0;
#pragma unroll 1
  for (int64_t feature = first; feature < width || feature < features; feature += together * step) {
    if (!stays) load(feature);
#pragma unroll
    for (int piece = 0; piece < together; ++piece) {
      T query[8], key[8], kept[8];
      get(piece, feature + piece * step, query, key);
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        const T scaled_query = query[i] * query_scale;
        const T scaled_key = key[i] * key_scale;
        positive = fma(scaled_query, scaled_key, positive);
        query_square = fma(scaled_query, scaled_query, query_square);
        key_square = fma(scaled_key, scaled_key, key_square);
        kept[i] = is_scaled ? scaled_query : query[i];
      }
      keep(feature + piece * step, kept);
    }
  }
  positive = row_sum<threads>(positive);
  const T length = sqrt(row_sum<threads>(query_square) * row_sum<threads>(key_square));
  const T unit = key_magnitude * (is_scaled ? T(1) : T(query_magnitude));
  const T magnitude = is_scaled ? query_magnitude : 1.0f;
  // Within the range of T, so that nothing times it is not a number.
  constexpr double smallest = sizeof(T) == sizeof(double) ? 1e-300 : 1e-37;
  const double factor = arguments.scale * 1.44269504088896340736 * static_cast<double>(magnitude);
  constexpr T least_tolerance = sizeof(T) == sizeof(double) ? T(1e-300) : T(0x1p-126);
  const T tolerance = score_error<T, Tile, parts>(arguments) * length * unit;
  // No score of a row past the batch is looked at again.
  return {valid ? positive * unit : T(kInfinity), tolerance > least_tolerance ? tolerance : least_tolerance,
          static_cast<T>(factor < smallest       ? smallest
                         : factor > 1 / smallest ? 1 / smallest
                                                 : factor),
          magnitude};
}

/// Prepares the block's queries from `first_row` on: keep(row, feature, values) as above, and keep_thresholds(row,
/// thresholds), the row counted within the block. `Element` is the type of the queries where `parts` is 1.
template <typename T, typename Element, int parts, typename Tile, typename Keep, typename KeepThresholds>
TUBELETX_DEVICE void prepare_queries(const QueueInfoNCEArguments& arguments, int64_t first_row, const Keep& keep,
                                     const KeepThresholds& keep_thresholds) {
  constexpr int threads = Tile::threads_of_row;
  static_assert(Tile::rows * threads % device::kWarp == 0, "a warp prepares together or not at all");
  constexpr NumberType element = std::is_same_v<Element, Half> ? NumberType::kHalf : NumberType::kBFloat16;
  const NumberType type = parts == 1 ? element : arguments.query.type;
#pragma unroll 1
  for (int place = device::thread(); place < Tile::rows * threads; place += Tile::threads) {
    const int row = place / threads;
    const auto keep_of_row = [&](int64_t feature, const T(&values)[8]) { keep(row, feature, values); };
    RowThresholds<T> thresholds;
    if constexpr (sizeof(T) == sizeof(float)) {
      thresholds = arguments.query_is_aligned
                       ? prepare_query<true, Tile, parts, T>(arguments, type, first_row + row, keep_of_row)
                       : prepare_query<false, Tile, parts, T>(arguments, type, first_row + row, keep_of_row);
    } else {
      thresholds = prepare_query<false, Tile, parts, T>(arguments, type, first_row + row, keep_of_row);
    }
    if (place % threads == 0) keep_thresholds(row, thresholds);
  }
}

/// Writes eight numbers as the sum of `parts` 16-bit numbers each; the parts lie `part_stride` elements apart.
template <typename Element, int parts>
TUBELETX_DEVICE void write_parts(Element* target, int part_stride, const float (&values)[8]) {
  float rest[8];
#pragma unroll
  for (int i = 0; i < 8; ++i) rest[i] = values[i];
#pragma unroll
  for (int part = 0; part < parts; ++part) {
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
