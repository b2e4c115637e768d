// Cuts the patches of tubelets out of a clip, padded with zeros to one size.
#include "ops/crop_patches.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <cstdint>
#include <cstring>

#include "cpu/parallel.h"

namespace tubeletx::cpu {
namespace {

template <typename Element>
void crop_all(const CropArguments& a, const void* clip, const int32_t* patch_frame, const int32_t* patch_box,
              void* patches) {
  const int64_t row_length = a.width * a.channels;
  constexpr int64_t kGrain = 8;  // a patch takes about a microsecond
  parallel_for(a.batch * a.num_tubelets, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t index = begin; index < end; ++index) {
      const int32_t* box = patch_box + 4 * index;
      const int64_t width = box[2] - box[0], height = box[3] - box[1];
      const Element* source = static_cast<const Element*>(clip) + index / a.num_tubelets * a.batch_stride +
                              patch_frame[index] * a.frame_stride + box[1] * a.row_stride + box[0] * a.column_stride;
      Element* patch = static_cast<Element*>(patches) + index * a.height * row_length;
      for (int64_t y = 0; y < height; ++y) {
        const Element* from = source + y * a.row_stride;
        Element* to = patch + y * row_length;
        if (a.channel_stride == 1 && a.column_stride == a.channels) {
          memcpy(to, from, width * a.channels * sizeof(Element));
        } else {
          for (int64_t x = 0; x < width; ++x) {
            for (int64_t c = 0; c < a.channels; ++c) {
              to[x * a.channels + c] = from[x * a.column_stride + c * a.channel_stride];
            }
          }
        }
        memset(to + width * a.channels, 0, (a.width - width) * a.channels * sizeof(Element));
      }
      memset(patch + height * row_length, 0, (a.height - height) * row_length * sizeof(Element));
    }
  });
}

Tensor crop_patches(const Tensor& clip, const Tensor& patch_frame, const Tensor& patch_box, int64_t height,
                    int64_t width) {
  const CropArguments arguments = check_crop(clip, patch_frame, patch_box, height, width);
  const Tensor frames = torch::stable::contiguous(patch_frame);
  const Tensor boxes = torch::stable::contiguous(patch_box);
  const int32_t* frame = static_cast<const int32_t*>(frames.const_data_ptr());
  const int32_t* box = static_cast<const int32_t*>(boxes.const_data_ptr());
  check_crop_values(arguments, frame, box);
  Tensor patches = empty_patches(clip, arguments);
  if (patches.numel() == 0) return patches;  // its memory may be a null pointer, which memset must not get
  const void* source = clip.const_data_ptr();
  void* out = patches.mutable_data_ptr();
  switch (clip.scalar_type()) {  // a copy looks only at the size of an element
    case ScalarType::Byte:
      crop_all<uint8_t>(arguments, source, frame, box, out);
      break;
    case ScalarType::Half:
    case ScalarType::BFloat16:
      crop_all<uint16_t>(arguments, source, frame, box, out);
      break;
    case ScalarType::Float:
      crop_all<uint32_t>(arguments, source, frame, box, out);
      break;
    default:
      crop_all<uint64_t>(arguments, source, frame, box, out);
  }
  return patches;
}

STABLE_TORCH_LIBRARY_IMPL(tubeletx, CPU, library) { library.impl("crop_patches", TORCH_BOX(&crop_patches)); }

}  // namespace
}  // namespace tubeletx::cpu
