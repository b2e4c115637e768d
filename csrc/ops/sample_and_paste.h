// Arguments of sample_and_paste_ and paste_objects_.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "core/tubelet_sampler.h"
#include "ops/check.h"
#include "ops/paste_tubelets.h"
#include "ops/paste_tubelets_arguments.h"
#include "ops/sample_tubelets.h"
#include "ops/write.h"

namespace tubeletx {

/// What both draw and where they paste it; the fields of the tubelets are still to be filled in.
inline PasteArguments check_byte_clips(const std::vector<Tensor>& clips, const Tensor& sample_ids,
                                       const SamplerPlan& plan) {
  check_dtype(clips.front(), "clips", {ScalarType::Byte});
  check_clips(clips, "clips", sample_ids, /*allow_bytes=*/true, "sample_ids");
  check_distinct(clips);
  const auto sizes = clips.front().sizes();
  if (sample_ids.size(0) != sizes[0]) {
    fail("sample_ids: got shape ", shape_text(sample_ids), ", needs one id for each of ", sizes[0], " samples");
  }
  PasteArguments arguments = {};
  arguments.batch = sizes[0];
  arguments.num_clips = static_cast<int64_t>(clips.size());
  arguments.num_tubelets = plan.num_tubelets;
  arguments.channels = sizes[1];
  arguments.frames = sizes[2];
  arguments.height = sizes[3];
  arguments.width = sizes[4];
  for (int64_t v = 0; v < arguments.num_clips; ++v) arguments.clips[v] = clip_view(clips[v]);
  return arguments;
}

/// The plan for clips of this shape.
inline SamplerPlan check_sampled_clips(const std::vector<Tensor>& clips, const Tensor& sample_ids,
                                       const SamplerSettings& settings) {
  if (clips.empty()) fail("clips: got an empty list, needs at least one clip");
  check_shape(clips.front(), "clips", {kAny, kAny, kAny, kAny, kAny}, "(B, C, T, H, W)");
  const auto sizes = clips.front().sizes();
  return check_sample_tubelets(sample_ids, sizes[2], sizes[3], sizes[4], settings);
}

inline void use_fields(const TubeletFields& fields, PasteArguments& arguments) {
  static_cast<TubeletGeometry&>(arguments) = {fields.centers, fields.linear,  fields.shape,
                                              fields.edge,    fields.opacity, fields.order};
}

inline void check_largest_patch(const std::vector<int64_t>& largest) {
  if (largest.size() != 2 || largest[0] < 1 || largest[1] < 1) {
    fail("largest_patch: got ", largest.size(), " numbers", largest.size() == 2 ? ", of which one is below 1" : "",
         ", needs a height and a width of at least 1");
  }
}

/// Patches that are still part of the first clip, up to the given height and width.
inline void use_first_clip(const std::vector<int64_t>& largest, PasteArguments& arguments) {
  check_largest_patch(largest);
  const ClipView& clip = arguments.clips[0];
  arguments.patches = clip.data;
  arguments.patch_channels = arguments.channels;
  arguments.patch_height = std::min(largest[0], arguments.height);
  arguments.patch_width = std::min(largest[1], arguments.width);
  arguments.patch_batch_stride = clip.batch_stride;
  arguments.patch_channel_stride = clip.channel_stride;
  arguments.patch_row_stride = clip.row_stride;
  arguments.patch_column_stride = clip.column_stride;
  if (!can_count_texels(arguments)) {
    fail("largest_patch: got ", largest[0], " x ", largest[1], " (height x width) for ", arguments.channels,
         " channels, needs fewer than 2^31 elements in a patch");
  }
}

/// Images of objects in several sizes each, as tubeletx.ObjectPatches keeps them.
struct ObjectImages {
  const uint8_t* texels;     ///< rows of `side` RGBA texels; every object takes rows_per_object of them
  const int32_t* sizes;      ///< (N, L, 2), width and height of each level, the largest first
  const int64_t* first_row;  ///< (L,), of a level within an object
  int64_t count, levels, side, rows_per_object;
};

inline ObjectImages check_objects(const Tensor& texels, const Tensor& sizes, const Tensor& first_row) {
  check_shape(sizes, "sizes", {kAny, kAny, 2}, "(N, L, 2)");
  check_dtype(sizes, "sizes", {ScalarType::Int});
  ObjectImages images = {};
  images.count = sizes.size(0);
  images.levels = sizes.size(1);
  if (images.count < 1 || images.levels < 1) {
    fail("sizes: got shape ", shape_text(sizes), ", needs at least one object and level");
  }
  check_shape(first_row, "first_row", {images.levels}, "(L,)");
  check_dtype(first_row, "first_row", {ScalarType::Long});
  check_shape(texels, "texels", {kAny, kAny}, "(N * rows + side, side * 4)");
  check_dtype(texels, "texels", {ScalarType::Byte});
  images.side = texels.size(1) / 4;
  images.rows_per_object = (texels.size(0) - images.side) / images.count;
  const bool whole = texels.size(1) % 4 == 0 && texels.size(0) == images.count * images.rows_per_object + images.side;
  if (!whole || images.rows_per_object < 1) {
    fail("texels: got shape ", shape_text(texels), ", needs (N * rows + side, side * 4) with N = ", images.count);
  }
  for (const auto& [tensor, name] : {std::pair{&texels, "texels"}, {&sizes, "sizes"}, {&first_row, "first_row"}}) {
    if (!tensor->is_contiguous()) fail(name, ": is not contiguous; needs .contiguous()");
  }
  images.texels = static_cast<const uint8_t*>(texels.const_data_ptr());
  images.sizes = static_cast<const int32_t*>(sizes.const_data_ptr());
  images.first_row = static_cast<const int64_t*>(first_row.const_data_ptr());
  return images;
}

/// An image that is about to be read.
inline void check_object_level(const ObjectImages& images, int64_t object, int64_t level) {
  const int32_t* size = images.sizes + 2 * (object * images.levels + level);
  const int64_t first = images.first_row[level];
  const bool inside =
      size[0] > 0 && size[0] <= images.side && size[1] > 0 && first >= 0 && first <= images.rows_per_object - size[1];
  if (!inside) {
    fail("sizes: got ", size[0], " x ", size[1], " (width x height) at row ", first, ", needs an image inside the ",
         images.rows_per_object, " rows of ", images.side, " texels of an object");
  }
}

}  // namespace tubeletx
