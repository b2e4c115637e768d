// What an operator owes autograd before it writes into an argument.
#pragma once

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/library.h>

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

/// Refuses a source that may lie in the memory that is written.
inline void check_apart(const Tensor& source, const char* source_name, const Tensor& target, const char* target_name) {
  const auto range = [](const Tensor& tensor) {
    int64_t last = 0;
    for (int64_t axis = 0; axis < tensor.dim(); ++axis) last += (tensor.size(axis) - 1) * tensor.stride(axis);
    const auto begin = reinterpret_cast<uintptr_t>(tensor.const_data_ptr());
    return std::pair(begin, begin + static_cast<uintptr_t>((last + 1) * tensor.element_size()));
  };
  if (source.numel() == 0 || target.numel() == 0) return;
  const auto [source_begin, source_end] = range(source);
  const auto [target_begin, target_end] = range(target);
  if (source_begin < target_end && target_begin < source_end) {
    fail(source_name, ": lies in the memory of ", target_name, ", which is written; pass a clone()");
  }
}

}  // namespace tubeletx
