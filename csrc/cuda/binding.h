// Between torch and the launchers: where an operator's kernels are queued, and under which name they are registered.
#pragma once

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/tensor.h>

#include "cuda/stream.h"

namespace tubeletx::cuda {

using torch::stable::Tensor;

#ifndef TUBELETX_EMULATION

/// Makes the device of a tensor current for the lifetime of the object, and finds torch's current stream there.
class Device {
 public:
  explicit Device(const Tensor& tensor) : guard_(tensor.get_device_index()) {
    void* stream = nullptr;
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(tensor.get_device_index(), &stream));
    stream_ = static_cast<Stream>(stream);
  }

  Stream stream() const { return stream_; }

 private:
  torch::stable::accelerator::DeviceGuard guard_;
  Stream stream_;
};

/// Opens the block that registers operators: TUBELETX_CUDA_OPERATORS(library) { library.impl(...); }
#define TUBELETX_CUDA_OPERATORS(library) STABLE_TORCH_LIBRARY_IMPL(tubeletx, CUDA, library)

#else

/// The emulation runs the kernels on the host, as CPU operators of a library of their own.
class Device {
 public:
  explicit Device(const Tensor&) {}
  Stream stream() const { return nullptr; }
};

#define TUBELETX_CUDA_OPERATORS(library) STABLE_TORCH_LIBRARY_IMPL(TUBELETX_NAMESPACE, CPU, library)

#endif

}  // namespace tubeletx::cuda
