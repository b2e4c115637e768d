// A torch tensor as the kernels see it.
#pragma once

#include "core/numbers.h"
#include "ops/check.h"

namespace tubeletx::cuda {

/// The tensor must be of a floating-point type and have at most three axes.
inline Numbers numbers_of(const Tensor& tensor) {
  Numbers numbers{};
  numbers.data = tensor.data_ptr();
  for (int64_t axis = 0; axis < tensor.dim(); ++axis) numbers.strides[axis] = tensor.stride(axis);
  switch (tensor.scalar_type()) {
    case ScalarType::Half:
      numbers.type = NumberType::kHalf;
      break;
    case ScalarType::BFloat16:
      numbers.type = NumberType::kBFloat16;
      break;
    case ScalarType::Float:
      numbers.type = NumberType::kFloat;
      break;
    default:
      numbers.type = NumberType::kDouble;
  }
  return numbers;
}

}  // namespace tubeletx::cuda
