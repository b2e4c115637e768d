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
  static constexpr int kDegree = 7;
  static constexpr int kMantissaBits = 23;
  static constexpr int kExponentBias = 127;
  /// 1.5 * 2^23: adding it rounds to an integer, which then stands in the low bits of the sum.
  static constexpr float kRounder = 12582912.0f;
  /// ln 2 in two parts; the high part times an exponent is exact.
  static constexpr float kLn2High = 0.693359375f;
  static constexpr float kLn2Low = -2.12194440054690583e-4f;
  static constexpr float kLowest = -87.0f;
};

template <>
struct ExponentialConstants<double> {
  using Bits = uint64_t;
  static constexpr int kDegree = 13;
  static constexpr int kMantissaBits = 52;
  static constexpr int kExponentBias = 1023;
  static constexpr double kRounder = 6755399441055744.0;
  static constexpr double kLn2High = 6.93147180369123816490e-01;
  static constexpr double kLn2Low = 1.90821492927058770002e-10;
  static constexpr double kLowest = -708.0;
};

/// sum of rest^k / (k + index)! over k = 0 ... degree - index, by Horner's rule.
template <typename T, int kIndex>
TUBELETX_HOST_DEVICE inline T exponential_series(T rest) {
  constexpr auto factorial = [] {
    double product = 1;
    for (int i = 2; i <= kIndex; ++i) product *= i;
    return product;
  };
  constexpr T kCoefficient = static_cast<T>(1 / factorial());
  if constexpr (kIndex < ExponentialConstants<T>::kDegree) {
    return exponential_series<T, kIndex + 1>(rest) * rest + kCoefficient;
  } else {
    return kCoefficient;
  }
}

/// e^x for x <= 88 (float) or 709 (double), to about one unit in the last place and without branches. Below -87 or -708
/// it is 0, so never a subnormal number. NaN gives NaN.
template <typename T>
TUBELETX_HOST_DEVICE inline T exponential(T x) {
  using Constants = ExponentialConstants<T>;
  using Bits = typename Constants::Bits;
  const T inside = x < Constants::kLowest ? Constants::kLowest : x;

  // x = exponent ln 2 + rest with |rest| <= ln 2 / 2
  const T rounded = inside * T(1.44269504088896340736) + Constants::kRounder;
  const T exponent = rounded - Constants::kRounder;
  const T rest = (inside - exponent * Constants::kLn2High) - exponent * Constants::kLn2Low;

  Bits bits;
  std::memcpy(&bits, &rounded, sizeof bits);
  bits = (bits + static_cast<Bits>(Constants::kExponentBias)) << Constants::kMantissaBits;
  T power;
  std::memcpy(&power, &bits, sizeof power);
  return x < Constants::kLowest ? T(0) : exponential_series<T, 0>(rest) * power;
}

}  // namespace tubeletx
