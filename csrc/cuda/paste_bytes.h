// Pasting onto clips of bytes: the launcher.
#pragma once

#include <cstdint>

#include "cuda/stream.h"
#include "ops/paste_tubelets_arguments.h"

namespace tubeletx::cuda {

/// Where patches lie in the clip that they are still part of; no boxes: they are tensors of their own.
struct PatchBoxes {
  const int32_t* frame;  ///< (B, M)
  const int32_t* box;    ///< (B, M, 4): x0, y0, x1, y1
  int64_t frame_stride;  ///< of the clip
};

/// Bytes of device memory that it needs beside its arguments.
int64_t paste_bytes_workspace(const PasteArguments& arguments);

/// With boxes, `arguments.patches` and its strides are the clip's, and the size of a patch is that of its box.
void launch_paste_bytes(const PasteArguments& arguments, const PatchBoxes& boxes, void* workspace, Stream stream);

}  // namespace tubeletx::cuda
