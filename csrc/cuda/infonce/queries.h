// What a block does with its queries before it meets the first negative, while that is on its way: brings them into
// the form of its products, and finds what their scores are to be held against. Four threads share a row.
#pragma once

#include "cuda/infonce/parts.h"

namespace tubeletx::cuda {

constexpr int kThreadsOfRow = 4;

/// Eight features of a row from `feature` on, zeros past the last.
template <bool aligned, typename T>
TUBELETX_DEVICE void load_eight(const Numbers& numbers, int64_t row, int64_t feature, int64_t features, bool valid,
                                T (&values)[8]) {
  const int64_t offset = row * numbers.strides[0] + feature * numbers.strides[1];
  if constexpr (aligned) {
    // Without branches, so that the loads of several calls are under way together.
    const bool inside = valid && feature < features;
    const bool is_wide = numbers.type == NumberType::kFloat;
    const bool is_half = numbers.type == NumberType::kHalf;
    const char* source = static_cast<const char*>(numbers.data) + offset * (is_wide ? 4 : 2);
    Four<uint32_t> low{};
    Four<uint32_t> high{};
    if (inside) low = *reinterpret_cast<const Four<uint32_t>*>(source);
    if (inside && is_wide) high = *reinterpret_cast<const Four<uint32_t>*>(source + 16);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const uint16_t bits = static_cast<uint16_t>(low.values[i / 2] >> (16 * (i % 2)));
      const float wide = bit_cast<float>(i < 4 ? low.values[i % 4] : high.values[i % 4]);
      values[i] = is_wide ? wide : is_half ? device::widen(Half{bits}) : to_real(BFloat16{bits});
    }
  } else {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const bool inside = valid && feature + i < features;
      values[i] = inside ? static_cast<T>(load_number(numbers, offset + i * numbers.strides[1])) : T(0);
    }
  }
}

/// Over the threads of a row, with the same bits in each.
template <typename T>
TUBELETX_DEVICE T row_sum(T value) {
#pragma unroll
  for (int mask = 1; mask < kThreadsOfRow; mask *= 2) value += device::shuffle_xor(value, mask);
  return value;
}
template <typename T>
TUBELETX_DEVICE T row_maximum(T value) {
#pragma unroll
  for (int mask = 1; mask < kThreadsOfRow; mask *= 2) {
    const T other = device::shuffle_xor(value, mask);
    value = other > value ? other : value;
  }
  return value;
}

/// The power of two at or below `largest`, within 2^-100 and 2^100. Divided by it, numbers up to `largest` keep their
/// precision in float16, whose range is narrow, and their squares keep it in float32.
TUBELETX_DEVICE float magnitude_of(float largest) {
  constexpr float smallest = 0x1p-100f;
  constexpr float greatest = 0x1p100f;
  if (!(largest > smallest)) return largest > 0 ? smallest : 1.0f;
  if (!(largest < greatest)) return greatest;
  return bit_cast<float>(bit_cast<uint32_t>(largest) & 0x7f800000u);
}

/// Largest error of a score that a kernel computes, and of the positive's score as computed here, relative to the
/// lengths of the two vectors.
template <typename T>
TUBELETX_DEVICE T score_error(const QueueInfoNCEArguments& arguments) {
  const T features = static_cast<T>(arguments.features);
  constexpr T half_unit = sizeof(T) == sizeof(double) ? T(0x1p-53) : T(0x1p-24);  // of a rounding
  // Here, a thread adds up a quarter of the products.
  const T positive = (features + 8) * half_unit / 2;
  if (arguments.plan.parts == 0) return features * half_unit + positive;
  // The matrix units cut sums off instead of rounding them. A sum of 8 products and what came before cuts each of the
  // nine at 2^-24 of the largest, and the result at 2^-23: 5.5 units of 2^-23 for 8 features, here 6. The units that
  // add 16 products at once are more precise than that.
  // What two bfloat16 leave of a float32 is 2^-18 of it.
  const T rest = arguments.plan.parts == 2 && arguments.queue.type == NumberType::kBFloat16 ? T(0x1p-18) : T(0);
  return features * T(0.75 * 0x1p-23) + rest + positive;
}

