// Argument checks shared by the CPU and CUDA operators. A failed check throws std::invalid_argument, which arrives in
// Python as a ValueError.
#pragma once

#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <cstdint>
#include <initializer_list>
#include <sstream>
#include <stdexcept>
#include <string>

namespace tubeletx {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

template <typename... Parts>
[[noreturn]] void fail(const Parts&... parts) {
  std::ostringstream message;
  (message << ... << parts);
  throw std::invalid_argument(message.str());
}

/// "(2, 3, 16)"
inline std::string shape_text(const Tensor& tensor) {
  std::ostringstream text;
  text << "(";
  for (int64_t axis = 0; axis < tensor.dim(); ++axis) text << (axis ? ", " : "") << tensor.size(axis);
  if (tensor.dim() == 1) text << ",";
  text << ")";
  return text.str();
}

/// An extent that a check leaves open.
inline constexpr int64_t kAny = -1;

/// The shape of `tensor` must be `expected`; `meaning` spells the axes for the message, as in "(B, C, T, H, W)".
inline void check_shape(const Tensor& tensor, const char* name, std::initializer_list<int64_t> expected,
                        const char* meaning) {
  bool good = tensor.dim() == static_cast<int64_t>(expected.size());
  int64_t axis = 0;
  for (int64_t extent : expected) {
    if (!good) break;
    good = extent == kAny || tensor.size(axis) == extent;
    ++axis;
  }
  if (good) return;
  std::ostringstream needed;
  const char* separator = "";
  for (int64_t extent : expected) {
    needed << separator;
    if (extent == kAny) {
      needed << "*";
    } else {
      needed << extent;
    }
    separator = ", ";
  }
  fail(name, ": got shape ", shape_text(tensor), ", needs ", meaning, " = (", needed.str(), ")");
}

inline void check_dtype(const Tensor& tensor, const char* name, std::initializer_list<ScalarType> allowed) {
  const ScalarType dtype = tensor.scalar_type();
  for (ScalarType candidate : allowed) {
    if (dtype == candidate) return;
  }
  std::ostringstream needed;
  const char* separator = "";
  for (ScalarType candidate : allowed) {
    needed << separator << torch::headeronly::toString(candidate);
    separator = " or ";
  }
  fail(name, ": got dtype ", torch::headeronly::toString(dtype), ", needs ", needed.str());
}

/// `tensor` must live where `reference` does.
inline void check_device(const Tensor& tensor, const char* name, const Tensor& reference, const char* reference_name) {
  if (tensor.device() != reference.device()) {
    fail(name, ": is not on the device of ", reference_name, "; move it there with .to(", reference_name, ".device)");
  }
}

inline void check_positive(int64_t value, const char* name) {
  if (value <= 0) fail(name, ": got ", value, ", needs a positive integer");
}

}  // namespace tubeletx
