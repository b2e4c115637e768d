#include "cuda/sample_augmentation.h"

#include "cuda/binding.h"
#include "cuda/epoch.h"
#include "ops/sample_augmentation.h"

namespace tubeletx::cuda {
namespace {

AugmentationTensors sample_augmentation(const Tensor& sample_ids, int64_t seed, int64_t epoch,
                                        const std::vector<int64_t>& sizes, const std::vector<double>& settings,
                                        const std::optional<Tensor>& epoch_tensor) {
  const AugmentationPlan plan = check_sample_augmentation(sample_ids, sizes, settings);
  const Epoch at(epoch, epoch_tensor, sample_ids);
  const Device device(sample_ids);
  const AugmentationTensors tensors = empty_augmentations(sample_ids, plan);
  const Tensor dense_ids = torch::stable::contiguous(sample_ids);
  launch_sample_augmentation({plan, static_cast<uint64_t>(seed), at.value, at.on_device, sample_ids.size(0),
                              static_cast<const int64_t*>(dense_ids.const_data_ptr()), augmentation_fields(tensors)},
                             device.stream());
  return tensors;
}

TUBELETX_CUDA_OPERATORS(library) { library.impl("sample_augmentation", TORCH_BOX(&sample_augmentation)); }

}  // namespace
}  // namespace tubeletx::cuda
