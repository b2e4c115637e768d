#include "ops/draw_leaves.h"

#include "cuda/binding.h"
#include "cuda/draw_leaves.h"
#include "cuda/epoch.h"

namespace tubeletx::cuda {
namespace {

Tensor draw_leaves(const Tensor& sample_ids, int64_t seed, int64_t epoch, int64_t num_frames, int64_t height,
                   int64_t width, int64_t num_leaves, const std::vector<double>& radius, double motion, double camera,
                   double turn, double growth, const std::optional<Tensor>& epoch_tensor) {
  const LeavesPlan plan =
      check_draw_leaves(sample_ids, num_frames, height, width, num_leaves, radius, motion, camera, turn, growth);
  const Epoch at(epoch, epoch_tensor, sample_ids);
  const Device device(sample_ids);
  const Tensor clips = empty_leaves(sample_ids, plan);
  const Tensor ids = torch::stable::contiguous(sample_ids);
  const int64_t posed = sample_ids.size(0) * plan.num_frames * (int64_t{plan.num_leaves} + 1);
  const auto room = [&](size_t bytes) {
    return torch::stable::new_empty(sample_ids, {posed * static_cast<int64_t>(bytes)}, ScalarType::Byte);
  };
  const Tensor rows = room(sizeof(LeafRows)), outlines = room(sizeof(LeafOutline)),
               textures = room(sizeof(LeafTexture));
  launch_draw_leaves(
      {plan, static_cast<uint64_t>(seed), at.value, at.on_device, sample_ids.size(0),
       static_cast<const int64_t*>(ids.const_data_ptr()), static_cast<LeafRows*>(rows.mutable_data_ptr()),
       static_cast<LeafOutline*>(outlines.mutable_data_ptr()), static_cast<LeafTexture*>(textures.mutable_data_ptr()),
       static_cast<uint8_t*>(clips.mutable_data_ptr())},
      device.stream());
  return clips;
}

TUBELETX_CUDA_OPERATORS(library) { library.impl("draw_leaves", TORCH_BOX(&draw_leaves)); }

}  // namespace
}  // namespace tubeletx::cuda
