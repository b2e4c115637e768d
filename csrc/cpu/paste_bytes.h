// Pasting onto clips of bytes.
#pragma once

#include "core/paste_arguments.h"

namespace tubeletx::cpu {

/// The arguments must have passed their checks, and the clips hold uint8.
void paste_bytes(const PasteArguments& arguments);

}  // namespace tubeletx::cpu
