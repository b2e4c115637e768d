// Vector code in intrinsics, for several instruction sets under the same names: a loop that is written once on these
// names is included in the namespace of each (in_each_instruction_set.h). On x86-64 these are avx512 and avx2, and the
// processor at hand decides at run time which is called. Every function carries its instruction set as an attribute, so
// that no other code of a file is compiled for it: the library loads on a processor that has neither. There are no
// static tables for the same reason. On 64-bit ARM there is neon, which every such processor has.
//
// A vector holds kLanes 32-bit lanes. "In quads" means within each four of them, which is as far as most shuffles
// reach.
#pragma once

#include <cstdint>
#include <cstring>

namespace tubeletx::cpu {

/// Plain code; AVX2 or NEON; AVX-512.
enum class Instructions : int32_t { kBaseline = 0, kNarrow = 1, kWide = 2 };

/// The best instruction set that this processor has, and that the operator limit_instructions lets pass.
Instructions instructions();

}  // namespace tubeletx::cpu

// TUBELETX_PLAIN_CODE leaves it out, as on a processor of another kind (tests/building/torch_headers.py).
#if defined(__x86_64__) && defined(__GNUC__) && !defined(TUBELETX_PLAIN_CODE)
#define TUBELETX_VECTOR_CODE 1
#define TUBELETX_AVX2 __attribute__((target("avx2,bmi2")))
#define TUBELETX_AVX512 \
  __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi,avx2,bmi2,prfchw")))
#pragma GCC diagnostic push
// The intrinsics of GCC 11 and 12 hand on vectors that they leave open on purpose.
#pragma GCC diagnostic ignored "-Wuninitialized"
#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
#pragma GCC diagnostic pop
#elif defined(__AARCH64EL__) && defined(__GNUC__) && !defined(TUBELETX_PLAIN_CODE)
#define TUBELETX_VECTOR_CODE 1
#define TUBELETX_NEON
#include <arm_neon.h>
#endif

#ifdef TUBELETX_VECTOR_CODE
#define TUBELETX_VECTOR_INLINE inline __attribute__((always_inline))

namespace tubeletx::cpu {

/// How the three channels of a row of pixels lie: side by side, in planes of adjacent pixels, or any other way.
enum class Layout { kPacked, kPlanar, kStrided };

/// A permutation of bytes, for vectors of kBytes.
template <int kBytes>
struct ByteOrder {
  alignas(kBytes) uint8_t from[kBytes];
};

/// Where in a quad of four lanes, one a channel, the bytes of its four pixels stand.
inline constexpr int kPlaceInLane[4] = {0, 2, 1, 3};

// Tables are made by the compiler, so that nothing runs when the library is loaded.

/// From quads to rows of pixels, over the whole vector.
template <int kBytes>
constexpr ByteOrder<kBytes> order_of_rows(bool planar) {
  ByteOrder<kBytes> order{};
  const int pixels = kBytes / 4;
  for (int pixel = 0; pixel < pixels; ++pixel) {
    for (int channel = 0; channel < 3; ++channel) {
      const int to = planar ? channel * pixels + pixel : 3 * pixel + channel;
      order.from[to] = static_cast<uint8_t>(16 * (pixel / 4) + 4 * channel + kPlaceInLane[pixel % 4]);
    }
  }
  return order;
}

/// From rows of pixels to 16-bit halves, a quad's pixels 2 i and 2 i + 1, each byte twice: times 257.
template <int kBytes>
constexpr ByteOrder<kBytes> order_of_halves(bool planar, int pair) {
  ByteOrder<kBytes> order{};
  const int pixels = kBytes / 4;
  for (int byte = 0; byte < kBytes; ++byte) {
    const int pixel = byte / 16 * 4 + 2 * pair + byte % 4 / 2;
    const int channel = byte / 4 % 4 % 3;  // the fourth means nothing
    order.from[byte] = static_cast<uint8_t>(planar ? channel * pixels + pixel : 3 * pixel + channel);
  }
  return order;
}

/// At most kMost bytes, fewer than 32.
template <int kMost>
TUBELETX_VECTOR_INLINE void copy_few(uint8_t* to, const uint8_t* from, int32_t count) {
  int32_t done = 0;
  if (kMost >= 16 && (count & 16)) memcpy(to, from, 16), done += 16;
  if (kMost >= 8 && (count & 8)) memcpy(to + done, from + done, 8), done += 8;
  if (count & 4) memcpy(to + done, from + done, 4), done += 4;
  if (count & 2) memcpy(to + done, from + done, 2), done += 2;
  if (count & 1) to[done] = from[done];
}

}  // namespace tubeletx::cpu

#ifdef TUBELETX_NEON
#include "cpu/vector_neon.h"
namespace tubeletx::cpu {
namespace narrow = neon;
namespace wide = neon;  // so that what chooses needs no other code; it never is
}  // namespace tubeletx::cpu
#else
#include "cpu/vector_avx2.h"
#include "cpu/vector_avx512.h"
namespace tubeletx::cpu {
namespace narrow = avx2;
namespace wide = avx512;
}  // namespace tubeletx::cpu
#endif

#endif
