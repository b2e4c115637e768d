// Patches, rewritten once a call in the form in which the pasting loop reads them: compact, channels last in groups of
// four, and with the right and the lower border repeated, so that the four taps of any place are there.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "core/blend.h"
#include "core/paste_arguments.h"
#include "cpu/multiversion.h"
#include "cpu/parallel.h"

namespace tubeletx::cpu {

/// For bytes the four taps of a place stand in one word, so that one load fetches them all: the texel itself in the low
/// byte, then its right, lower and diagonal neighbours. Other pixels are just converted.
template <typename Pixel>
struct TexelOf {
  using type = Real<Pixel>;
};
template <>
struct TexelOf<uint8_t> {
  using type = uint32_t;
};
template <typename Pixel>
using Texel = typename TexelOf<Pixel>::type;

/// Channels that one load fetches.
inline constexpr int64_t kGroup = 4;

/// Elements of a texel, whole groups.
inline int64_t texel_length(const PasteArguments& arguments) {
  return (arguments.patch_channels + kGroup - 1) / kGroup * kGroup;
}

TUBELETX_MULTIVERSION inline void join_taps(const uint8_t* __restrict row, const uint8_t* __restrict next_row,
                                            int64_t length, int64_t count, uint32_t* __restrict out) {
  for (int64_t index = 0; index < count; ++index) {
    out[index] = uint32_t(row[index]) | (uint32_t(row[index + length]) << 8) | (uint32_t(next_row[index]) << 16) |
                 (uint32_t(next_row[index + length]) << 24);
  }
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
    data_.reset(new Texel<Pixel>[first_[count]]);
    parallel_for(count, 8, [&](int64_t begin, int64_t end) {
      const int64_t row_length = (arguments.patch_width + 1) * length_;
      std::vector<Pixel> rows(static_cast<size_t>(2 * row_length));
      for (int64_t index = begin; index < end; ++index) fill(arguments, index, rows.data(), rows.data() + row_length);
    });
  }

  /// Texels of tubelet m of sample b as clip v sees it: (height + 1, width + 1, texel_length).
  const Texel<Pixel>* get(int64_t b, int64_t v, int64_t m) const {
    return data_.get() + first_[(b * clips_ + (clips_ == 1 ? 0 : v)) * tubelets_ + m];
  }

 private:
  int64_t tubelet_of(int64_t index) const { return index / (clips_ * tubelets_) * tubelets_ + index % tubelets_; }

  void fill(const PasteArguments& arguments, int64_t index, Pixel* row, Pixel* next_row) {
    const int32_t* size = arguments.patch_size + 2 * tubelet_of(index);
    if (first_[index + 1] == first_[index]) return;
    const int64_t width = size[0], height = size[1];
    const int64_t row_length = (width + 1) * length_;
    const Pixel* source = static_cast<const Pixel*>(arguments.patches) +
                          index / (clips_ * tubelets_) * arguments.patch_batch_stride +
                          index / tubelets_ % clips_ * arguments.patch_clip_stride +
                          index % tubelets_ * arguments.patch_tubelet_stride;
    Texel<Pixel>* out = data_.get() + first_[index];
    copy_row(arguments, source, width, row);
    for (int64_t y = 0; y <= height; ++y) {
      if (y + 1 < height) {
        copy_row(arguments, source + (y + 1) * arguments.patch_row_stride, width, next_row);
      } else {
        std::copy(row, row + row_length, next_row);
      }
      if constexpr (sizeof(Pixel) == 1) {
        join_taps(row, next_row, length_, width * length_, out + y * row_length);
      } else {
        std::transform(row, row + row_length, out + y * row_length, [](Pixel pixel) { return to_real(pixel); });
      }
      std::swap(row, next_row);
    }
  }

  void copy_row(const PasteArguments& arguments, const Pixel* source, int64_t width, Pixel* out) const {
    const int64_t channels = arguments.patch_channels;
    for (int64_t x = 0; x < width; ++x) {
      for (int64_t c = 0; c < channels; ++c) {
        out[x * length_ + c] = source[x * arguments.patch_column_stride + c * arguments.patch_channel_stride];
      }
    }
    memcpy(out + width * length_, out + (width - 1) * length_, length_ * sizeof(Pixel));
  }

  int64_t length_, clips_, tubelets_;
  std::vector<int64_t> first_;
  std::unique_ptr<Texel<Pixel>[]> data_;
};

}  // namespace tubeletx::cpu
