// Binds the CPU operators to the schemas of csrc/ops/schemas.cpp.
#include <torch/csrc/stable/library.h>

#include "cpu/operators.h"

namespace cpu = tubeletx::cpu;

STABLE_TORCH_LIBRARY_IMPL(tubeletx, CPU, library) {
  library.impl("interpolate_keyframes", TORCH_BOX(&cpu::interpolate_keyframes));
  library.impl("smooth_path", TORCH_BOX(&cpu::smooth_path));
  library.impl("sample_tubelets", TORCH_BOX(&cpu::sample_tubelets));
  library.impl("crop_patches", TORCH_BOX(&cpu::crop_patches));
  library.impl("paste_tubelets", TORCH_BOX(&cpu::paste_tubelets));
  library.impl("paste_tubelets_", TORCH_BOX(&cpu::paste_tubelets_));
  library.impl("paste_tubelets_backward", TORCH_BOX(&cpu::paste_tubelets_backward));
  library.impl("queue_infonce", TORCH_BOX(&cpu::queue_infonce));
  library.impl("enqueue_", TORCH_BOX(&cpu::enqueue_));
}
