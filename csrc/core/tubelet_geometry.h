#pragma once

#include <cstdint>

namespace tubeletx {

/// Where M tubelets of B samples lie in T frames, and how they are painted; all dense.
struct TubeletGeometry {
  const float* centers;  ///< (B, M, T, 2)
  const float* linear;   ///< (B, M, T, 2, 2)
  const int32_t* shape;  ///< (B, M)
  const float* edge;     ///< (B, M)
  const float* opacity;  ///< (B, M, T)
  const int32_t* order;  ///< (B, M)
};

}  // namespace tubeletx
