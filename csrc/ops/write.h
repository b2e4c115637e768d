// What an operator owes autograd before it writes into an argument.
#pragma once

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "ops/check.h"

namespace tubeletx {

namespace detail {

/// Whether autograd recorded how `tensor` came about; of integers it never does.
inline bool has_history(const Tensor& tensor) {
  if (tensor.scalar_type() == ScalarType::Byte || tensor.scalar_type() == ScalarType::Long) return false;
  std::array<StableIValue, 1> stack{torch::stable::detail::from(tensor)};
  TORCH_ERROR_CODE_CHECK(torch_call_dispatcher("aten::is_leaf", "", stack.data(), TORCH_ABI_VERSION));
  return !torch::stable::detail::to<bool>(stack[0]);
}

}  // namespace detail

/// To be called before `tensor` is written: its version counter goes up, so that a gradient that needs the overwritten
/// values raises, as after torch's own in-place operators. The dispatcher does not count for operators registered from
/// outside of torch, and the stable ABI has no function for it; but exchanging an axis with itself in place counts and
/// does nothing else. It also refuses what must not be written, such as a leaf that requires a gradient.
inline void prepare_to_write(const Tensor& tensor, const char* name) {
  if (aoti_torch_grad_mode_is_enabled() && detail::has_history(tensor)) {
    fail(name, ": requires a gradient, which in-place writing cannot give");
  }
  std::array<StableIValue, 3> stack{torch::stable::detail::from(tensor), torch::stable::detail::from(int64_t{0}),
                                    torch::stable::detail::from(int64_t{0})};
  if (torch_call_dispatcher("aten::transpose_", "", stack.data(), TORCH_ABI_VERSION) != AOTI_TORCH_SUCCESS) {
    fail(name, ": got a tensor that must not be written: a leaf that requires a gradient, a view made without ",
         "gradients, or an inference tensor outside of torch.inference_mode()");
  }
  torch::stable::detail::to<Tensor>(stack[0]);
}

inline void prepare_to_write(const std::vector<Tensor>& tensors, const char* name) {
  for (const Tensor& tensor : tensors) prepare_to_write(tensor, name);
}

/// Refuses a tensor two of whose own elements share memory, where two axes suffice to show it; `which` is for the
/// message.
inline void check_no_overlap(const Tensor& tensor, const char* name, const std::string& which = "") {
  if (tensor.numel() == 0) return;
  const auto sizes = tensor.sizes();
  const auto strides = tensor.strides();
  for (size_t axis = 0; axis < sizes.size(); ++axis) {
    if (sizes[axis] == 1) continue;
    if (strides[axis] == 0) {
      fail(name, ": ", which, "is expanded along axis ", axis, ", so its elements share memory; pass a clone()");
    }
    for (size_t other = 0; other < axis; ++other) {
      if (sizes[other] == 1) continue;
      // So many steps along the one axis lead where so many along the other do.
      const int64_t divisor = std::gcd(strides[axis], strides[other]);
      if (strides[other] / divisor < sizes[axis] && strides[axis] / divisor < sizes[other]) {
        fail(name, ": ", which, "has elements that share memory along the axes ", other, " and ", axis,
             "; pass a clone()");
      }
    }
  }
}

namespace detail {

/// Where the elements of a tensor may lie: bytes from `begin` on.
inline int64_t span_bytes(const Tensor& tensor) {
  int64_t last = 0;
  for (int64_t axis = 0; axis < tensor.dim(); ++axis) last += (tensor.size(axis) - 1) * tensor.stride(axis);
  return (last + 1) * tensor.element_size();
}

/// `low` to `high` steps of `stride` bytes each.
struct Steps {
  int64_t stride, low, high;
};

/// Whether some number of steps of each kind leads to within `before` bytes under a place or `behind` above it. The
/// longest steps come first, so that for tensors laid out alike few numbers of each are possible; where `budget` ends,
/// the answer is yes.
inline bool leads_to(const std::vector<Steps>& all, size_t next, int64_t place, int64_t before, int64_t behind,
                     int64_t& budget) {
  if (--budget < 0) return true;
  if (next == all.size()) return -before < place && place < behind;
  int64_t low = 0, high = 0;  // where the steps after these may lead
  for (size_t after = next + 1; after < all.size(); ++after) {
    low += all[after].low * all[after].stride;
    high += all[after].high * all[after].stride;
  }
  const auto [stride, fewest, most] = all[next];
  const int64_t excess = place - high - behind;  // what these steps must pass
  const int64_t least = excess / stride + (excess % stride < 0 ? 0 : 1);
  for (int64_t count = std::max(fewest, least); count <= most; ++count) {
    const int64_t rest = place - count * stride;
    if (rest <= low - before) break;
    if (leads_to(all, next + 1, rest, before, behind, budget)) return true;
  }
  return false;
}

}  // namespace detail

/// Whether an element of the one tensor lies in the memory of one of the other. Views of one tensor that take turns in
/// it, such as its channels, share none.
inline bool share_memory(const Tensor& one, const Tensor& other) {
  if (one.numel() == 0 || other.numel() == 0) return false;
  const int64_t place =
      static_cast<const char*>(other.const_data_ptr()) - static_cast<const char*>(one.const_data_ptr());
  if (place >= detail::span_bytes(one) || -place >= detail::span_bytes(other)) return false;
  std::vector<detail::Steps> steps;
  const auto add = [&](int64_t stride, int64_t low, int64_t high) {
    for (detail::Steps& known : steps) {
      if (known.stride == stride) {
        known.low += low;
        known.high += high;
        return;
      }
    }
    if (stride > 0 && low < high) steps.push_back({stride, low, high});
  };
  for (int64_t axis = 0; axis < one.dim(); ++axis) {
    add(one.stride(axis) * one.element_size(), 0, one.size(axis) - 1);
  }
  for (int64_t axis = 0; axis < other.dim(); ++axis) {
    add(other.stride(axis) * other.element_size(), 1 - other.size(axis), 0);
  }
  std::sort(steps.begin(), steps.end(),
            [](const detail::Steps& a, const detail::Steps& b) { return a.stride > b.stride; });
  int64_t budget = 10000;
  return detail::leads_to(steps, 0, place, other.element_size(), one.element_size(), budget);
}

/// Refuses a source that lies in the memory that is written.
inline void check_apart(const Tensor& source, const char* source_name, const Tensor& target, const char* target_name) {
  if (share_memory(source, target)) {
    fail(source_name, ": lies in the memory of ", target_name, ", which is written; pass a clone()");
  }
}

}  // namespace tubeletx
