#include "cpu/operators.h"
#include "ops/check.h"
namespace tubeletx::cpu {
std::tuple<Tensor, Tensor, Tensor, Tensor> queue_infonce(const Tensor&, const Tensor&, const Tensor&,
                                                         const std::optional<Tensor>&,
                                                         double, bool) { fail("not yet"); }
}
