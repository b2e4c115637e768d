// Pastes tubelets onto clips of floats; bytes go to paste_bytes. A row of the footprint is seen once (places, weights,
// coverage, warped colours), in vector registers, and then goes to every clip that shares it.
#include "ops/paste_tubelets.h"

#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

#include "core/blend.h"
#include "core/pose.h"
#include "core/shapes.h"
#include "cpu/multiversion.h"
#include "cpu/paint_order.h"
#include "cpu/parallel.h"
#include "cpu/paste_bytes.h"
#include "cpu/same_sight.h"
#include "cpu/texels.h"
#include "ops/paste_tubelets_arguments.h"

namespace tubeletx::cpu {
namespace {

/// Pixels warped at a time, from several rows where they are short: work on more of them overlaps better.
constexpr int32_t kBlock = 256;

/// Loops over pixels run in whole vectors of this length, past the end of a row's span: there nothing covers.
constexpr int32_t kVector = 16;

/// Channels of a clip whose rows are written as one run where they stand side by side.
constexpr int64_t kPacked = 3;

/// The taps of each place of a row, one group of channels. They come a texel at a time and are used a channel at a
/// time.
template <typename Number>
class Taps {
 public:
  /// Fetches the taps of a vector of pixels from i on, all four channels or three. `length` and `row_length` lead to
  /// the right and the lower neighbours.
  template <bool kFour>
  TUBELETX_INLINE void fetch(const Number* texels, const int32_t* place, int64_t length, int64_t row_length,
                             int32_t i) {
    for (int k = 0; k < 4; ++k) {
      const Number* tap = texels + (k % 2) * length + (k / 2) * row_length;
      for (int32_t first = i; first < i + kVector; first += kPixels) {
        // Lane l of pixel[j] holds the texel of pixel j + 4 l: then a transposition within the lanes brings the pixels
        // of each channel into order. In terms that every instruction set has.
        Wide pixel[4], pair[4], channel[4];
        for (int j = 0; j < 4; ++j) lanes(tap, place + first + j, pixel[j]);
        interleave_low(pixel[0], pixel[1], pair[0]);
        interleave_low(pixel[2], pixel[3], pair[1]);
        interleave_high(pixel[0], pixel[1], pair[2]);
        interleave_high(pixel[2], pixel[3], pair[3]);
        join_low(pair[0], pair[1], channel[0]);
        join_high(pair[0], pair[1], channel[1]);
        join_low(pair[2], pair[3], channel[2]);
        join_high(pair[2], pair[3], channel[3]);
        for (int c = 0; c < (kFour ? 4 : 3); ++c) memcpy(&tap_[k][c][first], &channel[c], sizeof(Wide));
      }
    }
  }

  /// Tap k (itself, right, lower, diagonal) of pixel i.
  TUBELETX_INLINE Number get(int k, int32_t i, int64_t channel) const { return tap_[k][channel][i]; }

 private:
  static constexpr bool kNarrow = sizeof(Number) == 4;
  static constexpr int32_t kPixels = kNarrow ? 16 : 4;  ///< that are transposed at a time
  typedef Number Group __attribute__((vector_size(kGroup * sizeof(Number))));
  typedef Number Wide __attribute__((vector_size(kPixels * sizeof(Number))));

  /// Texels at place[0], place[4], ... side by side.
  static TUBELETX_INLINE void lanes(const Number* tap, const int32_t* place, Wide& out) {
    Group group[kPixels / 4];
    for (int l = 0; l < kPixels / 4; ++l) memcpy(&group[l], tap + place[4 * l], sizeof(Group));
    if constexpr (kNarrow) {
      const auto low = __builtin_shufflevector(group[0], group[1], 0, 1, 2, 3, 4, 5, 6, 7);
      const auto high = __builtin_shufflevector(group[2], group[3], 0, 1, 2, 3, 4, 5, 6, 7);
      out = __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    } else {
      out = group[0];
    }
  }

// name(first, second, out): in every lane of four, elements i, j, k, l of first's (0 to 3) and second's (16 to 19).
#define TUBELETX_SHUFFLE_LANES(name, i, j, k, l)                                                                       \
  static TUBELETX_INLINE void name(const Wide& first, const Wide& second, Wide& out) {                                 \
    if constexpr (kNarrow) {                                                                                           \
      out = __builtin_shufflevector(first, second, i, j, k, l, i + 4, j + 4, k + 4, l + 4, i + 8, j + 8, k + 8, l + 8, \
                                    i + 12, j + 12, k + 12, l + 12);                                                   \
    } else {                                                                                                           \
      out = __builtin_shufflevector(first, second, i % 12, j % 12, k % 12, l % 12);                                    \
    }                                                                                                                  \
  }
  TUBELETX_SHUFFLE_LANES(interleave_low, 0, 16, 1, 17)
  TUBELETX_SHUFFLE_LANES(interleave_high, 2, 18, 3, 19)
  TUBELETX_SHUFFLE_LANES(join_low, 0, 1, 16, 17)
  TUBELETX_SHUFFLE_LANES(join_high, 2, 3, 18, 19)
#undef TUBELETX_SHUFFLE_LANES

