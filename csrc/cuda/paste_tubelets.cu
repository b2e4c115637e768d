// One launch pastes all tubelets onto all clips. A block has some rows of a frame: it makes the layers of the frame,
// and its warps walk over the tiles that the layers reach. In a tile, layer follows layer as the order says, and a
// pixel stays with its thread, so that each layer finds the rounded result of the one before. A pixel is seen and
// warped once, and then goes to every clip that shares the view.
#include "cuda/paste_tubelets.h"

#include "core/paste_bytes.h"
#include "cuda/layers.h"

namespace tubeletx::cuda {
namespace {

/// Layers that a block makes for itself. More are made before, by a launch of their own.
constexpr int64_t kOwnLayers = 32;

/// Four elements that are loaded and stored as one.
template <typename Pixel>
struct alignas(sizeof(Pixel) < 4 ? 4 * sizeof(Pixel) : 16) Four {
  Pixel element[4];
};

template <typename Pixel>
struct PasteTubelets {
  using Number = Real<Pixel>;

  static constexpr int kThreads = 256;
  static constexpr int kPacked = 3;  ///< channels of a clip that is written four pixels at a time
  static constexpr int kRun = 4;
  static constexpr bool kRuns = sizeof(Pixel) < 8;  ///< a run of doubles would not fit into registers

  PasteArguments arguments;
  Bands bands;
  const Layer<Number>* prepared;  ///< null: each block makes its own
  bool packed;                    ///< three channels side by side, pixel after pixel, in every clip
  bool aligned;                   ///< and runs of four pixels may be read and written as vectors

  PasteTubelets(const PasteArguments& given, const Layer<Number>* layers)
      : arguments(given), bands(given), prepared(layers), packed(given.channels == kPacked), aligned(true) {
    for (int64_t v = 0; v < given.num_clips; ++v) {
      const ClipView& clip = given.clips[v];
      packed = packed && clip.channel_stride == 1 && clip.column_stride == kPacked;
      const int64_t strides = clip.batch_stride | clip.frame_stride | clip.row_stride;
      aligned = aligned && reinterpret_cast<uintptr_t>(clip.data) % alignof(Four<Pixel>) == 0 && strides % kRun == 0;
    }
  }

  TUBELETX_HOST_DEVICE int64_t num_blocks() const { return arguments.num_tubelets > 0 ? bands.num_blocks() : 0; }
  int64_t shared_bytes() const {
    return prepared == nullptr ? arguments.num_tubelets * static_cast<int64_t>(sizeof(Layer<Number>)) : 0;
  }

  TUBELETX_HOST_DEVICE void operator()(const Block& block, void* shared) const {
    const Region region = bands.region(arguments, block.index);
    const Layer<Number>* layers;
    if (prepared != nullptr) {
      layers = prepared + region.frame * arguments.num_tubelets;
    } else {
      Layer<Number>* own = static_cast<Layer<Number>*>(shared);
      layers = own;
      block.each_thread([&](int thread) {
        if (thread >= arguments.num_tubelets) return;
        make_layer(arguments, region.b, region.first_clip, thread, region.t,
                   own[paint_position(arguments, region.b, thread)]);
      });
    }
    block.each_thread([&](int thread) {
      const int lane = thread % kWarp;
      for_each_tile(region, layers, arguments.num_tubelets, thread, kThreads, [&](int32_t x, int32_t y, int32_t end) {
        for (int64_t k = 0; k < arguments.num_tubelets; ++k) {
          if (!layers[k].touches(x, y, kTileWidth, kTileHeight)) continue;
          if constexpr (kRuns) {
            if (packed) {
              paint_run(region, layers[k], x + lane % 8 * kRun, y + lane / 8, end);
              continue;
            }
          }
          paint_column(region, layers[k], x + lane, y, end);
        }
      });
    });
  }

