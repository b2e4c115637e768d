// Pastes tubelets onto clips. A row of the footprint is seen once (places, weights, coverage, warped colours), in
// vector registers, and then goes to every clip that shares it.
#include "ops/paste_tubelets.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "core/blend.h"
#include "core/paste_arguments.h"
#include "core/pose.h"
#include "core/shapes.h"
#include "cpu/multiversion.h"
#include "cpu/operators.h"
#include "cpu/paint_order.h"
#include "cpu/parallel.h"
#include "cpu/texels.h"

// Hides from the compiler where a value comes from, which keeps the loop around it scalar.
#if defined(__GNUC__)
#define TUBELETX_SCALAR(value) __asm__("" : "+r"(value))
#else
#define TUBELETX_SCALAR(value)
#endif

namespace tubeletx::cpu {
namespace {

/// Pixels seen at a time.
constexpr int32_t kBlock = 128;

/// Loops over pixels run in whole vectors of this length, past the end of a row's span: there nothing covers.
constexpr int32_t kVector = 16;

/// Channels of a clip whose rows are written as one run where they stand side by side.
constexpr int64_t kPacked = 3;

/// The taps of each place of a row, one group of channels. They come a texel at a time and are used a channel at a time.
template <typename Texel, int64_t kWords>
struct TapRow {
  alignas(64) Texel fetched[kWords][kBlock][kGroup];
  alignas(64) Texel word[kWords][kGroup][kBlock];

