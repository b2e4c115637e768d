// What a translated kernel calls. Memory, barriers, exchange within a warp and the matrix units are in device.cpp, on
// the fibres of the emulation; plain arithmetic is here.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <limits>
#include <string>
#include <type_traits>

namespace tubeletx::ptx {

/// A translated kernel: the code, bytes of its parameter, the most threads of a block, bytes of fixed shared memory.
struct Kernel {
  const char* symbol;
  void (*run)(const char* parameters);
  size_t parameter_bytes;
  int most_threads;
  uint64_t fixed_shared_bytes;
};

/// Makes the kernels of a file known.
struct Registration {
  explicit Registration(std::initializer_list<Kernel> kernels);
};

/// Ends everything: what happened cannot be gone on from.
[[noreturn]] void fail(const char* what);

// Who runs.
uint32_t thread();
uint32_t threads();
uint32_t lane();
uint32_t block_x();
uint32_t block_y();
uint32_t grid_x();
uint32_t grid_y();

// Memory. A shared address counts from an arbitrary base, so that it can be told from a generic one. Loads return where
// the bytes lie on the host, once their alignment, bounds and order have been checked.
uint64_t static_shared(uint64_t offset);
uint64_t dynamic_shared();
uint64_t generic_of_shared(uint64_t address);
uint64_t shared_of_generic(uint64_t address);
const void* load_shared(uint64_t address, int bytes);
void store_shared(uint64_t address, const void* values, int bytes);
const void* load_global(uint64_t address, int bytes);
void store_global(uint64_t address, const void* values, int bytes);
const void* load_generic(uint64_t address, int bytes);
void store_generic(uint64_t address, const void* values, int bytes);
const void* load_param(uint64_t address, int bytes);
void* atomic_shared(uint64_t address, int bytes);
void* atomic_global(uint64_t address, int bytes);
void* atomic_generic(uint64_t address, int bytes);
void fence();

// The block and the warp.
void synchronize_block();
void synchronize_warp();
void needs_all_lanes(uint32_t mask);
uint32_t shuffle_bfly(uint32_t value, uint32_t mask, uint32_t range);
uint32_t shuffle_idx(uint32_t value, uint32_t lane, uint32_t range);
uint32_t ballot(bool predicate);
void copy_later(uint64_t shared, uint64_t global, int bytes, uint32_t given);
void commit_copies();
void wait_for_copies(int pending);
template <bool kTransposed>
void load_matrices(uint32_t (&matrices)[4], uint64_t row);
void multiply_accumulate_f16(float (&sums)[4], const uint32_t (&left)[4], uint32_t right_0, uint32_t right_1);
void multiply_accumulate_bf16(float (&sums)[4], const uint32_t (&left)[4], uint32_t right_0, uint32_t right_1);

// Half precision.
uint32_t pack_f16x2(float high, float low);
uint32_t pack_bf16x2(float high, float low);
float from_f16(uint16_t bits);
float from_bf16(uint16_t bits);
uint16_t to_f16(float value);
uint16_t to_bf16(float value);

template <typename To, typename From>
inline To bits_as(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}

/// Conversion to an integer as the GPU does it: NaN becomes 0, the rest is clamped.
template <typename Integer, typename Real>
inline Integer saturated(Real value) {
  using Limits = std::numeric_limits<Integer>;
  if (std::isnan(value)) return 0;
  if (value <= static_cast<Real>(Limits::min())) return Limits::min();
  if (value >= static_cast<Real>(Limits::max())) return Limits::max();
  return static_cast<Integer>(value);
}

template <typename Number>
inline Number divided(Number left, Number right) {
  if constexpr (std::is_integral_v<Number>) {
    if (right == 0) fail("an integer is divided by zero");
  }
  return left / right;
}
template <typename Integer>
inline Integer remainder_of(Integer left, Integer right) {
  if (right == 0) fail("an integer is divided by zero");
  return left % right;
}

/// A number rather than NaN, and -0 below +0.
template <typename Number>
inline Number smaller(Number left, Number right) {
  if constexpr (std::is_floating_point_v<Number>) {
    if (std::isnan(left)) return right;
    if (std::isnan(right)) return left;
    if (left == right) return std::signbit(left) ? left : right;
  }
  return left < right ? left : right;
}
template <typename Number>
inline Number larger(Number left, Number right) {
  if constexpr (std::is_floating_point_v<Number>) return -smaller(-left, -right);
  return left > right ? left : right;
}
template <typename Real>
inline Real smaller_or_nan(Real left, Real right) {
  return std::isunordered(left, right) ? std::numeric_limits<Real>::quiet_NaN() : smaller(left, right);
}
/// The nearest value between 0 and 1; 0 for what is no number.
inline float within_one(float value) { return value > 0 ? (value < 1 ? value : 1.0f) : 0.0f; }
template <typename Real>
inline Real larger_or_nan(Real left, Real right) {
  return std::isunordered(left, right) ? std::numeric_limits<Real>::quiet_NaN() : larger(left, right);
}

/// ex2.approx.ftz
inline float power_of_two(float x) { return x < -126.0f ? 0.0f : std::exp2(x); }

template <typename Integer>
inline Integer high_product(Integer left, Integer right) {
  if constexpr (sizeof(Integer) == 8) {
    using Wide = std::conditional_t<std::is_signed_v<Integer>, __int128, unsigned __int128>;
    return static_cast<Integer>((static_cast<Wide>(left) * right) >> 64);
  } else {
    using Wide = std::conditional_t<std::is_signed_v<Integer>, int64_t, uint64_t>;
    return static_cast<Integer>((static_cast<Wide>(left) * right) >> (8 * sizeof(Integer)));
  }
}

template <typename Integer>
inline Integer shifted_left(Integer value, uint32_t count) {
  return count >= 8 * sizeof(Integer) ? 0 : static_cast<Integer>(value << count);
}
template <typename Integer>
inline Integer shifted_right(Integer value, uint32_t count) {
  constexpr uint32_t kBits = 8 * sizeof(Integer);
  if (count >= kBits) return std::is_signed_v<Integer> && value < 0 ? static_cast<Integer>(-1) : 0;
  return static_cast<Integer>(value >> count);
}
inline uint32_t funnel_l_wrap(uint32_t low, uint32_t high, uint32_t count) {
  return static_cast<uint32_t>(((static_cast<uint64_t>(high) << 32 | low) << (count % 32)) >> 32);
}
inline uint32_t funnel_r_wrap(uint32_t low, uint32_t high, uint32_t count) {
  return static_cast<uint32_t>((static_cast<uint64_t>(high) << 32 | low) >> (count % 32));
}
inline uint32_t funnel_l_clamp(uint32_t low, uint32_t high, uint32_t count) {
  return count >= 32 ? low : funnel_l_wrap(low, high, count);
}
inline uint32_t funnel_r_clamp(uint32_t low, uint32_t high, uint32_t count) {
  return count >= 32 ? high : funnel_r_wrap(low, high, count);
}

inline uint32_t logic_of_three(uint32_t a, uint32_t b, uint32_t c, uint32_t table) {
  uint32_t result = 0;
  for (uint32_t row = 0; row < 8; ++row) {
    if (table >> row & 1) result |= (row & 4 ? a : ~a) & (row & 2 ? b : ~b) & (row & 1 ? c : ~c);
  }
  return result;
}
/// Bytes of the eight of `low` and `high`, each by a nibble of the selector; its top bit spreads the byte's sign.
inline uint32_t permuted_bytes(uint32_t low, uint32_t high, uint32_t selector) {
  const uint64_t both = static_cast<uint64_t>(high) << 32 | low;
  uint32_t result = 0;
  for (uint32_t place = 0; place < 4; ++place) {
    const uint32_t chosen = selector >> (4 * place);
    uint32_t byte = both >> (8 * (chosen & 7)) & 0xff;
    if (chosen & 8) byte = byte & 0x80 ? 0xff : 0;
    result |= byte << (8 * place);
  }
  return result;
}
template <typename Left, typename Right>
inline uint32_t sum_of_products(uint32_t left, uint32_t right, uint32_t sum) {
  for (int place = 0; place < 32; place += 8) {
    sum += static_cast<uint32_t>(static_cast<Left>(left >> place) * static_cast<Right>(right >> place));
  }
  return sum;
}
/// Of the two halves of a word with two bytes of another, from byte `kFirst` on.
template <typename Left, typename Right, int kFirst>
uint32_t sum_of_two_products(uint32_t left, uint32_t right, uint32_t sum) {
  for (int i = 0; i < 2; ++i) {
    sum += static_cast<uint32_t>(static_cast<Left>(left >> (16 * i)) * static_cast<Right>(right >> (8 * (kFirst + i))));
  }
  return sum;
}
inline uint32_t low_bits(uint32_t count) { return count >= 32 ? ~0u : (1u << count) - 1; }
template <typename Word>
Word bits_inserted(Word inserted, Word base, uint32_t place, uint32_t count) {
  constexpr uint32_t kBits = 8 * sizeof(Word);
  if (place >= kBits) return base;
  const Word mask = (count >= kBits ? ~Word{0} : (Word{1} << count) - 1) << place;
  return (base & ~mask) | (inserted << place & mask);
}
inline uint32_t bits_extracted(uint32_t value, uint32_t place, uint32_t count) {
  return place >= 32 ? 0 : value >> place & low_bits(count);
}
inline uint32_t reversed_bits(uint32_t value) {
  uint32_t result = 0;
  for (int place = 0; place < 32; ++place) result |= (value >> place & 1) << (31 - place);
  return result;
}
inline uint32_t zeros_before(uint32_t value) { return value == 0 ? 32 : static_cast<uint32_t>(__builtin_clz(value)); }
inline uint32_t zeros_before(uint64_t value) { return value == 0 ? 64 : static_cast<uint32_t>(__builtin_clzll(value)); }
/// How far the highest one is from the top; all ones where there is none.
inline uint32_t leading_zeros(uint32_t value) { return value == 0 ? ~0u : zeros_before(value); }

template <typename Number>
inline Number atomic_add(Number* place, Number value) {
  const Number before = *place;
  *place = static_cast<Number>(before + value);
  return before;
}
template <typename Number>
inline Number atomic_min(Number* place, Number value) {
  const Number before = *place;
  *place = smaller(before, value);
  return before;
}
template <typename Number>
inline Number atomic_max(Number* place, Number value) {
  const Number before = *place;
  *place = larger(before, value);
  return before;
}
template <typename Number>
inline Number atomic_exch(Number* place, Number value) {
  const Number before = *place;
  *place = value;
  return before;
}
template <typename Number>
inline Number atomic_cas(Number* place, Number expected, Number value) {
  const Number before = *place;
  if (before == expected) *place = value;
  return before;
}
template <typename Number>
inline Number atomic_inc(Number* place, Number last) {
  const Number before = *place;
  *place = before >= last ? 0 : before + 1;
  return before;
}

}  // namespace tubeletx::ptx
