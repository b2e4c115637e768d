// What the GPU's ring-buffer write needs to know.
#pragma once

#include "core/numbers.h"

namespace tubeletx {

struct EnqueueArguments {
  Numbers queue;     // (K, D)
  Numbers keys;      // (B, D)
  int64_t* pointer;  // the next slot, in device memory
  int64_t slots;     // K
  int64_t batch;     // B
  int64_t features;  // D
};

}  // namespace tubeletx