  TUBELETX_INLINE void turn(int32_t first) {
    for (int64_t k = 0; k < kWords; ++k) {
      for (int32_t i = first; i < first + kVector; ++i) {
        for (int64_t channel = 0; channel < kGroup; ++channel) word[k][channel][i] = fetched[k][i][channel];
      }
    }
  }
};

template <typename Texel>
struct Taps : TapRow<Texel, 4> {
  TUBELETX_INLINE void fetch(const Texel* texel, int64_t length, int64_t row_length, int32_t i) {
    memcpy(this->fetched[0][i], texel, sizeof(this->fetched[0][i]));
    memcpy(this->fetched[1][i], texel + length, sizeof(this->fetched[0][i]));
    memcpy(this->fetched[2][i], texel + row_length, sizeof(this->fetched[0][i]));
    memcpy(this->fetched[3][i], texel + row_length + length, sizeof(this->fetched[0][i]));
  }
  TUBELETX_INLINE Texel get(int k, int32_t i, int64_t channel) const { return this->word[k][channel][i]; }
};

template <>
struct Taps<uint32_t> : TapRow<uint32_t, 1> {
  TUBELETX_INLINE void fetch(const uint32_t* texel, int64_t, int64_t, int32_t i) {
    memcpy(fetched[0][i], texel, sizeof(fetched[0][i]));
  }
  TUBELETX_INLINE float get(int k, int32_t i, int64_t channel) const {
    return static_cast<float>(static_cast<int32_t>((word[0][channel][i] >> (8 * k)) & 255u));
  }
};

/// Scratch of one thread.
template <typename Pixel>
struct Row {
  using Number = Real<Pixel>;
  alignas(64) int32_t texel[kBlock];
  alignas(64) Number weight[4][kBlock];
  alignas(64) Number strength[kBlock];
  alignas(64) Number keep[kBlock];
  Taps<Texel<Pixel>> taps;
  alignas(64) Number light[kGroup][kBlock];
  alignas(64) Number packed_keep[kPacked * kBlock];
  alignas(64) Number packed_light[kPacked * kBlock];
  alignas(64) uint32_t rgb[kBlock];
  alignas(64) Pixel finished[kPacked * kBlock + 1];
};

/// Sees pixels column .. column + count - 1 of a row; returns how many are covered fully.
template <Shape kShape, typename Pixel>
TUBELETX_INLINE int64_t see_row(const Pose<Real<Pixel>>& given, int32_t column, int32_t row, int32_t count,
                                int32_t pitch, int32_t length, Row<Pixel>& out) {
  using Number = Real<Pixel>;
  const Pose<Number> pose = given;
  int32_t full[kVector] = {};
  for (int32_t first = 0; first < count; first += kVector) {
    for (int32_t lane = 0; lane < kVector; ++lane) {
      const int32_t i = first + lane;
      const Sight<Number> sight = see_patch<kShape>(pose, column + i, row);
      const Number strength = i < count ? sight.strength : Number(0);
      out.texel[i] = (sight.row * pitch + sight.column) * length;
      for (int k = 0; k < 4; ++k) out.weight[k][i] = sight.weight[k];
      out.strength[i] = strength;
      out.keep[i] = Number(1) - strength;
      full[lane] += strength == Number(1);
    }
  }
  int64_t total = 0;
  for (int32_t lanes : full) total += lanes;
  return total;
}

/// Loads and stores one by one: taken for a vector loop, this becomes inserts and extracts, or a gather, both slower.
template <typename Pixel>
TUBELETX_INLINE void fetch_taps(const Texel<Pixel>* texels, int64_t length, int64_t row_length, int32_t count,
                                Row<Pixel>& row) {
  const int32_t end = (count + kVector - 1) / kVector * kVector;
  for (int32_t i = 0; i < end; ++i) {
    const Texel<Pixel>* texel = texels + row.texel[i];
    TUBELETX_SCALAR(texel);
    row.taps.fetch(texel, length, row_length, i);
  }
  for (int32_t first = 0; first < count; first += kVector) row.taps.turn(first);
}

/// Premultiplies: the weights take in the alpha of their texels, and what is kept of the background grows.
template <typename Pixel>
TUBELETX_INLINE void apply_alpha(int64_t channel, int32_t count, Row<Pixel>& row) {
  using Number = Real<Pixel>;
  for (int32_t first = 0; first < count; first += kVector) {
    for (int32_t i = first; i < first + kVector; ++i) {
      Number covered = 0;
      for (int k = 0; k < 4; ++k) {
        row.weight[k][i] = row.weight[k][i] * (row.taps.get(k, i, channel) / alpha_unit<Pixel>());
        covered = covered + row.weight[k][i];
      }
      row.keep[i] = Number(1) - row.strength[i] * covered;
    }
  }
}

/// Warps one channel: what the tubelet adds to each pixel of the row.
template <typename Pixel>
TUBELETX_INLINE void warp_row(int64_t channel, int32_t count, Row<Pixel>& row) {
  using Number = Real<Pixel>;
  Number* light = row.light[channel];
  for (int32_t first = 0; first < count; first += kVector) {
#pragma GCC ivdep
    for (int32_t i = first; i < first + kVector; ++i) {
      const Number warped = weigh<Number>(row.weight[0][i], row.weight[1][i], row.weight[2][i], row.weight[3][i],
                                          row.taps.get(0, i, channel), row.taps.get(1, i, channel),
                                          row.taps.get(2, i, channel), row.taps.get(3, i, channel));
      // Where nothing covers, not even a colour that is not finite may show.
      light[i] = row.strength[i] > 0 ? warped * row.strength[i] : Number(0);
    }
  }
}

/// Puts the three channels of a row side by side, as they stand in a channels-last clip: as pixels where the tubelet
/// hides the background, else as the numbers to blend with.
template <typename Pixel>
TUBELETX_INLINE void pack_row(bool opaque, int32_t count, Row<Pixel>& row) {
  if (!opaque) {
    for (int32_t first = 0; first < count; first += kVector) {
      for (int32_t i = first; i < first + kVector; ++i) {
        for (int64_t k = 0; k < kPacked; ++k) {
          row.packed_light[kPacked * i + k] = row.light[k][i];
          row.packed_keep[kPacked * i + k] = row.keep[i];
        }
      }
    }
  } else if constexpr (sizeof(Pixel) == 1) {
    for (int32_t first = 0; first < count; first += kVector) {
      for (int32_t i = first; i < first + kVector; ++i) {
        row.rgb[i] = uint32_t(from_real<Pixel>(row.light[0][i])) | (uint32_t(from_real<Pixel>(row.light[1][i])) << 8) |
                     (uint32_t(from_real<Pixel>(row.light[2][i])) << 16);
      }
    }
    // Each store overlaps the next, which puts the byte too many right.
    for (int32_t i = 0; i < count; ++i) memcpy(row.finished + kPacked * i, row.rgb + i, sizeof(uint32_t));
  } else {
    for (int32_t first = 0; first < count; first += kVector) {
      for (int32_t i = first; i < first + kVector; ++i) {
        for (int64_t k = 0; k < kPacked; ++k) row.finished[kPacked * i + k] = from_real<Pixel>(row.light[k][i]);
      }
    }
  }
}

template <typename Pixel>
TUBELETX_INLINE void blend_run(Pixel* pixels, int64_t stride, const Real<Pixel>* keep, const Real<Pixel>* light,
                               int64_t count) {
  if (stride == 1) {
#pragma GCC ivdep
    for (int64_t i = 0; i < count; ++i) pixels[i] = blend(pixels[i], keep[i], light[i]);
  } else {
    for (int64_t i = 0; i < count; ++i) pixels[i * stride] = blend(pixels[i * stride], keep[i], light[i]);
  }
}

/// Writes pixels [begin, end) of the row, which stand at column x + begin, channels first_channel .. + num_channels.
template <typename Pixel>
TUBELETX_INLINE void write_row(const ClipView& clip, int64_t b, int64_t t, int64_t y, int64_t x, int64_t first_channel,
                               int64_t num_channels, bool packed, bool opaque, int64_t begin, int64_t end,
                               const Row<Pixel>& row) {
  Pixel* pixels = static_cast<Pixel*>(clip.data) + b * clip.batch_stride + t * clip.frame_stride + y * clip.row_stride +
                  (x + begin) * clip.column_stride + first_channel * clip.channel_stride;
  const int64_t count = end - begin;
  if (packed && clip.channel_stride == 1 && clip.column_stride == kPacked) {
    begin *= kPacked;
    if (opaque) {
      memcpy(pixels, row.finished + begin, count * kPacked * sizeof(Pixel));
    } else {
      blend_run(pixels, 1, row.packed_keep + begin, row.packed_light + begin, count * kPacked);
    }
    return;
  }
  for (int64_t c = 0; c < num_channels; ++c) {
    blend_run(pixels + c * clip.channel_stride, clip.column_stride, row.keep + begin, row.light[c] + begin, count);
  }
}

/// One tubelet in one frame, onto clips first .. last - 1, which see it at the same place.
template <typename Pixel>
TUBELETX_INLINE void paste_layer(const PasteArguments& arguments, const Texel<Pixel>* texels, int64_t b, int64_t t,
                                 int64_t m, int64_t first, int64_t last, Row<Pixel>& row) {
  const int64_t tubelet = b * arguments.num_tubelets + m;
  Pose<Real<Pixel>> pose;
  if (!pose_of(arguments, b, first, m, t, pose)) return;
  const Shape shape = static_cast<Shape>(arguments.shape[tubelet]);
  const Footprint footprint(pose, shape, arguments.height, arguments.width);
  const int64_t length = texel_length(arguments);
  const int32_t pitch = arguments.patch_size[2 * tubelet] + 1;
  const int64_t row_length = pitch * length;
  const bool packed = arguments.channels == kPacked;

  for (int64_t y = footprint.row_begin; y < footprint.row_end; ++y) {
    int64_t row_begin, row_end;
    footprint.span(y, row_begin, row_end);
    for (int64_t x = row_begin; x < row_end; x += kBlock) {
      const int32_t seen = static_cast<int32_t>(std::min<int64_t>(kBlock, row_end - x));
      const int32_t column = static_cast<int32_t>(x), line = static_cast<int32_t>(y);
      int64_t full;
      switch (shape) {
        case Shape::kRectangle:
          full = see_row<Shape::kRectangle>(pose, column, line, seen, pitch, static_cast<int32_t>(length), row);
          break;
        case Shape::kEllipse:
          full = see_row<Shape::kEllipse>(pose, column, line, seen, pitch, static_cast<int32_t>(length), row);
          break;
        default:
          full = see_row<Shape::kRhombus>(pose, column, line, seen, pitch, static_cast<int32_t>(length), row);
      }
      int64_t begin = 0, end = seen;
      while (begin < end && row.strength[begin] == 0) ++begin;
      while (begin < end && row.strength[end - 1] == 0) --end;
      if (begin == end) continue;
      const bool opaque = full == end - begin && !arguments.has_alpha;
      if (arguments.has_alpha) {
        const int64_t alpha = arguments.channels;
        fetch_taps(texels + alpha / kGroup * kGroup, length, row_length, seen, row);
        apply_alpha(alpha % kGroup, seen, row);
      }
      for (int64_t c = 0; c < arguments.channels; c += kGroup) {
        const int64_t num_channels = std::min(kGroup, arguments.channels - c);
        fetch_taps(texels + c, length, row_length, seen, row);
        for (int64_t k = 0; k < num_channels; ++k) warp_row(k, seen, row);
        if (packed) pack_row(opaque, seen, row);
        for (int64_t v = first; v < last; ++v) {
          write_row(arguments.clips[v], b, t, y, x, c, num_channels, packed, opaque, begin, end, row);
        }
      }
    }
  }
}

bool same_sight(const PasteArguments& arguments, int64_t b, int64_t m, int64_t clip, int64_t other) {
  if (arguments.patches_per_clip) return false;
  if (arguments.offsets == nullptr) return true;
  const int64_t sample = b * arguments.num_clips;
  return memcmp(arguments.offsets + 2 * ((sample + clip) * arguments.num_tubelets + m),
                arguments.offsets + 2 * ((sample + other) * arguments.num_tubelets + m), 2 * sizeof(float)) == 0;
}

/// Frame t of sample b of every clip, all tubelets in their order.
template <typename Pixel>
TUBELETX_INLINE void paste_frame(const PasteArguments& arguments, const Texels<Pixel>& texels, const int64_t* sequence,
                                 int64_t b, int64_t t) {
  Row<Pixel> row;
  for (int64_t k = 0; k < arguments.num_tubelets; ++k) {
    const int64_t m = sequence[b * arguments.num_tubelets + k];
    int64_t last;
    for (int64_t first = 0; first < arguments.num_clips; first = last) {
      last = first + 1;
      while (last < arguments.num_clips && same_sight(arguments, b, m, first, last)) ++last;
      paste_layer<Pixel>(arguments, texels.get(b, first, m), b, t, m, first, last, row);
    }
  }
}

// One plain function a pixel type, for the sake of TUBELETX_MULTIVERSION.
#define TUBELETX_PASTE_FRAME(Pixel)                                                                            \
  TUBELETX_MULTIVERSION void paste_one_frame(const PasteArguments& arguments, const Texels<Pixel>& texels,     \
                                             const int64_t* sequence, int64_t b, int64_t t) {                  \
    paste_frame<Pixel>(arguments, texels, sequence, b, t);                                                     \
  }
TUBELETX_PASTE_FRAME(uint8_t)
TUBELETX_PASTE_FRAME(Half)
TUBELETX_PASTE_FRAME(BFloat16)
TUBELETX_PASTE_FRAME(float)
TUBELETX_PASTE_FRAME(double)
#undef TUBELETX_PASTE_FRAME

template <typename Pixel>
void paste_all(const PasteArguments& arguments) {
  const Texels<Pixel> texels(arguments);
  const std::vector<int64_t> sequence = paint_order(arguments);
  // A frame of one tubelet takes a few microseconds: handing out fewer than some of them costs more than it gains.
  constexpr int64_t kGrain = 4;
  parallel_for(arguments.batch * arguments.frames, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t frame = begin; frame < end; ++frame) {
      paste_one_frame(arguments, texels, sequence.data(), frame / arguments.frames, frame % arguments.frames);
    }
  });
}

}  // namespace

