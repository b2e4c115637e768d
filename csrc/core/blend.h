// Pixels: their storage types, how they turn into numbers and back, and how a tubelet covers them.
#pragma once

#include <cstdint>
#include <cstring>

#include "core/macros.h"

namespace tubeletx {

struct Half {
  uint16_t bits;
};

struct BFloat16 {
  uint16_t bits;
};

/// The type that a pixel is computed in.
template <typename Pixel>
struct RealOf {
  using type = float;
};
template <>
struct RealOf<double> {
  using type = double;
};
template <typename Pixel>
using Real = typename RealOf<Pixel>::type;

template <typename To, typename From>
TUBELETX_INLINE To bit_cast(From from) {
  static_assert(sizeof(To) == sizeof(From), "bit_cast needs equal sizes");
  To to;
  memcpy(&to, &from, sizeof(to));
  return to;
}

TUBELETX_INLINE float to_real(float pixel) { return pixel; }
TUBELETX_INLINE double to_real(double pixel) { return pixel; }
TUBELETX_INLINE float to_real(BFloat16 pixel) { return bit_cast<float>(static_cast<uint32_t>(pixel.bits) << 16); }

TUBELETX_INLINE float to_real(Half pixel) {
  const uint32_t sign = static_cast<uint32_t>(pixel.bits & 0x8000u) << 16;
  const uint32_t magnitude = pixel.bits & 0x7fffu;
  // Multiplying by 2^112 moves the exponent bias from 15 to 127 and normalises the subnormals on the way.
  const float finite = bit_cast<float>(magnitude << 13) * bit_cast<float>(0x77800000u);
  const uint32_t special = (magnitude << 13) | 0x7f800000u;
  return bit_cast<float>((magnitude >= 0x7c00u ? special : bit_cast<uint32_t>(finite)) | sign);
}

/// Rounds to nearest, ties to even.
template <typename Pixel>
TUBELETX_INLINE Pixel from_real(Real<Pixel> value);

template <>
TUBELETX_INLINE float from_real<float>(float value) {
  return value;
}
template <>
TUBELETX_INLINE double from_real<double>(double value) {
  return value;
}

template <>
TUBELETX_INLINE BFloat16 from_real<BFloat16>(float value) {
  const uint32_t bits = bit_cast<uint32_t>(value);
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  return BFloat16{static_cast<uint16_t>(value == value ? rounded : 0x7fc0u)};
}

template <>
TUBELETX_INLINE Half from_real<Half>(float value) {
  const uint32_t bits = bit_cast<uint32_t>(value);
  const uint32_t magnitude = bits & 0x7fffffffu;
  const uint32_t normal = (magnitude + 0xc8000fffu + ((magnitude >> 13) & 1u)) >> 13;
  // Adding 1/2 makes the float unit round a value below 2^-14 at the place of half's last subnormal bit.
  const uint32_t subnormal = bit_cast<uint32_t>(bit_cast<float>(magnitude) + 0.5f) - 0x3f000000u;
  const uint32_t overflow = magnitude > 0x7f800000u ? 0x7e00u : 0x7c00u;
  const uint32_t rounded = magnitude >= 0x477ff000u ? overflow : (magnitude < 0x38800000u ? subnormal : normal);
  return Half{static_cast<uint16_t>(rounded | ((bits >> 16) & 0x8000u))};
}

/// What a pixel becomes: `keep` is the share of the background that stays, `light` what the tubelet adds. A tubelet
/// that covers the pixel fully hides even a background that is not finite.
template <typename Real>
TUBELETX_INLINE Real mix(Real background, Real keep, Real light) {
  const Real mixed = background * keep + light;
  return keep == 0 ? light : mixed;
}

template <typename Pixel>
TUBELETX_INLINE Pixel blend(Pixel background, Real<Pixel> keep, Real<Pixel> light) {
  return from_real<Pixel>(mix(to_real(background), keep, light));
}

}  // namespace tubeletx
