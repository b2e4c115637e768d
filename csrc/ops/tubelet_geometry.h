// Checks of the tensors that say where tubelets lie, for all operators that take them.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <cstdint>
#include <initializer_list>
#include <type_traits>
#include <vector>

#include "core/tubelet_geometry.h"
#include "ops/check.h"

namespace tubeletx {

/// Pointers to the numbers of arguments in dense order; what has to be copied for that goes into `copies`.
class DenseTensors {
 public:
  /// All must live where `reference` does.
  DenseTensors(const Tensor& reference, const char* reference_name, std::vector<Tensor>& copies)
      : reference_(reference), reference_name_(reference_name), copies_(copies) {}

  template <typename Element>
  const Element* take(const Tensor& tensor, const char* name, std::initializer_list<int64_t> shape,
                      const char* meaning) const {
    constexpr ScalarType kDtype = std::is_same_v<Element, float>     ? ScalarType::Float
                                  : std::is_same_v<Element, int32_t> ? ScalarType::Int
                                                                     : ScalarType::Bool;
    check_dtype(tensor, name, {kDtype});
    check_shape(tensor, name, shape, meaning);
    check_device(tensor, name, reference_, reference_name_);
    if (tensor.is_contiguous()) return static_cast<const Element*>(tensor.const_data_ptr());
    copies_.push_back(torch::stable::contiguous(tensor));
    return static_cast<const Element*>(copies_.back().const_data_ptr());
  }

 private:
  const Tensor& reference_;
  const char* reference_name_;
  std::vector<Tensor>& copies_;
};

inline TubeletGeometry check_geometry(const DenseTensors& dense, int64_t batch, int64_t tubelets, int64_t frames,
                                      const Tensor& centers, const Tensor& linear, const Tensor& shape,
                                      const Tensor& edge, const Tensor& opacity, const Tensor& order) {
  return {dense.take<float>(centers, "centers", {batch, tubelets, frames, 2}, "(B, M, T, 2)"),
          dense.take<float>(linear, "linear", {batch, tubelets, frames, 2, 2}, "(B, M, T, 2, 2)"),
          dense.take<int32_t>(shape, "shape", {batch, tubelets}, "(B, M)"),
          dense.take<float>(edge, "edge", {batch, tubelets}, "(B, M)"),
          dense.take<float>(opacity, "opacity", {batch, tubelets, frames}, "(B, M, T)"),
          dense.take<int32_t>(order, "order", {batch, tubelets}, "(B, M)")};
}

}  // namespace tubeletx
