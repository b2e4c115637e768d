// Pasting onto clips of bytes.
#pragma once

#include <cstdint>
#include <vector>

#include "ops/paste_tubelets_arguments.h"

namespace tubeletx::cpu {

/// Where the pixels of a patch lie.
struct BytePatch {
  const uint8_t* pixels;
  int64_t channel_stride, row_stride, column_stride;
};

/// (B, V or 1, M): the patches of the arguments.
std::vector<BytePatch> byte_patches(const PasteArguments& arguments);

/// Pastes all tubelets of all samples; the arguments must have passed their checks. The patches may lie elsewhere than
/// the arguments say, even in the clips of their own sample: all of a sample's are read before any is pasted.
void paste_bytes(const PasteArguments& arguments, const std::vector<BytePatch>& patches);

}  // namespace tubeletx::cpu
