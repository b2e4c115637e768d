#include "ops/sample_tubelets.h"

#include "cuda/binding.h"
#include "cuda/epoch.h"
#include "cuda/sample_tubelets.h"

namespace tubeletx::cuda {
namespace {

std::tuple<Tensor, Tensor> sample_tubelets(const Tensor& sample_ids, int64_t seed, int64_t epoch, int64_t num_frames,
                                           int64_t height, int64_t width, const std::vector<double>& settings,
                                           const std::optional<Tensor>& epoch_tensor) {
  const SamplerSettings named = check_settings(settings);
  const SamplerPlan plan = check_sample_tubelets(sample_ids, num_frames, height, width, named);
  const Epoch at(epoch, epoch_tensor, sample_ids);
  const Device device(sample_ids);
  const PackedTubelets tubelets(sample_ids, plan);
  const Tensor dense_ids = torch::stable::contiguous(sample_ids);
  launch_sample_tubelets({plan, named.sigma[0], static_cast<uint64_t>(seed), at.value, at.on_device, sample_ids.size(0),
                          static_cast<const int64_t*>(dense_ids.const_data_ptr()), tubelets.fields()},
                         device.stream());
  return tubelets.tensors();
}

TUBELETX_CUDA_OPERATORS(library) { library.impl("sample_tubelets", TORCH_BOX(&sample_tubelets)); }

}  // namespace
}  // namespace tubeletx::cuda
