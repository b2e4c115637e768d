#include "cuda/paste_tubelets.h"

#include <torch/csrc/stable/ops.h>

#include <tuple>
#include <utility>
#include <vector>

#include "core/blend.h"
#include "cuda/binding.h"
#include "cuda/paste_bytes.h"
#include "ops/paste_tubelets.h"

namespace tubeletx::cuda {
namespace {

/// Device memory beside the arguments; freed memory is reused on the same stream only, so that it may go at once.
Tensor empty_bytes(const Tensor& like, int64_t count) {
  return torch::stable::new_empty(like, {count}, ScalarType::Byte);
}

template <typename Pixel>
void paste(const PasteArguments& arguments, const Tensor& patches, const Device& device) {
  Tensor workspace = empty_bytes(patches, paste_workspace<Pixel>(arguments));
  launch_paste_tubelets<Pixel>(arguments, workspace.mutable_data_ptr(), device.stream());
}

template <>
void paste<uint8_t>(const PasteArguments& arguments, const Tensor& patches, const Device& device) {
  Tensor workspace = empty_bytes(patches, paste_bytes_workspace(arguments));
  launch_paste_bytes(arguments, {}, workspace.mutable_data_ptr(), device.stream());
}

void paste_tubelets_(const TensorList& clips, const Tensor& patches, const Tensor& patch_size, const Tensor& centers,
                     const Tensor& linear, const Tensor& shape, const Tensor& edge, const Tensor& opacity,
                     const Tensor& order, const std::optional<Tensor>& offsets) {
  check_clips(clips, "clips", patches, /*allow_bytes=*/true);
  const Device device(patches);
  const PasteInputs inputs = check_paste(clips, "clips", /*allow_bytes=*/true, patches, patch_size, centers, linear,
                                         shape, edge, opacity, order, offsets);
  check_written(clips, patches);
  with_pixel(patches.scalar_type(), [&](auto pixel) { paste<decltype(pixel)>(inputs.arguments, patches, device); });
}

TensorList paste_tubelets(const TensorList& clips, const Tensor& patches, const Tensor& patch_size,
                          const Tensor& centers, const Tensor& linear, const Tensor& shape, const Tensor& edge,
                          const Tensor& opacity, const Tensor& order, const std::optional<Tensor>& offsets) {
  return paste_onto_copies(clips, patches, [&](const TensorList& copies) {
    paste_tubelets_(copies, patches, patch_size, centers, linear, shape, edge, opacity, order, offsets);
  });
}

template <typename Pixel>
void backward(const PasteArguments& arguments, const std::vector<ClipView>& clips, const Tensor& patches,
              Tensor& patches_gradient, const Device& device) {
  Tensor workspace = empty_bytes(patches, paste_backward_workspace<Pixel>(arguments));
  launch_paste_tubelets_backward<Pixel>(arguments, clips.data(), workspace.mutable_data_ptr(),
                                        patches_gradient.mutable_data_ptr(), device.stream());
}

std::tuple<TensorList, Tensor> paste_tubelets_backward(const TensorList& gradients, const TensorList& clips,
                                                       const Tensor& patches, const Tensor& patch_size,
                                                       const Tensor& centers, const Tensor& linear, const Tensor& shape,
                                                       const Tensor& edge, const Tensor& opacity, const Tensor& order,
                                                       const std::optional<Tensor>& offsets) {
  check_clips(gradients, "gradients", patches, /*allow_bytes=*/false);
  const Device device(patches);
  TensorList clip_gradients = clone_all(gradients);
  const PasteInputs inputs = check_paste(clip_gradients, "gradients", /*allow_bytes=*/false, patches, patch_size,
                                         centers, linear, shape, edge, opacity, order, offsets);
  const PasteArguments& arguments = inputs.arguments;
  const std::vector<ClipView> views = check_background(arguments, gradients, clips, patches);
  Tensor patches_gradient = torch::stable::new_empty(patches, patches.sizes());
  with_float_pixel(patches.scalar_type(),
                   [&](auto pixel) { backward<decltype(pixel)>(arguments, views, patches, patches_gradient, device); });
  return {std::move(clip_gradients), std::move(patches_gradient)};
}

TUBELETX_CUDA_OPERATORS(library) {
  library.impl("paste_tubelets", TORCH_BOX(&paste_tubelets));
  library.impl("paste_tubelets.bytes", TORCH_BOX(&paste_tubelets));
  library.impl("paste_tubelets_", TORCH_BOX(&paste_tubelets_));
  library.impl("paste_tubelets_backward", TORCH_BOX(&paste_tubelets_backward));
}

}  // namespace
}  // namespace tubeletx::cuda
