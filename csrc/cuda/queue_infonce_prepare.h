// First kernel of queue InfoNCE: what the others need to know of each query. A warp a row.
#pragma once

#include "cuda/queue_infonce_parts.h"

namespace tubeletx::cuda {

/// Rows that a block prepares.
constexpr int kPrepareRows = 4;

/// The power of two at or below the largest magnitude of a row, 1 where that has none. Divided by it, a row of any
/// size keeps its precision in float16, whose range is narrow.
TUBELETX_DEVICE float magnitude_of(const QueueInfoNCEArguments& arguments, int64_t row) {
  const Numbers& query = arguments.query;
  float largest = 0;
  for (int64_t i = device::thread() % device::kWarp; i < arguments.features; i += device::kWarp) {
    const float value = fabsf(static_cast<float>(load_number(query, row * query.strides[0] + i * query.strides[1])));
    largest = value > largest ? value : largest;
  }
  constexpr float smallest = 0x1p-100f;
  constexpr float greatest = 0x1p100f;
  largest = device::warp_maximum(largest);
  if (!(largest >= smallest && largest <= greatest)) return 1;
  return bit_cast<float>(bit_cast<uint32_t>(largest) & 0x7f800000u);
}

/// Writes a row of the query in 16-bit numbers, followed by zeros up to the width of the kernel's block.
template <typename Element>
TUBELETX_DEVICE void split_query(const QueueInfoNCEArguments& arguments, int64_t row, float magnitude) {
  const Numbers& query = arguments.query;
  const int64_t width = arguments.plan.width;
  for (int64_t i = device::thread() % device::kWarp; i < width; i += device::kWarp) {
    float rest = 0;
    if (i < arguments.features) {
      rest = static_cast<float>(load_number(query, row * query.strides[0] + i * query.strides[1])) / magnitude;
    }
    for (int64_t part = 0; part < arguments.plan.parts; ++part) {
      const Element element = from_real<Element>(rest);
      static_cast<Element*>(arguments.query_parts)[(part * arguments.batch + row) * width + i] = element;
      rest -= to_real(element);
    }
  }
}

/// Largest error of a computed score, relative to the lengths of the two vectors.
template <typename T>
TUBELETX_DEVICE double score_error(const QueueInfoNCEArguments& arguments) {
  const double features = static_cast<double>(arguments.features);
  if (sizeof(T) == sizeof(double)) return features * 0x1p-53;
  if (arguments.plan.parts == 0) return features * 0x1p-24;
  // The matrix units cut sums off instead of rounding them; what two bfloat16 leave of a float32 is 2^-18 of it.
  const double rest = arguments.plan.parts == 2 && arguments.queue.type == NumberType::kBFloat16 ? 0x1p-18 : 0;
  return features * 0x1p-22 + rest;
}

template <typename T>
TUBELETX_KERNEL(kPrepareRows* device::kWarp, 1)
queue_infonce_prepare(TUBELETX_KERNEL_ARGUMENT QueueInfoNCEArguments arguments) {
  const int64_t row = device::block_x() * kPrepareRows + device::thread() / device::kWarp;
  const int lane = device::thread() % device::kWarp;
  if (row >= arguments.batch) return;

  const Numbers& query = arguments.query;
  const Numbers& key = arguments.key;
  const int64_t query_row = row * query.strides[0];
  const int64_t key_row = row * key.strides[0];
  const int64_t features = arguments.features;
  const double positive = warp_dot(query, query_row, query.strides[1], key, key_row, key.strides[1], features);
  const double squares = warp_dot(query, query_row, query.strides[1], query, query_row, query.strides[1], features) *
                         warp_dot(key, key_row, key.strides[1], key, key_row, key.strides[1], features);

  // Where the query's own type is that of the queue, it needs no second number and no change of scale.
  const float magnitude = arguments.plan.parts == 2 ? magnitude_of(arguments, row) : 1.0f;
  if (arguments.plan.parts > 0) {
    if (arguments.queue.type == NumberType::kHalf) {
      split_query<Half>(arguments, row, magnitude);
    } else {
      split_query<BFloat16>(arguments, row, magnitude);
    }
  } else {
    for (int64_t i = lane; i < features; i += device::kWarp) {
      static_cast<T*>(arguments.exact_query)[row * features + i] =
          static_cast<T>(load_number(query, query_row + i * query.strides[1]));
    }
  }
  if (lane != 0) return;
  arguments.positive[row] = positive;
  const double tolerance = score_error<T>(arguments) * sqrt(squares);
  static_cast<RowThresholds<T>*>(arguments.thresholds)[row] = {
      static_cast<T>((positive + tolerance) / magnitude), static_cast<T>((positive - tolerance) / magnitude),
      exponent_factor<T>(arguments) * static_cast<T>(magnitude)};
}

}  // namespace tubeletx::cuda
