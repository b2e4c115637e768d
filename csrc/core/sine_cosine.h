// Sine and cosine with the same bits on every host and device: plain double arithmetic in a fixed order, where the
// libraries' versions differ in the last bit between C libraries, instruction sets and CUDA.
#pragma once

#include <cmath>

#include "core/macros.h"

namespace tubeletx {

struct SineCosine {
  float sine;
  float cosine;
};

/// Sine and cosine of an angle in degrees, within 0.501 units in the last place of float32; exact at multiples of 90.
TUBELETX_HOST_DEVICE inline SineCosine sine_cosine_degrees(float degrees) {
  const double angle = degrees;
  const double quarters = std::floor(angle * (1.0 / 90.0) + 0.5);
  const double r = (angle - 90.0 * quarters) * 0.017453292519943295;  // exact up to the product; |r| <= pi / 4
  const double s = r * r;
  // Taylor series: the first terms left out are below 1e-11.
  const double sine =
      r * (1.0 + s * (-1.0 / 6 + s * (1.0 / 120 + s * (-1.0 / 5040 + s * (1.0 / 362880 + s * (-1.0 / 39916800))))));
  const double cosine =
      1.0 + s * (-1.0 / 2 +
                 s * (1.0 / 24 + s * (-1.0 / 720 + s * (1.0 / 40320 + s * (-1.0 / 3628800 + s * (1.0 / 479001600))))));
  const int quadrant = static_cast<int>(quarters - 4.0 * std::floor(quarters * 0.25));
  const double first = quadrant & 1 ? cosine : sine;
  const double second = quadrant & 1 ? sine : cosine;
  return {static_cast<float>(quadrant & 2 ? -first : first),
          static_cast<float>(quadrant == 1 || quadrant == 2 ? -second : second)};
}

}  // namespace tubeletx
