// Cuts the patches of tubelets out of a clip. A patch is one run of memory, shared out among its blocks; a thread makes
// one word of it. The copy is small, so that what counts is how many loads are on their way at once.
#include "cuda/crop_patches.h"

#include <cstring>

#include "cuda/device.h"

namespace tubeletx::cuda {
namespace {

template <typename Element>
struct CropPatches {
  static constexpr int kThreads = 256;
  /// Elements of a word.
  static constexpr int kWord = sizeof(Element) < 4 ? 4 / sizeof(Element) : 1;
  static constexpr int32_t kBlockElements = kThreads * kWord;

  CropArguments arguments;
  const Element* clip;
  const int32_t* patch_frame;
  const int32_t* patch_box;
  Element* patches;

  TUBELETX_HOST_DEVICE int64_t patch_elements() const {
    return arguments.height * arguments.width * arguments.channels;
  }
  TUBELETX_HOST_DEVICE int64_t blocks_per_patch() const {
    return (patch_elements() + kBlockElements - 1) / kBlockElements;
  }
  int64_t num_blocks() const { return arguments.batch * arguments.num_tubelets * blocks_per_patch(); }
  int64_t shared_bytes() const { return 0; }

  TUBELETX_DEVICE void operator()(int64_t block) const {
    const int64_t patch = block / blocks_per_patch(), part = block % blocks_per_patch();
    copy_word(patch, part * kBlockElements + kWord * device::thread());
  }

 private:
  /// Elements first .. first + kWord - 1 of a patch, as far as it goes.
  TUBELETX_HOST_DEVICE void copy_word(int64_t patch, int64_t first) const {
    const int64_t elements = patch_elements();
    if (first >= elements) return;
    const CropArguments& a = arguments;
    const int32_t* box = patch_box + 4 * patch;
    const int32_t frame = patch_frame[patch];
    const bool known_frame = 0 <= frame && frame < a.frames;
    const Element* source = clip + patch / a.num_tubelets * a.batch_stride + frame * a.frame_stride;
    const int32_t x_begin = box[0], y_begin = box[1], x_end = box[2], y_end = box[3];

    const uint32_t channels = static_cast<uint32_t>(a.channels), width = static_cast<uint32_t>(a.width);
    uint32_t channel = static_cast<uint32_t>(first) % channels;
    uint32_t x = static_cast<uint32_t>(first) / channels % width;
    uint32_t y = static_cast<uint32_t>(first) / channels / width;
    Element word[kWord] = {};
    TUBELETX_UNROLL
    for (int i = 0; i < kWord; ++i) {
      // Nothing is read outside of the frame, whatever the box says: here nobody has looked at its values.
      const int64_t column = x_begin + int64_t{x}, row = y_begin + int64_t{y};
      if (known_frame && 0 <= column && column < x_end && column < a.clip_width && 0 <= row && row < y_end &&
          row < a.clip_height) {
        word[i] = source[row * a.row_stride + column * a.column_stride + channel * a.channel_stride];
      }
      if (++channel == channels) {
        channel = 0;
        if (++x == width) {
          x = 0;
          ++y;
        }
      }
    }
    Element* out = patches + patch * elements + first;
    if (kWord > 1 && elements % kWord == 0) {  // then every word is aligned
      uint32_t bits;
      memcpy(&bits, word, sizeof(bits));
      *reinterpret_cast<uint32_t*>(out) = bits;
    } else {
      for (int i = 0; i < kWord; ++i) {
        if (first + i < elements) out[i] = word[i];
      }
    }
  }
};

template <typename Element>
void crop(const CropArguments& arguments, const void* clip, const int32_t* patch_frame, const int32_t* patch_box,
          void* patches, Stream stream) {
  device::launch("crop_patches",
                 CropPatches<Element>{arguments, static_cast<const Element*>(clip), patch_frame, patch_box,
                                      static_cast<Element*>(patches)},
                 stream);
}

}  // namespace

void launch_crop_patches(const CropArguments& arguments, int64_t element_size, const void* clip,
                         const int32_t* patch_frame, const int32_t* patch_box, void* patches, Stream stream) {
  switch (element_size) {  // a copy looks at nothing else
    case 1:
      return crop<uint8_t>(arguments, clip, patch_frame, patch_box, patches, stream);
    case 2:
      return crop<uint16_t>(arguments, clip, patch_frame, patch_box, patches, stream);
    case 4:
      return crop<uint32_t>(arguments, clip, patch_frame, patch_box, patches, stream);
    default:
      return crop<uint64_t>(arguments, clip, patch_frame, patch_box, patches, stream);
  }
}

}  // namespace tubeletx::cuda
