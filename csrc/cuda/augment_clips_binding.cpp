#include <torch/csrc/stable/ops.h>

#include <optional>
#include <vector>

#include "cuda/augment_clips.h"
#include "cuda/binding.h"
#include "cuda/paste_bytes.h"
#include "ops/augment_clips.h"
#include "ops/sample_and_paste.h"

namespace tubeletx::cuda {
namespace {

/// `outputs` say where the memory is taken.
void paste(const AugmentClips& clips, const AugmentTubelets& tubelets, const std::vector<int64_t>& largest_patch,
           const Tensor& outputs, Stream stream) {
  PasteArguments arguments = augment_paste(clips.arguments, tubelets);
  for (int64_t v = 0; v < arguments.num_clips; ++v) arguments.clips[v] = clips.pixels[v];
  use_first_clip(largest_patch, arguments);
  const PatchBoxes boxes = {clips.patches.frame, clips.patches.box, arguments.clips[0].frame_stride};
  Tensor workspace = torch::stable::new_empty(outputs, {paste_bytes_workspace(arguments)}, ScalarType::Byte);
  launch_paste_bytes(arguments, boxes, workspace.mutable_data_ptr(), stream);
}

void augment_clips_(const TensorList& outputs, const TensorList& clips, const std::optional<Tensor>& windows,
                    const std::optional<Tensor>& flips, const std::optional<Tensor>& color,
                    const std::vector<double>& normalization, const TensorList& tubelets,
                    const std::vector<int64_t>& largest_patch) {
  if (outputs.empty()) fail("outputs: got an empty list, needs at least one clip");
  const Device device(outputs.front());
  const AugmentInputs inputs = check_augment_clips(outputs, clips, windows, flips, color, normalization);
  const AugmentTubelets fields = check_augment_tubelets(tubelets, inputs.arguments, outputs.front());
  if (fields.count > 0) check_largest_patch(largest_patch);
  prepare_to_write(outputs, "outputs");
  if (outputs.front().numel() == 0) return;
  AugmentClips work = {};
  work.arguments = inputs.arguments;
  work.patches.count = fields.count;
  work.patches.given_frame = fields.patch_frame;
  work.patches.given_box = fields.patch_box;
  if (fields.count > 0) {
    work.patches.largest_height = static_cast<int32_t>(std::min(largest_patch[0], inputs.arguments.height));
    work.patches.largest_width = static_cast<int32_t>(std::min(largest_patch[1], inputs.arguments.width));
  }
  Tensor room = torch::stable::new_empty(outputs.front(), {lay_out_workspace(work, nullptr)}, ScalarType::Byte);
  lay_out_workspace(work, room.mutable_data_ptr());
  launch_write_sources(work, device.stream());
  launch_resize_clips(work, device.stream());
  if (fields.count > 0) paste(work, fields, largest_patch, outputs.front(), device.stream());
  if (inputs.arguments.type != AugmentedType::kByte) launch_map_clips(work, device.stream());
}

TUBELETX_CUDA_OPERATORS(library) { library.impl("augment_clips_", TORCH_BOX(&augment_clips_)); }

}  // namespace
}  // namespace tubeletx::cuda
