// Pasting onto clips of bytes: the launcher.
#pragma once

#include <cstdint>

#include "core/paste_arguments.h"
#include "cuda/launch.h"

namespace tubeletx::cuda {

/// Bytes of device memory that it needs beside its arguments.
int64_t paste_bytes_workspace(const PasteArguments& arguments);

void launch_paste_bytes(const PasteArguments& arguments, void* workspace, Stream stream);

}  // namespace tubeletx::cuda
