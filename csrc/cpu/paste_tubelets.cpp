// Pastes tubelets onto clips. A row of the footprint is seen once (places, weights, coverage, warped colours), in
// vector registers, and then goes to every clip that shares it.
#include "ops/paste_tubelets.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <type_traits>
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

namespace tubeletx::cpu {
namespace {

/// Pixels seen at a time. Loops run over whole vectors, past the end of a row's span: there nothing covers.
constexpr int64_t kBlock = 128;
constexpr int64_t kVector = 16;

/// Channels that are warped together, so that the row of an RGB clip in channels-last order is written as one run.
constexpr int64_t kPacked = 3;

template <typename Real>
struct Row {
  alignas(64) int32_t texel[kBlock];
  alignas(64) Real weight[4][kBlock];
  alignas(64) Real strength[kBlock];
  alignas(64) Real keep[kBlock];
  alignas(64) Real light[kPacked][kBlock];
  alignas(64) Real packed_keep[kPacked * kBlock];
  alignas(64) Real packed_light[kPacked * kBlock];
};

constexpr int64_t whole_vectors(int64_t count) { return (count + kVector - 1) / kVector * kVector; }

/// Sees pixels column .. column + count - 1 of a row; returns how many are covered fully.
template <Shape kShape, typename Real>
TUBELETX_INLINE int64_t see_row(const Pose<Real>& given, int32_t column, int32_t row, int64_t count, int32_t pitch,
                                Row<Real>& out) {
  const Pose<Real> pose = given;
  const int32_t end = static_cast<int32_t>(count);
  const int32_t padded = static_cast<int32_t>(whole_vectors(count));
  int32_t full = 0;
  for (int32_t i = 0; i < padded; ++i) {
    const Sight<Real> sight = see_patch<kShape>(pose, column + i, row);
    const Real strength = i < end ? sight.strength : Real(0);
    out.texel[i] = sight.row * pitch + sight.column;
    for (int k = 0; k < 4; ++k) out.weight[k][i] = sight.weight[k];
    out.strength[i] = strength;
    out.keep[i] = Real(1) - strength;
    full += strength == Real(1);
  }
  return full;
}

/// The four taps of a place, one channel.
template <typename Real>
struct Taps {
  Real tap[4];
};

TUBELETX_INLINE Taps<float> fetch_taps(const uint32_t* texels, int32_t place, int32_t, int32_t) {
  const uint32_t word = texels[place];
  return {{static_cast<float>(static_cast<int32_t>(word & 255u)), static_cast<float>(static_cast<int32_t>((word >> 8) & 255u)),
           static_cast<float>(static_cast<int32_t>((word >> 16) & 255u)), static_cast<float>(static_cast<int32_t>(word >> 24))}};
}

template <typename Real>
TUBELETX_INLINE Taps<Real> fetch_taps(const Real* texels, int32_t place, int32_t channels, int32_t row_length) {
  return {{texels[place], texels[place + channels], texels[place + row_length], texels[place + row_length + channels]}};
}

/// Premultiplies: the weights take in the alpha of their texels, and what is kept of the background grows.
template <typename Real, typename Texel>
TUBELETX_INLINE void apply_alpha(const Texel* texels, int32_t channels, int32_t row_length, int64_t count, Row<Real>& row) {
  constexpr Real kOpaque = std::is_same_v<Texel, uint32_t> ? Real(255) : Real(1);
  const int32_t padded = static_cast<int32_t>(whole_vectors(count));
  for (int32_t i = 0; i < padded; ++i) {
    const Taps<Real> alpha = fetch_taps(texels, row.texel[i] * channels + (channels - 1), channels, row_length);
    for (int k = 0; k < 4; ++k) row.weight[k][i] = row.weight[k][i] * (alpha.tap[k] / kOpaque);
    const Real covered = ((row.weight[0][i] + row.weight[1][i]) + row.weight[2][i]) + row.weight[3][i];
    row.keep[i] = Real(1) - row.strength[i] * covered;
  }
}

/// Warps one channel: what the tubelet adds to each pixel of the row.
template <typename Real, typename Texel>
TUBELETX_INLINE void warp_row(const Texel* texels, int32_t channel, int32_t channels, int32_t row_length, int64_t count,
                              Row<Real>& row, Real* light) {
  const int32_t padded = static_cast<int32_t>(whole_vectors(count));
  for (int32_t i = 0; i < padded; ++i) {
    const Taps<Real> colour = fetch_taps(texels, row.texel[i] * channels + channel, channels, row_length);
    const Real warped = weigh(row.weight[0][i], row.weight[1][i], row.weight[2][i], row.weight[3][i], colour.tap[0],
                              colour.tap[1], colour.tap[2], colour.tap[3]);
    // Where nothing covers, not even a colour that is not finite may show.
    light[i] = row.strength[i] > 0 ? warped * row.strength[i] : Real(0);
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

/// Writes a warped block of `count` pixels from `begin` on, channels first_channel .. + num_channels, to one clip.
template <typename Pixel>
TUBELETX_INLINE void write_block(const PasteArguments& arguments, const ClipView& clip, int64_t b, int64_t t, int64_t y,
                                 int64_t x, int64_t first_channel, int64_t num_channels, int64_t count,
                                 const Pixel* finished, const Row<Real<Pixel>>& row, int64_t skip) {
  Pixel* pixels = static_cast<Pixel*>(clip.data) + b * clip.batch_stride + t * clip.frame_stride + y * clip.row_stride +
                  x * clip.column_stride + first_channel * clip.channel_stride;
  if (arguments.channels == kPacked && clip.channel_stride == 1 && clip.column_stride == kPacked) {
    if (finished != nullptr) {
      memcpy(pixels, finished, count * kPacked * sizeof(Pixel));
    } else {
      blend_run(pixels, 1, row.packed_keep + skip * kPacked, row.packed_light + skip * kPacked, count * kPacked);
    }
    return;
  }
  for (int64_t c = 0; c < num_channels; ++c) {
    blend_run(pixels + c * clip.channel_stride, clip.column_stride, row.keep + skip, row.light[c] + skip, count);
  }
}

/// One tubelet in one frame, onto clips first .. last - 1, which see it at the same place.
template <typename Pixel>
TUBELETX_INLINE void paste_layer(const PasteArguments& arguments, const Texel<Pixel>* texels, int64_t b, int64_t t,
                                 int64_t m, int64_t first, int64_t last, Row<Real<Pixel>>& row) {
  const int64_t tubelet = b * arguments.num_tubelets + m;
  const int64_t frame = tubelet * arguments.frames + t;
  const float* offset = arguments.offsets == nullptr
                            ? nullptr
                            : arguments.offsets + 2 * ((b * arguments.num_clips + first) * arguments.num_tubelets + m);
  const int32_t width = arguments.patch_size[2 * tubelet];
  Pose<Real<Pixel>> pose;
  if (!make_pose(arguments.centers + 2 * frame, offset, arguments.linear + 4 * frame, width,
                 arguments.patch_size[2 * tubelet + 1], arguments.edge[tubelet], arguments.opacity[frame], pose)) {
    return;
  }
  const Shape shape = static_cast<Shape>(arguments.shape[tubelet]);
  const Footprint footprint(pose, shape, arguments.height, arguments.width);
  const int32_t channels = static_cast<int32_t>(arguments.patch_channels);
  const int32_t pitch = width + 1;
  const int32_t row_length = pitch * channels;
  alignas(64) Pixel finished[kPacked * kBlock];
  const bool pack = arguments.channels == kPacked;

  for (int64_t y = footprint.row_begin; y < footprint.row_end; ++y) {
    int64_t row_begin, row_end;
    footprint.span(y, row_begin, row_end);
    for (int64_t x = row_begin; x < row_end; x += kBlock) {
      const int64_t seen = std::min(kBlock, row_end - x);
      const int32_t column = static_cast<int32_t>(x), line = static_cast<int32_t>(y);
      int64_t full;
      switch (shape) {
        case Shape::kRectangle:
          full = see_row<Shape::kRectangle>(pose, column, line, seen, pitch, row);
          break;
        case Shape::kEllipse:
          full = see_row<Shape::kEllipse>(pose, column, line, seen, pitch, row);
          break;
        default:
          full = see_row<Shape::kRhombus>(pose, column, line, seen, pitch, row);
      }
      int64_t begin = 0, end = seen;
      while (begin < end && row.strength[begin] == 0) ++begin;
      while (begin < end && row.strength[end - 1] == 0) --end;
      const int64_t count = end - begin;
      if (count == 0) continue;
      if (arguments.has_alpha) apply_alpha(texels, channels, row_length, seen, row);
      const bool opaque = full == count && !arguments.has_alpha;

      for (int64_t c = 0; c < arguments.channels; c += kPacked) {
        const int64_t num_channels = std::min(kPacked, arguments.channels - c);
        for (int64_t k = 0; k < num_channels; ++k) {
          warp_row(texels, static_cast<int32_t>(c + k), channels, row_length, seen, row, row.light[k]);
        }
        if (pack) {
          const int64_t padded = whole_vectors(seen);
          if (opaque) {
            for (int64_t i = 0; i < padded; ++i) {
              for (int64_t k = 0; k < kPacked; ++k) finished[kPacked * i + k] = from_real<Pixel>(row.light[k][i]);
            }
          } else {
            for (int64_t i = 0; i < padded; ++i) {
              for (int64_t k = 0; k < kPacked; ++k) {
                row.packed_light[kPacked * i + k] = row.light[k][i];
                row.packed_keep[kPacked * i + k] = row.keep[i];
              }
            }
          }
        }
        for (int64_t v = first; v < last; ++v) {
          write_block(arguments, arguments.clips[v], b, t, y, x + begin, c, num_channels, count,
                      opaque ? finished + kPacked * begin : nullptr, row, begin);
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
  Row<Real<Pixel>> row;
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
