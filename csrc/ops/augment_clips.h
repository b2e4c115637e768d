// Arguments of augment_clips_.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/resize_bytes.h"
#include "ops/augment_clips_arguments.h"
#include "ops/check.h"
#include "ops/paste_tubelets.h"
#include "ops/paste_tubelets_arguments.h"
#include "ops/tubelet_geometry.h"
#include "ops/write.h"

namespace tubeletx {

/// Checked arguments, and what their pointers point into.
struct AugmentInputs {
  AugmentArguments arguments;
  std::vector<SourceClip> single;  ///< (B, V), where each clip is a tensor of its own
  std::vector<Tensor> copies;
};

/// Tubelets whose patches are to be cropped from the first clip.
struct AugmentTubelets {
  int64_t count;  ///< of each sample; with 0 the pointers mean nothing
  const int32_t* patch_frame;
  const int32_t* patch_box;
  TubeletGeometry geometry;
  std::vector<Tensor> copies;
};

inline AugmentedType augmented_type(ScalarType dtype) {
  switch (dtype) {
    case ScalarType::Byte:
      return AugmentedType::kByte;
    case ScalarType::Half:
      return AugmentedType::kHalf;
    case ScalarType::BFloat16:
      return AugmentedType::kBFloat16;
    default:
      return AugmentedType::kFloat;
  }
}

namespace detail {

inline void check_side(const Tensor& tensor, const char* name) {
  for (const int axis : {3, 4}) {
    if (tensor.size(axis) > kMostResizedSide) {
      fail(name, ": got shape ", shape_text(tensor), ", needs sides of at most ", kMostResizedSide, " pixels");
    }
  }
}

inline SourceClip source_clip(const Tensor& clip) {
  const ClipView view = clip_view(clip);
  return {static_cast<const uint8_t*>(view.data),
          view.frame_stride,
          view.channel_stride,
          view.row_stride,
          view.column_stride,
          static_cast<int32_t>(clip.size(3)),
          static_cast<int32_t>(clip.size(4))};
}

/// Batches, one for each output, or single clips sample by sample.
inline void check_sources(const TensorList& clips, const TensorList& outputs, AugmentInputs& inputs) {
  AugmentArguments& arguments = inputs.arguments;
  const Tensor& first = outputs.front();
  const int64_t count = static_cast<int64_t>(clips.size()), batch = arguments.batch;
  const bool single = count != arguments.num_clips;
  if (single && count != batch * arguments.num_clips) {
    fail("clips: got ", count, " clips, needs one for each of ", arguments.num_clips, " outputs, or one for each of ",
         batch, " samples of each");
  }
  if (single) inputs.single.reserve(static_cast<size_t>(count));
  for (int64_t index = 0; index < count; ++index) {
    const Tensor& clip = clips[index];
    check_dtype(clip, "clips", {ScalarType::Byte});
    check_shape(clip, "clips", {single ? 1 : batch, 3, arguments.frames, kAny, kAny},
                single ? "(1, 3, T, any height, any width) where they are single"
                       : "(B, 3, T, any height, any width) as of outputs");
    check_device(clip, "clips", first, "outputs");
    check_side(clip, "clips");
    for (const Tensor& written : outputs) check_apart(clip, "clips", written, "outputs");
    if (first.numel() > 0 && clip.numel() == 0) fail("clips: got shape ", shape_text(clip), ", needs pixels");
    const SourceClip source = source_clip(clip);
    arguments.largest_height = std::max(arguments.largest_height, source.height);
    arguments.largest_width = std::max(arguments.largest_width, source.width);
    if (single) {
      inputs.single.push_back(source);
    } else {
      arguments.batches[index] = source;
      arguments.batch_strides[index] = clip.stride(0);
    }
  }
  arguments.single = single ? inputs.single.data() : nullptr;
}

}  // namespace detail

/// Checks everything but the values of tensors.
inline AugmentInputs check_augment_clips(const TensorList& outputs, const TensorList& clips,
                                         const std::optional<Tensor>& windows, const std::optional<Tensor>& flips,
                                         const std::optional<Tensor>& color, const std::vector<double>& normalization) {
  if (outputs.empty()) fail("outputs: got an empty list, needs at least one clip");
  const int64_t count = static_cast<int64_t>(outputs.size());
  if (count > kMaxClips) fail("outputs: got ", count, " clips, needs at most ", kMaxClips, " in one call");
  const Tensor& first = outputs.front();
  check_dtype(first, "outputs", {ScalarType::Byte, ScalarType::Half, ScalarType::BFloat16, ScalarType::Float});
  check_shape(first, "outputs", {kAny, 3, kAny, kAny, kAny}, "(B, 3, T, H, W)");
  detail::check_side(first, "outputs");
  const auto sizes = first.sizes();
  AugmentInputs inputs = {};
  AugmentArguments& arguments = inputs.arguments;
  arguments.batch = sizes[0];
  arguments.num_clips = count;
  arguments.frames = sizes[2];
  arguments.height = sizes[3];
  arguments.width = sizes[4];
  arguments.type = augmented_type(first.scalar_type());
  for (int64_t v = 0; v < count; ++v) {
    const Tensor& output = outputs[v];
    check_dtype(output, "outputs", {first.scalar_type()});
    check_shape(output, "outputs", {sizes[0], 3, sizes[2], sizes[3], sizes[4]}, "the shape of the first output");
    check_device(output, "outputs", first, "the first output");
    const ClipView view = arguments.outputs[v] = clip_view(output);
    if (output.numel() > 0 && (view.channel_stride != 1 || (view.column_stride != 3 && sizes[4] > 1) ||
                               (view.row_stride != 3 * sizes[4] && sizes[3] > 1))) {
      fail("outputs: needs frames in the order of torch.channels_last_3d, without gaps");
    }
    check_no_overlap(output, "outputs", "clip " + std::to_string(v) + " ");
    for (int64_t other = 0; other < v; ++other) check_apart(outputs[other], "outputs", output, "outputs");
  }
  detail::check_sources(clips, outputs, inputs);
  const int64_t batch = sizes[0];
  arguments.windows = nullptr;
  arguments.flips = nullptr;
  arguments.colors = nullptr;
  const DenseTensors dense(first, "outputs", inputs.copies);
  if (windows) arguments.windows = dense.take<int32_t>(*windows, "windows", {batch, count, 4}, "(B, V, 4)");
  if (flips) arguments.flips = dense.take<bool>(*flips, "flips", {batch, count}, "(B, V)");
  if (color) {
    if (arguments.type == AugmentedType::kByte) {
      fail("color: is given, needs outputs of floats; bytes stay as they are");
    }
    arguments.colors = dense.take<float>(*color, "color", {batch, count, 4}, "(B, V, 4)");
  }
  if (normalization.size() != 6) {
    fail("normalization: got ", normalization.size(), " numbers, needs 6: of red, green and blue the mean, then the ",
         "standard deviation");
  }
  for (int c = 0; c < 3; ++c) {
    arguments.normalization.mean[c] = normalization[c];
    arguments.normalization.deviation[c] = normalization[3 + c];
    if (!std::isfinite(normalization[c]) || !(normalization[3 + c] > 0) || !std::isfinite(normalization[3 + c])) {
      fail("normalization: got ", normalization[c], " and ", normalization[3 + c],
           ", needs a finite mean and a positive standard deviation");
    }
  }
  return inputs;
}

/// `fields` is empty or centers, linear, patch_frame, patch_box, shape, edge, opacity, order.
inline AugmentTubelets check_augment_tubelets(const std::vector<Tensor>& fields, const AugmentArguments& arguments,
                                              const Tensor& reference) {
  AugmentTubelets tubelets = {};
  if (fields.empty()) return tubelets;
  if (fields.size() != 8) fail("tubelets: got ", fields.size(), " tensors, needs 8 or none");
  if (fields[0].dim() != 4) fail("centers: got shape ", shape_text(fields[0]), ", needs (B, M, T, 2)");
  const int64_t batch = arguments.batch, count = fields[0].size(1), frames = arguments.frames;
  const DenseTensors dense(reference, "outputs", tubelets.copies);
  tubelets.count = count;
  tubelets.patch_frame = dense.take<int32_t>(fields[2], "patch_frame", {batch, count}, "(B, M)");
  tubelets.patch_box = dense.take<int32_t>(fields[3], "patch_box", {batch, count, 4}, "(B, M, 4)");
  tubelets.geometry =
      check_geometry(dense, batch, count, frames, fields[0], fields[1], fields[4], fields[5], fields[6], fields[7]);
  return tubelets;
}

/// What pastes them onto clips of bytes whose views are still to be filled in.
inline PasteArguments augment_paste(const AugmentArguments& arguments, const AugmentTubelets& tubelets) {
  PasteArguments paste = {};
  paste.batch = arguments.batch;
  paste.num_clips = arguments.num_clips;
  paste.num_tubelets = tubelets.count;
  paste.channels = paste.patch_channels = kAugmentedChannels;
  paste.frames = arguments.frames;
  paste.height = arguments.height;
  paste.width = arguments.width;
  static_cast<TubeletGeometry&>(paste) = tubelets.geometry;
  return paste;
}

}  // namespace tubeletx
