// What the suites compare with: long double, whose 64-bit mantissa stands for the exact value.
#pragma once

#include <cmath>
#include <limits>
#include <random>

inline constexpr long double kPi = 3.141592653589793238462643383279502884L;

/// Distance between `got` and `wanted` in units in the last place of T at `wanted`.
template <typename T>
long double units_off(T got, long double wanted) {
  int exponent;
  std::frexp(wanted, &exponent);
  const int lowest = std::numeric_limits<T>::min_exponent;
  const long double unit = std::ldexp(1.0L, std::max(exponent, lowest) - std::numeric_limits<T>::digits);
  return std::fabs(static_cast<long double>(got) - wanted) / unit;
}

/// Draws of one suite; the seed is fixed, so that a failure repeats.
class Draws {
 public:
  double between(double low, double high) { return std::uniform_real_distribution<double>(low, high)(engine_); }
  int integer(int low, int high) { return std::uniform_int_distribution<int>(low, high)(engine_); }

 private:
  std::mt19937_64 engine_{1};
};