 private:
  /// Pixels x .. x + 3 of row y, all channels, in clips that are packed.
  TUBELETX_HOST_DEVICE void paint_run(const Region& region, const Layer<Number>& layer, int32_t x, int32_t y,
                                      int32_t end) const {
    if (y >= end || x >= arguments.width) return;
    const Pixel* patch = patch_of<Pixel>(arguments, region.b, region.first_clip, layer.tubelet);
    Number keep[kRun] = {};
    Number light[kRun][kPacked] = {};
    bool covered[kRun] = {};
    bool all_covered = true, all_hidden = true;
    TUBELETX_UNROLL
    for (int j = 0; j < kRun; ++j) {
      const Sight<Number> sight = see_patch(layer.shape, layer.pose, x + j, y);
      covered[j] = x + j < arguments.width && sight.strength > 0;
      all_covered = all_covered && covered[j];
      if (!covered[j]) continue;
      const Covering<Pixel> covering(arguments, layer, patch, sight);
      keep[j] = covering.keep;
      all_hidden = all_hidden && keep[j] == 0;
      TUBELETX_UNROLL
      for (int c = 0; c < kPacked; ++c) light[j][c] = covering.light(c);
    }
    for (int64_t v = region.first_clip; v < region.last_clip; ++v) {
      Pixel* pixels = pixel_at<Pixel>(arguments.clips[v], region.b, region.t, y, x);
      if (all_covered && aligned) {
        write_vectors(pixels, all_hidden, keep, light);
        continue;
      }
      TUBELETX_UNROLL
      for (int j = 0; j < kRun; ++j) {
        if (!covered[j]) continue;
        TUBELETX_UNROLL
        for (int c = 0; c < kPacked; ++c) write(pixels[j * kPacked + c], keep[j], light[j][c]);
      }
    }
  }

  /// Whole runs. Elements and pixels do not end together: element i belongs to pixel i / 3.
  TUBELETX_INLINE void write_vectors(Pixel* pixels, bool all_hidden, const Number (&keep)[kRun],
                                     const Number (&light)[kRun][kPacked]) const {
    Four<Pixel>* vectors = reinterpret_cast<Four<Pixel>*>(pixels);
    TUBELETX_UNROLL
    for (int k = 0; k < kPacked; ++k) {
      Four<Pixel> vector = {};
      if (!all_hidden) vector = vectors[k];
      TUBELETX_UNROLL
      for (int i = 0; i < kRun; ++i) {
        const int element = k * kRun + i;
        const int j = element / kPacked;
        vector.element[i] = blend(vector.element[i], keep[j], light[j][element % kPacked]);
      }
      vectors[k] = vector;
    }
  }

  /// Pixels (x, y) .. (x, y + 3), any channels and strides.
  TUBELETX_HOST_DEVICE void paint_column(const Region& region, const Layer<Number>& layer, int32_t x, int32_t y,
                                         int32_t end) const {
    if (x >= arguments.width) return;
    const Pixel* patch = patch_of<Pixel>(arguments, region.b, region.first_clip, layer.tubelet);
    for (int32_t row = y; row < y + kTileHeight && row < end; ++row) {
      const Sight<Number> sight = see_patch(layer.shape, layer.pose, x, row);
      if (!(sight.strength > 0)) continue;
      const Covering<Pixel> covering(arguments, layer, patch, sight);
      for (int64_t c = 0; c < arguments.channels; ++c) {
        const Number light = covering.light(c);
        for (int64_t v = region.first_clip; v < region.last_clip; ++v) {
          const ClipView& clip = arguments.clips[v];
          write(pixel_at<Pixel>(clip, region.b, region.t, row, x)[c * clip.channel_stride], covering.keep, light);
        }
      }
    }
  }

  /// A hidden background is not even read.
  TUBELETX_INLINE void write(Pixel& pixel, Number keep, Number light) const {
    pixel = keep == 0 ? from_real<Pixel>(light) : blend(pixel, keep, light);
  }
};

/// Bytes, by the definition in core/paste_bytes.h: one thread for a pixel of all clips.
struct PasteBytes {
  static constexpr int kThreads = 256;

  PasteArguments arguments;

  TUBELETX_HOST_DEVICE int64_t count() const {
    return arguments.batch * arguments.frames * arguments.height * arguments.width;
  }
  TUBELETX_HOST_DEVICE int64_t num_blocks() const {
    return arguments.num_tubelets > 0 ? (count() + kThreads - 1) / kThreads : 0;
  }
  int64_t shared_bytes() const { return 0; }

  TUBELETX_HOST_DEVICE void operator()(const Block& block, void*) const {
    block.each_thread([&](int thread) {
      const int64_t index = block.index * kThreads + thread;
      if (index >= count()) return;
      const int32_t x = static_cast<int32_t>(index % arguments.width);
      const int32_t y = static_cast<int32_t>(index / arguments.width % arguments.height);
      const int64_t frame = index / arguments.width / arguments.height;
      const int64_t b = frame / arguments.frames, t = frame % arguments.frames;
      for (int64_t k = 0; k < arguments.num_tubelets; ++k) {
        int64_t m = 0;
        while (paint_position(arguments, b, m) != k) ++m;
        for (int64_t v = 0; v < arguments.num_clips; ++v) paint(b, v, m, t, x, y);
      }
    });
  }

