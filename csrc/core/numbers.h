// Arrays of floating-point numbers whose type is known at run time only, for code that is not hot.
#pragma once

#include <cstdint>

#include "core/blend.h"
#include "core/macros.h"

namespace tubeletx {

enum class NumberType : int32_t { kHalf, kBFloat16, kFloat, kDouble };

/// A strided array; strides count elements.
struct Numbers {
  void* data;
  NumberType type;
  int64_t strides[3];
};

/// The number at `offset` elements from the start. Exact: double holds every value of every type.
TUBELETX_INLINE double load_number(const Numbers& numbers, int64_t offset) {
  switch (numbers.type) {
    case NumberType::kHalf:
      return to_real(static_cast<const Half*>(numbers.data)[offset]);
    case NumberType::kBFloat16:
      return to_real(static_cast<const BFloat16*>(numbers.data)[offset]);
    case NumberType::kFloat:
      return static_cast<const float*>(numbers.data)[offset];
    default:
      return static_cast<const double*>(numbers.data)[offset];
  }
}

/// Rounds to float on the way to the half-precision types, as torch does.
TUBELETX_INLINE void store_number(const Numbers& numbers, int64_t offset, double value) {
  switch (numbers.type) {
    case NumberType::kHalf:
      static_cast<Half*>(numbers.data)[offset] = from_real<Half>(static_cast<float>(value));
      break;
    case NumberType::kBFloat16:
      static_cast<BFloat16*>(numbers.data)[offset] = from_real<BFloat16>(static_cast<float>(value));
      break;
    case NumberType::kFloat:
      static_cast<float*>(numbers.data)[offset] = static_cast<float>(value);
      break;
    default:
      static_cast<double*>(numbers.data)[offset] = value;
  }
}

}  // namespace tubeletx
