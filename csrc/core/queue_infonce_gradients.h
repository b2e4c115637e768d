// Gradients of queue InfoNCE, from what the pass over the queue left.
#pragma once

#include <cmath>
#include <cstdint>

#include "core/blend.h"
#include "core/macros.h"

namespace tubeletx {

/// A strided matrix; strides count elements.
template <typename Element>
struct Matrix {
  const Element* data;
  int64_t strides[2];

  TUBELETX_INLINE Element at(int64_t row, int64_t column) const { return data[row * strides[0] + column * strides[1]]; }
};

/// Everything that the backward reads and writes.
template <typename Element>
struct QueueInfoNCEGradients {
  using T = Real<Element>;

  int64_t batch;            // B
  int64_t features;         // D
  T scale;                  // 1 / temperature
  Matrix<T> gradient;       // (B, 1), of the loss
  Matrix<T> loss;           // (B, 1)
  Matrix<T> negative_mean;  // (B, D)
  Matrix<Element> query;    // (B, D)
  Matrix<Element> key;      // (B, D)
  Element* query_gradient;  // (B, D) dense, or null
  Element* key_gradient;    // (B, D) dense, or null

  /// What the gradients of a row share.
  struct Row {
    T scale;
    T positive;  // the positive's share of the softmax, less one
  };

  TUBELETX_INLINE Row row(int64_t index) const {
    using std::expm1;
    // The positive's share is exp(-loss).
    return {gradient.at(index, 0) * scale, expm1(-loss.at(index, 0))};
  }

  TUBELETX_INLINE void write_query_gradient(const Row& row, int64_t index, int64_t feature) const {
    const T mean = negative_mean.at(index, feature) + row.positive * to_real(key.at(index, feature));
    query_gradient[index * features + feature] = from_real<Element>(row.scale * mean);
  }
  TUBELETX_INLINE void write_key_gradient(const Row& row, int64_t index, int64_t feature) const {
    const T value = row.scale * row.positive * to_real(query.at(index, feature));
    key_gradient[index * features + feature] = from_real<Element>(value);
  }
};

}  // namespace tubeletx