 private:
  TUBELETX_HOST_DEVICE void paint(int64_t b, int64_t v, int64_t m, int64_t t, int32_t x, int32_t y) const {
    const PasteArguments& a = arguments;
    const int64_t tubelet = b * a.num_tubelets + m;
    const int32_t width = a.patch_size[2 * tubelet], height = a.patch_size[2 * tubelet + 1];
    Placement placement;
    BytePose pose;
    if (width > a.patch_width || height > a.patch_height || !placement_of(a, b, v, m, t, placement) ||
        !make_byte_pose(placement, a.edge[tubelet], a.opacity[tubelet * a.frames + t], a.has_alpha, pose)) {
      return;
    }
    const int64_t place_x = place_of(pose, x, y, 0), place_y = place_of(pose, x, y, 1);
    const int32_t strength = byte_strength(static_cast<Shape>(a.shape[tubelet]), pose, place_x, place_y);
    if (strength == 0) return;
    const ByteSight sight = see_texels(pose, place_x, place_y);
    const uint8_t* patch = patch_of<uint8_t>(a, b, v, m);
    const uint8_t* tap[4];
    for (int i = 0; i < 4; ++i) {
      const int32_t column = clamp(sight.column + i % 2 - 1, width), row = clamp(sight.row + i / 2 - 1, height);
      tap[i] = patch + column * a.patch_column_stride + row * a.patch_row_stride;
    }
    const int64_t stride = a.patch_channel_stride;
    uint8_t alpha[4];
    for (int i = 0; i < 4; ++i) alpha[i] = a.has_alpha ? tap[i][a.channels * stride] : 255;
    const int32_t bias = byte_bias(pose.paint);
    const uint32_t keep =
        keep_of(pose.paint, weigh_bytes(sight.weight, alpha[0], alpha[1], alpha[2], alpha[3], bias), strength);
    for (int64_t c = 0; c < a.channels; ++c) {
      uint8_t colour[4];
      for (int i = 0; i < 4; ++i) colour[i] = premultiply(tap[i][c * stride], alpha[i]);
      const uint32_t sum = weigh_bytes(sight.weight, colour[0], colour[1], colour[2], colour[3], bias);
      uint8_t& pixel = pixel_at<uint8_t>(a.clips[v], b, t, y, x)[c * a.clips[v].channel_stride];
      pixel = pose.paint == BytePaint::kOpaque
                  ? opaque_byte(sum)
                  : blend_byte(pose.paint, pixel, keep, light_of(pose.paint, sum, strength));
    }
  }

  TUBELETX_INLINE static int32_t clamp(int32_t value, int32_t count) {
    return value < 0 ? 0 : (value < count ? value : count - 1);
  }
};

}  // namespace

template <typename Pixel>
int64_t paste_workspace(const PasteArguments& arguments) {
  if (arguments.num_tubelets <= kOwnLayers || sizeof(Pixel) == 1) return 0;
  return PrepareLayers<Real<Pixel>>{arguments, nullptr}.bytes();
}

template <typename Pixel>
void launch_paste_tubelets(const PasteArguments& arguments, void* workspace, Stream stream) {
  if constexpr (sizeof(Pixel) == 1) return launch("paste_tubelets", PasteBytes{arguments}, stream);
  auto* layers = static_cast<Layer<Real<Pixel>>*>(workspace);
  if (layers != nullptr) launch("paste_tubelets", PrepareLayers<Real<Pixel>>{arguments, layers}, stream);
  launch("paste_tubelets", PasteTubelets<Pixel>(arguments, layers), stream);
}

#define TUBELETX_INSTANTIATE(Pixel)                               \
  template int64_t paste_workspace<Pixel>(const PasteArguments&); \
  template void launch_paste_tubelets<Pixel>(const PasteArguments&, void*, Stream);
TUBELETX_INSTANTIATE(uint8_t)
TUBELETX_INSTANTIATE(Half)
TUBELETX_INSTANTIATE(BFloat16)
TUBELETX_INSTANTIATE(float)
TUBELETX_INSTANTIATE(double)
#undef TUBELETX_INSTANTIATE

}  // namespace tubeletx::cuda