  alignas(64) Number tap_[4][kGroup][kBlock];
};

constexpr int32_t whole_vectors(int32_t count) { return (count + kVector - 1) / kVector * kVector; }

/// Pixels begin .. end - 1 of a block stand side by side in a row of the frame, from `column` on.
struct Run {
  int64_t row, column;
  int32_t begin, end;
};

/// Scratch of one thread. What is read from the middle on, a vector at a time, has a vector more.
template <typename Pixel>
struct Block {
  using Number = Real<Pixel>;

  void clear() {
    count = num_runs = 0;
    opaque = true;
  }

  int32_t count, num_runs;
  bool opaque;  ///< every pixel of every run is covered fully
  Run runs[kBlock / kVector];
  alignas(64) int32_t texel[kBlock];
  alignas(64) Number weight[4][kBlock];
  alignas(64) Number strength[kBlock];
  alignas(64) Number keep[kBlock + kVector];
  Taps<Number> taps;
  alignas(64) Number light[kGroup][kBlock + kVector];
  alignas(64) Number packed_keep[kPacked * kBlock + kVector];
  alignas(64) Number packed_light[kPacked * kBlock + kVector];
  alignas(64) Pixel finished[kPacked * kBlock + kVector];
  alignas(64) Pixel run[kPacked * kBlock + kVector];
};

/// Sees `count` pixels of a row from `column` on, into the block from `start` on; returns how many are covered fully.
template <Shape kShape, Edge kEdge, typename Pixel>
TUBELETX_INLINE int64_t see_pixels(const Pose<Real<Pixel>>& given, int32_t column, int32_t row, int32_t count,
                                   int32_t pitch, int32_t length, int32_t start, Block<Pixel>& out) {
  using Number = Real<Pixel>;
  const Pose<Number> pose = given;
  int32_t full[kVector] = {};
  for (int32_t first = 0; first < count; first += kVector) {
    for (int32_t lane = 0; lane < kVector; ++lane) {
      const int32_t i = first + lane;
      const Sight<Number> sight = see_patch<kShape, kEdge>(pose, column + i, row);
      const Number strength = i < count ? sight.strength : Number(0);
      out.texel[start + i] = (sight.row * pitch + sight.column) * length;
      for (int k = 0; k < 4; ++k) out.weight[k][start + i] = sight.weight[k];
      out.strength[start + i] = strength;
      full[lane] += strength == Number(1);
    }
  }
  int64_t total = 0;
  for (int32_t lanes : full) total += lanes;
  return total;
}

template <Shape kShape, typename Pixel>
TUBELETX_INLINE int64_t see_row(const Pose<Real<Pixel>>& pose, int32_t column, int32_t row, int32_t count,
                                int32_t pitch, int32_t length, int32_t start, Block<Pixel>& out) {
  if (is_finite(pose.edge_slope)) {
    return see_pixels<kShape, Edge::kSoft>(pose, column, row, count, pitch, length, start, out);
  }
  return see_pixels<kShape, Edge::kHard>(pose, column, row, count, pitch, length, start, out);
}

/// Fetches the taps of a group of channels, of which the first three or all are looked at.
template <typename Pixel>
TUBELETX_INLINE void fetch_taps(const Real<Pixel>* texels, int64_t length, int64_t row_length, int64_t channels,
                                Block<Pixel>& row) {
  if (channels < kGroup) {
    for (int32_t i = 0; i < row.count; i += kVector)
      row.taps.template fetch<false>(texels, row.texel, length, row_length, i);
  } else {
    for (int32_t i = 0; i < row.count; i += kVector)
      row.taps.template fetch<true>(texels, row.texel, length, row_length, i);
  }
}

/// What a patch without own alpha leaves of the background.
template <typename Pixel>
TUBELETX_INLINE void keep_row(int32_t count, Block<Pixel>& row) {
  for (int32_t first = 0; first < count; first += kVector) {
    for (int32_t i = first; i < first + kVector; ++i) row.keep[i] = Real<Pixel>(1) - row.strength[i];
  }
}

/// Premultiplies: the weights take in the alpha of their texels, and what is kept of the background grows.
template <typename Pixel>
TUBELETX_INLINE void apply_alpha(int64_t channel, int32_t count, Block<Pixel>& row) {
  using Number = Real<Pixel>;
  for (int32_t first = 0; first < count; first += kVector) {
    for (int32_t i = first; i < first + kVector; ++i) {
      Number covered = 0;
      for (int k = 0; k < 4; ++k) {
        row.weight[k][i] = row.weight[k][i] * row.taps.get(k, i, channel);
        covered = covered + row.weight[k][i];
      }
      row.keep[i] = Number(1) - row.strength[i] * covered;
    }
  }
}

/// Warps one channel: what the tubelet adds to each pixel of the row.
template <bool kOpaque, typename Pixel>
TUBELETX_INLINE void warp_row(int64_t channel, int32_t count, Block<Pixel>& row) {
  using Number = Real<Pixel>;
  Number* light = row.light[channel];
  for (int32_t first = 0; first < count; first += kVector) {
    TUBELETX_INDEPENDENT
    for (int32_t i = first; i < first + kVector; ++i) {
      const Number warped = weigh<Number>(row.weight[0][i], row.weight[1][i], row.weight[2][i], row.weight[3][i],
                                          row.taps.get(0, i, channel), row.taps.get(1, i, channel),
                                          row.taps.get(2, i, channel), row.taps.get(3, i, channel));
      if constexpr (kOpaque) {
        light[i] = warped;
      } else {
        // Where nothing covers, not even a colour that is not finite may show.
        light[i] = row.strength[i] > 0 ? warped * row.strength[i] : Number(0);
      }
    }
  }
}

/// Puts the three channels of a row side by side, as they stand in a channels-last clip: as pixels where the tubelet
/// hides the background, else as the numbers to blend with.
template <typename Pixel>
TUBELETX_INLINE void pack_row(bool opaque, int32_t count, Block<Pixel>& row) {
  for (int32_t first = 0; first < count; first += kVector) {
    for (int32_t i = first; i < first + kVector; ++i) {
      for (int64_t k = 0; k < kPacked; ++k) {
        if (opaque) {
          row.finished[kPacked * i + k] = from_real<Pixel>(row.light[k][i]);
        } else {
          row.packed_light[kPacked * i + k] = row.light[k][i];
          row.packed_keep[kPacked * i + k] = row.keep[i];
        }
      }
    }
  }
}

/// memcpy as a call. Where the compiler can bound the size it inlines rep movs, whose start costs more than a whole
/// row.
#if defined(__clang__) || !defined(__GNUC__)
__attribute__((noinline))
#else
__attribute__((noipa))
#endif
void copy_bytes(void* to, const void* from, size_t size) {
  memcpy(to, from, size);
}

/// Blends `count` elements of a clip. They pass through `run`, so that the arithmetic goes in whole vectors.
template <bool kOpaque, typename Pixel>
TUBELETX_INLINE void write_elements(Pixel* pixels, int64_t stride, const Real<Pixel>* __restrict keep,
                                    const Real<Pixel>* __restrict light, int64_t count, Pixel* __restrict run) {
  if (!kOpaque && stride == 1) {
    copy_bytes(run, pixels, count * sizeof(Pixel));
  } else if (!kOpaque) {
    for (int64_t i = 0; i < count; ++i) run[i] = pixels[i * stride];
  }
  for (int64_t first = 0; first < count; first += kVector) {
    for (int64_t i = first; i < first + kVector; ++i) {
      run[i] = kOpaque ? from_real<Pixel>(light[i]) : blend(run[i], keep[i], light[i]);
    }
  }
  if (stride == 1) {
    copy_bytes(pixels, run, count * sizeof(Pixel));
  } else {
    for (int64_t i = 0; i < count; ++i) pixels[i * stride] = run[i];
  }
}

/// Writes a run of the block to a clip, channels first_channel .. first_channel + num_channels - 1.
template <typename Pixel>
TUBELETX_INLINE void write_run(const ClipView& clip, int64_t b, int64_t t, int64_t first_channel, int64_t num_channels,
                               bool packed, bool opaque, const Run& run, Block<Pixel>& row) {
  Pixel* pixels = static_cast<Pixel*>(clip.data) + b * clip.batch_stride + t * clip.frame_stride +
                  run.row * clip.row_stride + run.column * clip.column_stride + first_channel * clip.channel_stride;
  const int64_t begin = run.begin;
  const int64_t count = run.end - begin;
  if (packed && clip.channel_stride == 1 && clip.column_stride == kPacked) {
    const int64_t first = begin * kPacked;
    if (opaque) {
      copy_bytes(pixels, row.finished + first, count * kPacked * sizeof(Pixel));
    } else {
      write_elements<false>(pixels, 1, row.packed_keep + first, row.packed_light + first, count * kPacked, row.run);
    }
    return;
  }
  for (int64_t c = 0; c < num_channels; ++c) {
    Pixel* plane = pixels + c * clip.channel_stride;
    if (opaque) {
      write_elements<true>(plane, clip.column_stride, row.keep + begin, row.light[c] + begin, count, row.run);
    } else {
      write_elements<false>(plane, clip.column_stride, row.keep + begin, row.light[c] + begin, count, row.run);
    }
  }
}

/// Warps the pixels of the block and writes its runs to clips first .. last - 1.
template <typename Pixel>
TUBELETX_INLINE void finish_block(const PasteArguments& arguments, const Real<Pixel>* texels, int64_t row_length,
                                  int64_t b, int64_t t, int64_t first, int64_t last, Block<Pixel>& block) {
  const int64_t length = texel_length(arguments);
  const bool packed = arguments.channels == kPacked;
  const bool opaque = block.opaque && !arguments.has_alpha;
  const int64_t alpha_group = arguments.channels / kGroup * kGroup;
  if (arguments.has_alpha) {
    fetch_taps(texels + alpha_group, length, row_length, kGroup, block);
    apply_alpha(arguments.channels - alpha_group, block.count, block);
  } else if (!opaque) {
    keep_row(block.count, block);
  }
  for (int64_t c = 0; c < arguments.channels; c += kGroup) {
    const int64_t num_channels = std::min(kGroup, arguments.channels - c);
    const bool fetched = arguments.has_alpha && alpha_group == 0 && c == 0;
    if (!fetched) fetch_taps(texels + c, length, row_length, num_channels, block);
    for (int64_t k = 0; k < num_channels; ++k) {
      if (opaque) {
        warp_row<true>(k, block.count, block);
      } else {
        warp_row<false>(k, block.count, block);
      }
    }
    if (packed) pack_row(opaque, block.count, block);
    for (int64_t v = first; v < last; ++v) {
      for (int32_t index = 0; index < block.num_runs; ++index) {
        write_run(arguments.clips[v], b, t, c, num_channels, packed, opaque, block.runs[index], block);
      }
    }
  }
  block.clear();
}

/// One tubelet in one frame, onto clips first .. last - 1, which see it at the same place.
template <typename Pixel>
TUBELETX_INLINE void paste_layer(const PasteArguments& arguments, const Real<Pixel>* texels, int64_t b, int64_t t,
                                 int64_t m, int64_t first, int64_t last, Block<Pixel>& block) {
  const int64_t tubelet = b * arguments.num_tubelets + m;
  Placement placement;
  if (!placement_of(arguments, b, first, m, t, placement)) return;
  const Pose<Real<Pixel>> pose = pose_of<Real<Pixel>>(arguments, b, m, t, placement);
  const Shape shape = static_cast<Shape>(arguments.shape[tubelet]);
  const Footprint footprint(placement, shape, arguments.height, arguments.width);
  const int32_t length = static_cast<int32_t>(texel_length(arguments));
  const int32_t pitch = arguments.patch_size[2 * tubelet] + 1;
  const int64_t row_length = int64_t{pitch} * length;

  block.clear();
  for (int64_t y = footprint.row_begin; y < footprint.row_end; ++y) {
    int64_t row_begin, row_end;
    footprint.span(y, row_begin, row_end);
    for (int64_t x = row_begin; x < row_end; x += kBlock) {
      const int32_t seen = static_cast<int32_t>(std::min<int64_t>(kBlock, row_end - x));
      if (block.count + whole_vectors(seen) > kBlock) {
        finish_block(arguments, texels, row_length, b, t, first, last, block);
      }
      const int32_t start = block.count, column = static_cast<int32_t>(x), line = static_cast<int32_t>(y);
      int64_t full;
      switch (shape) {
        case Shape::kRectangle:
          full = see_row<Shape::kRectangle>(pose, column, line, seen, pitch, length, start, block);
          break;
        case Shape::kEllipse:
          full = see_row<Shape::kEllipse>(pose, column, line, seen, pitch, length, start, block);
          break;
        default:
          full = see_row<Shape::kRhombus>(pose, column, line, seen, pitch, length, start, block);
      }
      int32_t begin = start, end = start + seen;
      while (begin < end && block.strength[begin] == 0) ++begin;
      while (begin < end && block.strength[end - 1] == 0) --end;
      if (begin == end) continue;
      block.runs[block.num_runs++] = {y, x + (begin - start), begin, end};
      block.opaque = block.opaque && full == end - begin;
      block.count += whole_vectors(seen);
    }
  }
  if (block.count > 0) finish_block(arguments, texels, row_length, b, t, first, last, block);
}

/// Frame t of sample b of every clip, all tubelets in their order.
template <typename Pixel>
TUBELETX_INLINE void paste_frame(const PasteArguments& arguments, const Texels<Pixel>& texels, const int64_t* sequence,
                                 int64_t b, int64_t t) {
  Block<Pixel> block;
  for (int64_t k = 0; k < arguments.num_tubelets; ++k) {
    const int64_t m = sequence[b * arguments.num_tubelets + k];
    int64_t last;
    for (int64_t first = 0; first < arguments.num_clips; first = last) {
      last = end_of_sight(arguments, b, m, first);
      paste_layer<Pixel>(arguments, texels.get(b, first, m), b, t, m, first, last, block);
    }
  }
}

// One plain function a pixel type, for the sake of TUBELETX_MULTIVERSION.
#define TUBELETX_PASTE_FRAME(Pixel)                                                                        \
  TUBELETX_MULTIVERSION void paste_one_frame(const PasteArguments& arguments, const Texels<Pixel>& texels, \
                                             const int64_t* sequence, int64_t b, int64_t t) {              \
    paste_frame<Pixel>(arguments, texels, sequence, b, t);                                                 \
  }
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

void paste(const PasteInputs& inputs, ScalarType dtype) {
  if (dtype == ScalarType::Byte) return paste_bytes(inputs.arguments, byte_patches(inputs.arguments));
  with_float_pixel(dtype, [&](auto pixel) { paste_all<decltype(pixel)>(inputs.arguments); });
}

void paste_tubelets_(const TensorList& clips, const Tensor& patches, const Tensor& patch_size, const Tensor& centers,
                     const Tensor& linear, const Tensor& shape, const Tensor& edge, const Tensor& opacity,
                     const Tensor& order, const std::optional<Tensor>& offsets) {
  const PasteInputs inputs = check_paste(clips, "clips", /*allow_bytes=*/true, patches, patch_size, centers, linear,
                                         shape, edge, opacity, order, offsets);
  check_paste_values(inputs.arguments);
  check_written(clips, patches);
  paste(inputs, patches.scalar_type());
}

TensorList paste_tubelets(const TensorList& clips, const Tensor& patches, const Tensor& patch_size,
                          const Tensor& centers, const Tensor& linear, const Tensor& shape, const Tensor& edge,
                          const Tensor& opacity, const Tensor& order, const std::optional<Tensor>& offsets) {
  return paste_onto_copies(clips, patches, [&](const TensorList& copies) {
    const PasteInputs inputs = check_paste(copies, "clips", /*allow_bytes=*/true, patches, patch_size, centers, linear,
                                           shape, edge, opacity, order, offsets);
    check_paste_values(inputs.arguments);
    paste(inputs, patches.scalar_type());
  });
}

STABLE_TORCH_LIBRARY_IMPL(tubeletx, CPU, library) {
  library.impl("paste_tubelets", TORCH_BOX(&paste_tubelets));
  library.impl("paste_tubelets.bytes", TORCH_BOX(&paste_tubelets));
  library.impl("paste_tubelets_", TORCH_BOX(&paste_tubelets_));
}

}  // namespace
}  // namespace tubeletx::cpu
