// Patches, rewritten once a call in the form in which the pasting loop reads them: compact, channels last in groups of
// four, and with the right and the lower border repeated, so that the four taps of any place are there.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "core/blend.h"
#include "cpu/parallel.h"
#include "ops/paste_tubelets_arguments.h"

namespace tubeletx::cpu {

/// Channels that one load fetches.
inline constexpr int64_t kGroup = 4;

/// Elements of a texel, whole groups.
inline int64_t texel_length(const PasteArguments& arguments) {
  return (arguments.patch_channels + kGroup - 1) / kGroup * kGroup;
}

template <typename Pixel>
class Texels {
 public:
  explicit Texels(const PasteArguments& arguments)
      : length_(texel_length(arguments)),
        clips_(arguments.patches_per_clip ? arguments.num_clips : 1),
        tubelets_(arguments.num_tubelets),
        first_(static_cast<size_t>(arguments.batch * clips_ * tubelets_ + 1)) {
    const int64_t count = static_cast<int64_t>(first_.size()) - 1;
    for (int64_t index = 0; index < count; ++index) {
      const int32_t* size = arguments.patch_size + 2 * tubelet_of(index);
      const int64_t texels = size[0] > 0 && size[1] > 0 ? (int64_t{size[0]} + 1) * (int64_t{size[1]} + 1) : 0;
      first_[index + 1] = first_[index] + texels * length_;
    }
    data_.reset(new Real<Pixel>[first_[count]]);
    parallel_for(count, 8, [&](int64_t begin, int64_t end) {
      std::vector<Pixel> row(static_cast<size_t>((arguments.patch_width + 1) * length_));
      for (int64_t index = begin; index < end; ++index) fill(arguments, index, row.data());
    });
  }

  /// Texels of tubelet m of sample b as clip v sees it: (height + 1, width + 1, texel_length).
  const Real<Pixel>* get(int64_t b, int64_t v, int64_t m) const {
    return data_.get() + first_[(b * clips_ + (clips_ == 1 ? 0 : v)) * tubelets_ + m];
  }

 private:
  int64_t tubelet_of(int64_t index) const { return index / (clips_ * tubelets_) * tubelets_ + index % tubelets_; }

  void fill(const PasteArguments& arguments, int64_t index, Pixel* row) {
    const int32_t* size = arguments.patch_size + 2 * tubelet_of(index);
    if (first_[index + 1] == first_[index]) return;
    const int64_t width = size[0], height = size[1];
    const int64_t row_length = (width + 1) * length_;
    const Pixel* source =
        static_cast<const Pixel*>(arguments.patches) + index / (clips_ * tubelets_) * arguments.patch_batch_stride +
        index / tubelets_ % clips_ * arguments.patch_clip_stride + index % tubelets_ * arguments.patch_tubelet_stride;
    Real<Pixel>* out = data_.get() + first_[index];
    for (int64_t y = 0; y <= height; ++y) {
      if (y < height) copy_row(arguments, source + y * arguments.patch_row_stride, width, row);
      std::transform(row, row + row_length, out + y * row_length, [](Pixel pixel) { return to_real(pixel); });
    }
  }

  void copy_row(const PasteArguments& arguments, const Pixel* source, int64_t width, Pixel* out) const {
    const int64_t channels = arguments.patch_channels;
    int64_t x = 0;
    if (channels <= kGroup && arguments.patch_channel_stride == 1 && arguments.patch_column_stride == channels) {
      // Whole groups while the row lasts: what they hold beyond their own channels is never looked at.
      for (; x * channels + kGroup <= width * channels; ++x) {
        memcpy(out + x * kGroup, source + x * channels, kGroup * sizeof(Pixel));
      }
    }
    for (; x < width; ++x) {
      for (int64_t c = 0; c < channels; ++c) {
        out[x * length_ + c] = source[x * arguments.patch_column_stride + c * arguments.patch_channel_stride];
      }
    }
    memcpy(out + width * length_, out + (width - 1) * length_, length_ * sizeof(Pixel));
  }

  int64_t length_, clips_, tubelets_;
  std::vector<int64_t> first_;
  std::unique_ptr<Real<Pixel>[]> data_;
};

}  // namespace tubeletx::cpu
