// Draws tubelets and pastes them onto bytes, with no tensor of patches between: cropped from the first clip, or images
// of objects.
#include "ops/sample_and_paste.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <optional>
#include <vector>

#include "core/object_choice.h"
#include "cpu/draw_tubelets.h"
#include "cpu/paste_bytes.h"

namespace tubeletx::cpu {
namespace {

std::tuple<Tensor, Tensor> sample_and_paste_(const TensorList& clips, const Tensor& sample_ids, int64_t seed,
                                             int64_t epoch, const std::vector<double>& settings,
                                             const std::vector<int64_t>& /*largest_patch*/,
                                             const std::optional<Tensor>& epoch_tensor) {
  const SamplerSettings named = check_settings(settings);
  const SamplerPlan plan = check_sampled_clips(clips, sample_ids, named);
  const uint32_t checked_epoch = check_epoch(epoch, epoch_tensor, sample_ids);
  PasteArguments arguments = check_byte_clips(clips, sample_ids, plan);
  prepare_to_write(clips, "clips");
  const PackedTubelets tubelets(sample_ids, plan);
  const TubeletFields fields = tubelets.fields();
  const Tensor ids = sample_ids.is_contiguous() ? sample_ids : torch::stable::contiguous(sample_ids);
  draw_tubelets(plan, named, static_cast<const int64_t*>(ids.const_data_ptr()), arguments.batch, seed, checked_epoch,
                fields);

  use_fields(fields, arguments);
  arguments.patch_channels = arguments.channels;
  const int64_t count = arguments.batch * arguments.num_tubelets;
  std::vector<int32_t> size(static_cast<size_t>(2 * count));
  std::vector<BytePatch> patches(static_cast<size_t>(count));
  const ClipView& clip = arguments.clips[0];
  for (int64_t index = 0; index < count; ++index) {
    const int32_t* box = fields.patch_box + 4 * index;
    size[2 * index] = box[2] - box[0];
    size[2 * index + 1] = box[3] - box[1];
    patches[index] = {static_cast<const uint8_t*>(clip.data) + index / arguments.num_tubelets * clip.batch_stride +
                          fields.patch_frame[index] * clip.frame_stride + box[1] * clip.row_stride +
                          box[0] * clip.column_stride,
                      clip.channel_stride, clip.row_stride, clip.column_stride};
  }
  arguments.patch_size = size.data();
  paste_bytes(arguments, patches);
  return tubelets.tensors();
}

/// The smallest level that need not be enlarged to `width` x `height`, else the largest one.
int64_t choose_level(const ObjectImages& images, int64_t object, int32_t width, int32_t height) {
  int64_t level = 0;
  for (int64_t other = 1; other < images.levels; ++other) {
    const int32_t* size = images.sizes + 2 * (object * images.levels + other);
    level += size[0] >= width && size[1] >= height;
  }
  return level;
}

void paste_objects_(const TensorList& clips, const Tensor& sample_ids, int64_t seed, int64_t epoch,
                    const std::vector<double>& settings, const Tensor& texels, const Tensor& sizes,
                    const Tensor& first_row, const std::optional<Tensor>& epoch_tensor) {
  const SamplerSettings named = check_settings(settings);
  const SamplerPlan plan = check_sampled_clips(clips, sample_ids, named);
  const uint32_t checked_epoch = check_epoch(epoch, epoch_tensor, sample_ids);
  PasteArguments arguments = check_byte_clips(clips, sample_ids, plan);
  if (arguments.channels != 3) fail("clips: got ", arguments.channels, " channels, needs 3 for objects of RGBA");
  for (const auto& [tensor, name] : {std::pair{&texels, "texels"}, {&sizes, "sizes"}, {&first_row, "first_row"}}) {
    check_device(*tensor, name, sample_ids, "sample_ids");
  }
  const ObjectImages images = check_objects(texels, sizes, first_row);
  for (const Tensor& clip : clips) check_apart(texels, "texels", clip, "clips");
  prepare_to_write(clips, "clips");
  const int64_t count = arguments.batch * arguments.num_tubelets;
  // Tubelets that nobody asks for.
  std::vector<float> numbers(static_cast<size_t>(count * numbers_of_tubelet(arguments.frames)));
  std::vector<int32_t> integers(static_cast<size_t>(count * kIntegersOfTubelet));
  const TubeletFields fields = fields_in(numbers.data(), integers.data(), count, arguments.frames);
  const Tensor dense_ids = sample_ids.is_contiguous() ? sample_ids : torch::stable::contiguous(sample_ids);
  const int64_t* ids = static_cast<const int64_t*>(dense_ids.const_data_ptr());
  draw_tubelets(plan, named, ids, arguments.batch, seed, checked_epoch, fields);

  use_fields(fields, arguments);
  arguments.patch_channels = 4;
  arguments.has_alpha = true;
  const uint64_t key = object_key(static_cast<uint64_t>(seed), checked_epoch);
  std::vector<int32_t> size(static_cast<size_t>(2 * count));
  std::vector<BytePatch> patches(static_cast<size_t>(count));
  for (int64_t index = 0; index < count; ++index) {
    const int64_t sample = index / arguments.num_tubelets, tubelet = index % arguments.num_tubelets;
    const int64_t object =
        choose_object(key, static_cast<uint64_t>(ids[sample]), static_cast<uint64_t>(tubelet), images.count);
    const int32_t* box = fields.patch_box + 4 * index;
    const int32_t outline[2] = {box[2] - box[0], box[3] - box[1]};
    const int64_t level = choose_level(images, object, outline[0], outline[1]);
    check_object_level(images, object, level);
    const int64_t row = object * images.rows_per_object + images.first_row[level];
    patches[index] = {images.texels + row * images.side * 4, 1, images.side * 4, 4};
    // The image is stretched to the outline of its tubelet.
    float* linear = fields.linear + 4 * index * arguments.frames;
    for (int axis = 0; axis < 2; ++axis) {
      const int32_t side = images.sizes[2 * (object * images.levels + level) + axis];
      size[2 * index + axis] = side;
      const float stretch = static_cast<float>(outline[axis]) / static_cast<float>(side);
      for (int64_t entry = axis; entry < 4 * arguments.frames; entry += 2) linear[entry] *= stretch;
    }
  }
  arguments.patch_size = size.data();
  paste_bytes(arguments, patches);
}

STABLE_TORCH_LIBRARY_IMPL(tubeletx, CPU, library) {
  library.impl("sample_and_paste_", TORCH_BOX(&sample_and_paste_));
  library.impl("paste_objects_", TORCH_BOX(&paste_objects_));
}

}  // namespace
}  // namespace tubeletx::cpu
