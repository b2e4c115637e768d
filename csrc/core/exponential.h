// The exponential as a polynomial: plain multiplications and additions, so that it vectorises and so that every
// instruction set, and the GPU, gives the same bits.
#pragma once

#include <cstdint>
#include <cstring>

#include "core/macros.h"

namespace tubeletx {

template <typename T>
struct ExponentialConstants;

template <>
struct ExponentialConstants<float> {
  using Bits = uint32_t;
  static constexpr int degree = 7;
  static constexpr int mantissa_bits = 23;
  static constexpr int exponent_bias = 127;
  /// 1.5 * 2^23: adding it rounds to an integer, which then stands in the low bits of the sum.
  static constexpr float rounder = 12582912.0f;
  /// ln 2 in two parts; the high part times an exponent is exact.
  static constexpr float ln2_high = 0.693359375f;
  static constexpr float ln2_low = -2.12194440054690583e-4f;
  static constexpr float lowest = -87.0f;
};

template <>
struct ExponentialConstants<double> {
  using Bits = uint64_t;
  static constexpr int degree = 13;
  static constexpr int mantissa_bits = 52;
  static constexpr int exponent_bias = 1023;
  static constexpr double rounder = 6755399441055744.0;
  static constexpr double ln2_high = 6.93147180369123816490e-01;
  static constexpr double ln2_low = 1.90821492927058770002e-10;
  static constexpr double lowest = -708.0;
};

/// sum of rest^k / (k + index)! over k = 0 ... degree - index, by Horner's rule.
template <typename T, int index>
TUBELETX_HOST_DEVICE inline T exponential_series(T rest) {
  constexpr auto factorial = [] {
    double product = 1;
    for (int i = 2; i <= index; ++i) product *= i;
    return product;
  };
  constexpr T coefficient = static_cast<T>(1 / factorial());
  if constexpr (index < ExponentialConstants<T>::degree) {
    return exponential_series<T, index + 1>(rest) * rest + coefficient;
  } else {
    return coefficient;
  }
}

/// e^x for x <= 88 (float) or 709 (double), to about one unit in the last place and without branches. Below -87 or -708
/// it is 0, so never a subnormal number. NaN gives NaN.
template <typename T>
TUBELETX_HOST_DEVICE inline T exponential(T x) {
  using Constants = ExponentialConstants<T>;
  using Bits = typename Constants::Bits;
  const T inside = x < Constants::lowest ? Constants::lowest : x;

  // x = exponent ln 2 + rest with |rest| <= ln 2 / 2
  const T rounded = inside * T(1.44269504088896340736) + Constants::rounder;
  const T exponent = rounded - Constants::rounder;
  const T rest = (inside - exponent * Constants::ln2_high) - exponent * Constants::ln2_low;

  Bits bits;
  std::memcpy(&bits, &rounded, sizeof bits);
  bits = (bits + static_cast<Bits>(Constants::exponent_bias)) << Constants::mantissa_bits;
  T power;
  std::memcpy(&power, &bits, sizeof power);
  return x < Constants::lowest ? T(0) : exponential_series<T, 0>(rest) * power;
}

}  // namespace tubeletx
