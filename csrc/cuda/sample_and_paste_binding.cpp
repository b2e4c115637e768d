#include "ops/sample_and_paste.h"

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "cuda/binding.h"
#include "cuda/epoch.h"
#include "cuda/paste_bytes.h"
#include "cuda/sample_tubelets.h"

namespace tubeletx::cuda {
namespace {

std::tuple<Tensor, Tensor> sample_and_paste_(const TensorList& clips, const Tensor& sample_ids, int64_t seed,
                                             int64_t epoch, const std::vector<double>& settings,
                                             const std::vector<int64_t>& largest_patch,
                                             const std::optional<Tensor>& epoch_tensor) {
  const SamplerSettings named = check_settings(settings);
  const SamplerPlan plan = check_sampled_clips(clips, sample_ids, named);
  const Epoch at(epoch, epoch_tensor, sample_ids);
  PasteArguments arguments = check_byte_clips(clips, sample_ids, plan);
  use_first_clip(largest_patch, arguments);
  prepare_to_write(clips, "clips");
  const Device device(sample_ids);
  const PackedTubelets tubelets(sample_ids, plan);
  const TubeletFields fields = tubelets.fields();
  const Tensor dense_ids = torch::stable::contiguous(sample_ids);
  launch_sample_tubelets({plan, named.sigma[0], static_cast<uint64_t>(seed), at.value, at.on_device, arguments.batch,
                          static_cast<const int64_t*>(dense_ids.const_data_ptr()), fields},
                         device.stream());

  use_fields(fields, arguments);
  const PatchBoxes boxes = {fields.patch_frame, fields.patch_box, arguments.clips[0].frame_stride};
  Tensor workspace = torch::stable::new_empty(sample_ids, {paste_bytes_workspace(arguments)}, ScalarType::Byte);
  launch_paste_bytes(arguments, boxes, workspace.mutable_data_ptr(), device.stream());
  return tubelets.tensors();
}

TUBELETX_CUDA_OPERATORS(library) { library.impl("sample_and_paste_", TORCH_BOX(&sample_and_paste_)); }

}  // namespace
}  // namespace tubeletx::cuda
