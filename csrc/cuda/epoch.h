// The epoch of a draw, given by value or as a tensor.
#pragma once

#include <cstdint>
#include <optional>

#include "ops/sample_tubelets.h"

namespace tubeletx::cuda {

/// An epoch in the host's memory is read at once; one on the device by the kernel, also when a graph replays.
struct Epoch {
  uint32_t value;
  const int64_t* on_device;  ///< or null

  Epoch(int64_t epoch, const std::optional<Tensor>& tensor, const Tensor& sample_ids) : value(0), on_device(nullptr) {
    if (tensor && tensor->device() == sample_ids.device()) {
      check_epoch_tensor(*tensor, sample_ids);
      on_device = tensor->const_data_ptr<int64_t>();
    } else {
      value = check_epoch(epoch, tensor, sample_ids);
    }
  }
};

}  // namespace tubeletx::cuda