void paste_tubelets_(const TensorList& clips, const Tensor& patches, const Tensor& patch_size, const Tensor& centers,
                     const Tensor& linear, const Tensor& shape, const Tensor& edge, const Tensor& opacity,
                     const Tensor& order, const std::optional<Tensor>& offsets) {
  const PasteInputs inputs = check_paste(clips, "clips", /*allow_bytes=*/true, patches, patch_size, centers, linear,
                                         shape, edge, opacity, order, offsets);
  check_distinct(clips);
  check_paste_values(inputs.arguments);
  switch (patches.scalar_type()) {
    case ScalarType::Byte:
      return paste_all<uint8_t>(inputs.arguments);
    case ScalarType::Half:
      return paste_all<Half>(inputs.arguments);
    case ScalarType::BFloat16:
      return paste_all<BFloat16>(inputs.arguments);
    case ScalarType::Float:
      return paste_all<float>(inputs.arguments);
    default:
      return paste_all<double>(inputs.arguments);
  }
}

TensorList paste_tubelets(const TensorList& clips, const Tensor& patches, const Tensor& patch_size,
                          const Tensor& centers, const Tensor& linear, const Tensor& shape, const Tensor& edge,
                          const Tensor& opacity, const Tensor& order, const std::optional<Tensor>& offsets) {
  check_clips(clips, "clips", patches, /*allow_bytes=*/true);
  TensorList pasted;
  pasted.reserve(clips.size());
  for (const Tensor& clip : clips) pasted.push_back(torch::stable::clone(clip));
  paste_tubelets_(pasted, patches, patch_size, centers, linear, shape, edge, opacity, order, offsets);
  return pasted;
}

}  // namespace tubeletx::cpu
