// Argument checks of the pasting operators.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "core/blend.h"
#include "ops/check.h"
#include "ops/paste_tubelets_arguments.h"
#include "ops/tubelet_geometry.h"
#include "ops/write.h"

namespace tubeletx {

using TensorList = std::vector<Tensor>;

/// Checked arguments, and copies that their pointers point into.
struct PasteInputs {
  PasteArguments arguments;
  std::vector<Tensor> copies;
};

inline void check_clips(const std::vector<Tensor>& clips, const char* name, const Tensor& reference, bool allow_bytes,
                        const char* reference_name = "patches") {
  if (clips.empty()) fail(name, ": got an empty list, needs at least one clip");
  const int64_t count = static_cast<int64_t>(clips.size());
  if (count > kMaxClips) fail(name, ": got ", count, " clips, needs at most ", kMaxClips, " in one call");
  const Tensor& first = clips.front();
  if (allow_bytes) {
    check_dtype(first, name,
                {ScalarType::Byte, ScalarType::Half, ScalarType::BFloat16, ScalarType::Float, ScalarType::Double});
  } else {
    check_dtype(first, name, {ScalarType::Half, ScalarType::BFloat16, ScalarType::Float, ScalarType::Double});
  }
  check_shape(first, name, {kAny, kAny, kAny, kAny, kAny}, "(B, C, T, H, W)");
  const auto sizes = first.sizes();
  for (const Tensor& clip : clips) {
    check_dtype(clip, name, {first.scalar_type()});
    check_shape(clip, name, {sizes[0], sizes[1], sizes[2], sizes[3], sizes[4]}, "the shape of the first clip");
    check_device(clip, name, reference, reference_name);
  }
  for (int axis : {3, 4}) {
    if (sizes[axis] > int64_t{1} << 24)
      fail(name, ": got shape ", shape_text(first), ", needs sides of at most 2^24 pixels");
  }
}

inline ClipView clip_view(const Tensor& clip) {
  const auto strides = clip.strides();
  return ClipView{clip.data_ptr(), strides[0], strides[1], strides[2], strides[3], strides[4]};
}

/// Places in a patch are computed in 32 bits; kernels may add a border of one texel and pad the channels by up to
/// three.
inline bool can_count_texels(const PasteArguments& arguments) {
  const int64_t limit = std::numeric_limits<int32_t>::max() / (arguments.patch_channels + 3);
  return arguments.patch_width < limit && (arguments.patch_width + 1) * (arguments.patch_height + 1) <= limit;
}

/// Checks everything but the values, which only the CPU can look at without waiting.
inline PasteInputs check_paste(const std::vector<Tensor>& clips, const char* clips_name, bool allow_bytes,
                               const Tensor& patches, const Tensor& patch_size, const Tensor& centers,
                               const Tensor& linear, const Tensor& shape, const Tensor& edge, const Tensor& opacity,
                               const Tensor& order, const std::optional<Tensor>& offsets) {
  check_clips(clips, clips_name, patches, allow_bytes);
  PasteInputs inputs;
  PasteArguments& arguments = inputs.arguments;
  const auto sizes = clips.front().sizes();
  const int64_t batch = arguments.batch = sizes[0];
  const int64_t channels = arguments.channels = sizes[1];
  const int64_t frames = arguments.frames = sizes[2];
  arguments.height = sizes[3];
  arguments.width = sizes[4];
  const int64_t num_clips = arguments.num_clips = static_cast<int64_t>(clips.size());
  for (int64_t index = 0; index < num_clips; ++index) arguments.clips[index] = clip_view(clips[index]);

  check_dtype(patches, "patches", {clips.front().scalar_type()});
  const bool per_clip = arguments.patches_per_clip = patches.dim() == 6;
  if (per_clip) {
    check_shape(patches, "patches", {batch, num_clips, kAny, kAny, kAny, kAny}, "(B, V, M, C or C + 1, Hp, Wp)");
  } else {
    check_shape(patches, "patches", {batch, kAny, kAny, kAny, kAny}, "(B, M, C or C + 1, Hp, Wp)");
  }
  const int64_t axis = per_clip ? 2 : 1;
  const auto extents = patches.sizes();
  const auto strides = patches.strides();
  const int64_t tubelets = arguments.num_tubelets = extents[axis];
  arguments.patch_channels = extents[axis + 1];
  arguments.patch_height = extents[axis + 2];
  arguments.patch_width = extents[axis + 3];
  arguments.has_alpha = arguments.patch_channels == channels + 1;
  if (arguments.patch_channels != channels && !arguments.has_alpha) {
    fail("patches: got ", arguments.patch_channels, " channels in shape ", shape_text(patches), ", needs the ",
         channels, " of the clips, or one more for alpha");
  }
  if (!can_count_texels(arguments)) {
    fail("patches: got shape ", shape_text(patches), ", needs fewer than 2^31 elements in a patch");
  }
  arguments.patches = patches.const_data_ptr();
  arguments.patch_batch_stride = strides[0];
  arguments.patch_clip_stride = per_clip ? strides[1] : 0;
  arguments.patch_tubelet_stride = strides[axis];
  arguments.patch_channel_stride = strides[axis + 1];
  arguments.patch_row_stride = strides[axis + 2];
  arguments.patch_column_stride = strides[axis + 3];

  const DenseTensors dense(patches, "patches", inputs.copies);
  arguments.patch_size = dense.take<int32_t>(patch_size, "patch_size", {batch, tubelets, 2}, "(B, M, 2)");
  static_cast<TubeletGeometry&>(arguments) =
      check_geometry(dense, batch, tubelets, frames, centers, linear, shape, edge, opacity, order);
  arguments.offsets = nullptr;
  if (offsets.has_value()) {
    arguments.offsets = dense.take<float>(*offsets, "offsets", {batch, num_clips, tubelets, 2}, "(B, V, M, 2)");
  }
  return inputs;
}

/// Refuses clips that share memory, with themselves or with each other.
inline void check_distinct(const std::vector<Tensor>& clips) {
  for (size_t index = 0; index < clips.size(); ++index) {
    check_no_overlap(clips[index], "clips", "clip " + std::to_string(index) + " ");
    for (size_t other = 0; other < index; ++other) {
      if (share_memory(clips[index], clips[other])) {
        fail("clips: clips ", other, " and ", index, " share memory; in-place pasting needs distinct clips");
      }
    }
  }
}

/// What may be written in place.
inline void check_written(const std::vector<Tensor>& clips, const Tensor& patches) {
  check_distinct(clips);
  for (const Tensor& clip : clips) check_apart(patches, "patches", clip, "clips");
  prepare_to_write(clips, "clips");
}

/// The clips before pasting, which only the gradient of an own alpha needs; empty without one.
inline std::vector<ClipView> check_background(const PasteArguments& arguments, const std::vector<Tensor>& gradients,
                                              const std::vector<Tensor>& clips, const Tensor& patches) {
  std::vector<ClipView> views;
  if (!arguments.has_alpha) return views;
  check_clips(clips, "clips", patches, /*allow_bytes=*/false);
  if (clips.size() != gradients.size()) fail("clips: got ", clips.size(), ", needs one for each of gradients");
  const auto sizes = gradients.front().sizes();
  check_shape(clips.front(), "clips", {sizes[0], sizes[1], sizes[2], sizes[3], sizes[4]}, "the shape of gradients");
  check_dtype(clips.front(), "clips", {patches.scalar_type()});
  for (const Tensor& clip : clips) views.push_back(clip_view(clip));
  return views;
}

/// What could not be painted safely, or not as meant.
inline void check_paste_values(const PasteArguments& arguments) {
  const int64_t count = arguments.batch * arguments.num_tubelets;
  for (int64_t index = 0; index < count; ++index) {
    const int32_t width = arguments.patch_size[2 * index];
    const int32_t height = arguments.patch_size[2 * index + 1];
    if (width < 0 || width > arguments.patch_width || height < 0 || height > arguments.patch_height) {
      fail("patch_size: got ", width, " x ", height, " (width x height), needs a size from 0 to that of patches, ",
           arguments.patch_width, " x ", arguments.patch_height);
    }
    if (arguments.shape[index] < 0 || arguments.shape[index] > 2) {
      fail("shape: got ", arguments.shape[index], ", needs 0 (rectangle), 1 (ellipse) or 2 (rhombus)");
    }
    const float edge = arguments.edge[index];
    if (!(edge >= 0.0f && edge - edge == 0.0f)) {
      fail("edge: got ", edge, ", needs a finite width of 0 (hard) or more");
    }
  }
}

/// Calls function(Pixel{}) with the pixel type of a floating-point dtype.
template <typename Function>
void with_float_pixel(ScalarType dtype, const Function& function) {
  switch (dtype) {
    case ScalarType::Half:
      return function(Half{});
    case ScalarType::BFloat16:
      return function(BFloat16{});
    case ScalarType::Float:
      return function(float{});
    default:
      return function(double{});
  }
}

/// Calls function(Pixel{}) with the pixel type of a dtype that check_clips let pass.
template <typename Function>
void with_pixel(ScalarType dtype, const Function& function) {
  if (dtype == ScalarType::Byte) return function(uint8_t{});
  with_float_pixel(dtype, function);
}

/// Not by torch::stable::clone, whose way through the dispatcher costs a microsecond.
inline std::vector<Tensor> clone_all(const std::vector<Tensor>& tensors) {
  std::vector<Tensor> clones;
  clones.reserve(tensors.size());
  for (const Tensor& tensor : tensors) {
    AtenTensorHandle clone;
    TORCH_ERROR_CODE_CHECK(aoti_torch_clone(tensor.get(), &clone));
    clones.emplace_back(clone);
  }
  return clones;
}

/// Copies of the clips with tubelets on them; paste(copies) pastes in place.
template <typename Paste>
std::vector<Tensor> paste_onto_copies(const std::vector<Tensor>& clips, const Tensor& patches, const Paste& paste) {
  check_clips(clips, "clips", patches, /*allow_bytes=*/true);
  std::vector<Tensor> copies = clone_all(clips);
  paste(copies);
  return copies;
}

}  // namespace tubeletx
