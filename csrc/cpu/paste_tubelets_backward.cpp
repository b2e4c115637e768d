#include "cpu/operators.h"
#include "ops/check.h"
namespace tubeletx::cpu {
std::tuple<TensorList, Tensor> paste_tubelets_backward(const TensorList&, const TensorList&,
                                                       const Tensor&, const Tensor&,
                                                       const Tensor&, const Tensor&, const Tensor&,
                                                       const Tensor&, const Tensor&, const Tensor&,
                                                       const std::optional<Tensor>&) { fail("not yet"); }
}
