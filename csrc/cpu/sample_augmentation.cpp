#include "ops/sample_augmentation.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <optional>
#include <vector>

#include "cpu/parallel.h"
#include "ops/sample_tubelets.h"

namespace tubeletx::cpu {
namespace {

AugmentationTensors sample_augmentation(const Tensor& sample_ids, int64_t seed, int64_t epoch,
                                        const std::vector<int64_t>& sizes, const std::vector<double>& settings,
                                        const std::optional<Tensor>& epoch_tensor) {
  const AugmentationPlan plan = check_sample_augmentation(sample_ids, sizes, settings);
  const uint32_t checked_epoch = check_epoch(epoch, epoch_tensor, sample_ids);
  const AugmentationTensors tensors = empty_augmentations(sample_ids, plan);
  const AugmentationFields fields = augmentation_fields(tensors);
  const Tensor dense_ids = torch::stable::contiguous(sample_ids);
  const int64_t* ids = static_cast<const int64_t*>(dense_ids.const_data_ptr());
  constexpr int64_t kGrain = 64;
  parallel_for(sample_ids.size(0) * plan.num_clips, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t index = begin; index < end; ++index) {
      write_augmentation(plan, static_cast<uint64_t>(seed), checked_epoch, ids, index, fields);
    }
  });
  return tensors;
}

STABLE_TORCH_LIBRARY_IMPL(tubeletx, CPU, library) {
  library.impl("sample_augmentation", TORCH_BOX(&sample_augmentation));
}

}  // namespace
}  // namespace tubeletx::cpu
