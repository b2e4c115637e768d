// Ring-buffer write of the queue: the launcher.
#pragma once

#include <cstdint>

#include "core/numbers.h"
#include "cuda/stream.h"

namespace tubeletx::cuda {

struct EnqueueArguments {
  Numbers queue;     ///< (K, D)
  Numbers keys;      ///< (B, D)
  int64_t* pointer;  ///< the next slot, in device memory
  int64_t slots;     ///< K
  int64_t batch;     ///< B
  int64_t features;  ///< D
};

void launch_enqueue(const EnqueueArguments& arguments, Stream stream);

}  // namespace tubeletx::cuda
