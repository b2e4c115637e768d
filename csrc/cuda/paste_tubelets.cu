// Pastes onto floating-point clips; for bytes see paste_bytes.cu. One launch makes the layers of all frames, a second
// one pastes all tubelets onto all clips. A block has some rows of a frame, and its warps walk over the tiles that the
// layers reach. In a tile, layer follows layer as the order says, and a pixel stays with its thread, so that each layer
// finds the rounded result of the one before. A pixel is seen and warped once, and then goes to every clip that shares
// the view.
#include "cuda/paste_tubelets.h"

#include "cuda/layers.h"

namespace tubeletx::cuda {
namespace {

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
  const Layer<Number>* layers;
  bool packed;   ///< three channels side by side, pixel after pixel, in every clip
  bool aligned;  ///< and runs of four pixels may be read and written as vectors

  PasteTubelets(const PasteArguments& given, const Layer<Number>* prepared)
      : arguments(given), bands(given), layers(prepared), packed(given.channels == kPacked), aligned(true) {
    for (int64_t v = 0; v < given.num_clips; ++v) {
      const ClipView& clip = given.clips[v];
      packed = packed && clip.channel_stride == 1 && clip.column_stride == kPacked;
      const int64_t strides = clip.batch_stride | clip.frame_stride | clip.row_stride;
      aligned = aligned && reinterpret_cast<uintptr_t>(clip.data) % alignof(Four<Pixel>) == 0 && strides % kRun == 0;
    }
  }

  int64_t num_blocks() const { return arguments.num_tubelets > 0 ? bands.num_blocks() : 0; }
  int64_t shared_bytes() const { return 0; }

  TUBELETX_DEVICE void operator()(int64_t block) const {
    const Region region = bands.region(arguments, block);
    const Layer<Number>* frame = layers + region.frame * arguments.num_tubelets;
    const int thread = device::thread(), lane = thread % kWarp;
    for_each_tile(region, frame, arguments.num_tubelets, thread, kThreads, [&](int32_t x, int32_t y, int32_t end) {
      for (int64_t k = 0; k < arguments.num_tubelets; ++k) {
        if (!frame[k].touches(x, y, kTileWidth, kTileHeight)) continue;
        if constexpr (kRuns) {
          if (packed) {
            paint_run(region, frame[k], x + lane % 8 * kRun, y + lane / 8, end);
            continue;
          }
        }
        paint_column(region, frame[k], x + lane, y, end);
      }
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

}  // namespace

template <typename Pixel>
int64_t paste_workspace(const PasteArguments& arguments) {
  return PrepareLayers<Real<Pixel>>{arguments, nullptr}.bytes();
}

template <typename Pixel>
void launch_paste_tubelets(const PasteArguments& arguments, void* workspace, Stream stream) {
  constexpr const char* kName = "paste_tubelets";
  auto* layers = static_cast<Layer<Real<Pixel>>*>(workspace);
  device::launch(kName, PrepareLayers<Real<Pixel>>{arguments, layers}, stream);
  device::launch(kName, PasteTubelets<Pixel>(arguments, layers), stream);
}

#define TUBELETX_INSTANTIATE(Pixel)                               \
  template int64_t paste_workspace<Pixel>(const PasteArguments&); \
  template void launch_paste_tubelets<Pixel>(const PasteArguments&, void*, Stream);
TUBELETX_INSTANTIATE(Half)
TUBELETX_INSTANTIATE(BFloat16)
TUBELETX_INSTANTIATE(float)
TUBELETX_INSTANTIATE(double)
#undef TUBELETX_INSTANTIATE

}  // namespace tubeletx::cuda
