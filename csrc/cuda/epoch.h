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
    if (tensor) {
      check_epoch_tensor(*tensor);
      if (tensor->device() == sample_ids.device()) {
        on_device = tensor->const_data_ptr<int64_t>();
        return;
      }
      if (!tensor->is_cpu()) check_device(*tensor, "epoch", sample_ids, "sample_ids");
    }
    value = check_epoch(epoch, tensor);
  }
};

}  // namespace tubeletx::cuda
