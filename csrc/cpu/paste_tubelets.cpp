#include "cpu/operators.h"
#include "ops/check.h"
namespace tubeletx::cpu {
TensorList paste_tubelets(const TensorList&, const Tensor&, const Tensor&,
                          const Tensor&, const Tensor&, const Tensor&, const Tensor&,
                          const Tensor&, const Tensor&, const std::optional<Tensor>&) { fail("not yet"); }
void paste_tubelets_(const TensorList& clips, const Tensor&, const Tensor&, const Tensor&,
                     const Tensor&, const Tensor&, const Tensor&, const Tensor&,
                     const Tensor&, const std::optional<Tensor>&) { fail("clips: got ", clips.size()); }
std::tuple<TensorList, Tensor> paste_tubelets_backward(const TensorList&, const TensorList&,
                                                       const Tensor&, const Tensor&,
                                                       const Tensor&, const Tensor&, const Tensor&,
                                                       const Tensor&, const Tensor&, const Tensor&,
                                                       const std::optional<Tensor>&) { fail("not yet"); }
}