/// The thresholds of a row, the same in all of its threads. `keep(feature, values)` is given the query eight features
/// at a time up to `width` or the last, over its magnitude where it is written as the sum of two numbers.
template <bool aligned, int width, typename T, typename Keep>
TUBELETX_DEVICE RowThresholds<T> prepare_query(const QueueInfoNCEArguments& arguments, int64_t row, const Keep& keep) {
  const int64_t features = arguments.features;
  const bool valid = row < arguments.batch;
  const int first = device::thread() % kThreadsOfRow * 8;
  constexpr int step = kThreadsOfRow * 8;
  // So many pieces of a row are loaded together, and stay in registers if they are all.
  constexpr int together = aligned ? (width < 128 ? width : 128) / step : 1;
  const bool stays = together * step >= width && features <= width;

  T query[together][8], key[together][8];
  const auto load = [&](int64_t feature) {
#pragma unroll
    for (int piece = 0; piece < together; ++piece) {
      load_eight<aligned>(arguments.query, row, feature + piece * step, features, valid, query[piece]);
      load_eight<aligned>(arguments.key, row, feature + piece * step, features, valid, key[piece]);
    }
  };
  float largest_query = 0;
  float largest_key = 0;
  int64_t ahead = first;
  do {  // at least once: what stays must be there
    load(ahead);
#pragma unroll
    for (int piece = 0; piece < together; ++piece) {
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        largest_query = fmaxf(largest_query, fabsf(static_cast<float>(query[piece][i])));
        largest_key = fmaxf(largest_key, fabsf(static_cast<float>(key[piece][i])));
      }
    }
    ahead += together * step;
  } while (ahead < features);
  const T query_magnitude = magnitude_of(row_maximum(largest_query));
  const T key_magnitude = magnitude_of(row_maximum(largest_key));
  const T query_scale = 1 / query_magnitude;
  const T key_scale = 1 / key_magnitude;
  // Where the query's own type is that of the queue, it needs no second number and no change of scale.
  const bool is_scaled = arguments.plan.parts == 2;

  T positive = 0, query_square = 0, key_square = 0;
#pragma unroll 1
  for (int64_t feature = first; feature < width || feature < features; feature += together * step) {
    if (!stays) load(feature);
#pragma unroll
    for (int piece = 0; piece < together; ++piece) {
      T kept[8];
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        const T scaled_query = query[piece][i] * query_scale;
        const T scaled_key = key[piece][i] * key_scale;
        positive = fma(scaled_query, scaled_key, positive);
        query_square = fma(scaled_query, scaled_query, query_square);
        key_square = fma(scaled_key, scaled_key, key_square);
        kept[i] = is_scaled ? scaled_query : query[piece][i];
      }
      keep(feature + piece * step, kept);
    }
  }
  positive = row_sum(positive);
  const T tolerance = score_error<T>(arguments) * sqrt(row_sum(query_square) * row_sum(key_square));
  const T unit = is_scaled ? T(1) : query_magnitude;
  // No score of a row past the batch is looked at again.
  return {valid ? (positive + tolerance) * key_magnitude * unit : T(kInfinity),
          valid ? (positive - tolerance) * key_magnitude * unit : T(kInfinity),
          exponent_factor<T>(arguments) * (is_scaled ? query_magnitude : T(1))};
}

/// Prepares the block's queries from `first_row` on: keep(row, feature, values) as above, and keep_thresholds(row,
/// thresholds), the row counted within the block.
template <typename T, typename Tile, typename Keep, typename KeepThresholds>
TUBELETX_DEVICE void prepare_queries(const QueueInfoNCEArguments& arguments, int64_t first_row, const Keep& keep,
                                     const KeepThresholds& keep_thresholds) {
  static_assert(Tile::rows * kThreadsOfRow % device::kWarp == 0, "a warp prepares together or not at all");
#pragma unroll 1
  for (int place = device::thread(); place < Tile::rows * kThreadsOfRow; place += Tile::threads) {
    const int row = place / kThreadsOfRow;
    const auto keep_of_row = [&](int64_t feature, const T(&values)[8]) { keep(row, feature, values); };
    const bool aligned = sizeof(T) == sizeof(float) && arguments.query_is_aligned;
    const RowThresholds<T> thresholds =
        aligned ? prepare_query<true, Tile::width, T>(arguments, first_row + row, keep_of_row)
                : prepare_query<false, Tile::width, T>(arguments, first_row + row, keep_of_row);
    if (place % kThreadsOfRow == 0) keep_thresholds(row, thresholds);
  }
}

/// Writes eight numbers as the sum of `parts` 16-bit numbers each; the parts lie `part_stride` elements apart.
template <typename Element>
TUBELETX_DEVICE void write_parts(Element* target, int part_stride, int parts, const float (&values)[8]) {
  float rest[8];
#pragma unroll
  for (int i = 0; i < 8; ++i) rest[i] = values[i];
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
