// Gradients of pasting, without atomics, in three launches: the layers of all frames; the patches, where each texel
// gathers from the pixels that may show it; the clips, in place. A texel adds up its pixels by clip, frame, row and
// column, as the CPU does, so that both give the same bits.
#include "cuda/layers.h"
#include "cuda/paste_tubelets.h"

namespace tubeletx::cuda {
namespace {

/// Channels that a thread has at a time.
constexpr int kGroup = 4;

/// What the two gradient kernels share.
template <typename Pixel>
struct Gradients {
  using Number = Real<Pixel>;

  PasteArguments arguments;  ///< with gradients in the place of clips
  ClipView clips[kMaxClips];
  const Layer<Number>* layers;

  /// The layers of a frame, in paint order.
  TUBELETX_HOST_DEVICE const Layer<Number>* layers_of(int64_t b, int64_t v, int64_t t) const {
    const int64_t views = num_views(arguments);
    return layers + ((b * arguments.frames + t) * views + (views == 1 ? 0 : v)) * arguments.num_tubelets;
  }

  /// Whether a layer covers a pixel, and how it is seen there.
  TUBELETX_HOST_DEVICE static bool sees(const Layer<Number>& layer, int32_t x, int32_t y, Sight<Number>& sight) {
    if (!layer.touches(x, y, 1, 1)) return false;
    sight = see_patch(layer.shape, layer.pose, x, y);
    return sight.strength > 0;
  }

  TUBELETX_HOST_DEVICE Covering<Pixel> covering(const Layer<Number>& layer, int64_t b, int64_t v,
                                                const Sight<Number>& sight) const {
    return Covering<Pixel>(arguments, layer, patch_of<Pixel>(arguments, b, v, layer.tubelet), sight);
  }

  /// Multiplies the gradients of some channels of a pixel by what layers last - 1 .. first let through.
  TUBELETX_HOST_DEVICE void descend(const Layer<Number>* frame, int64_t first, int64_t last, int64_t b, int64_t v,
                                    int32_t x, int32_t y, Number (&gradient)[kGroup]) const {
    for (int64_t k = last; k-- > first;) {
      Sight<Number> sight;
      if (!sees(frame[k], x, y, sight)) continue;
      const Number keep = covering(frame[k], b, v, sight).keep;
      TUBELETX_UNROLL
      for (int i = 0; i < kGroup; ++i) gradient[i] = gradient[i] * keep;
    }
  }

  /// A channel of a pixel of the clip under layer `last`.
  TUBELETX_HOST_DEVICE Number background(const Layer<Number>* frame, int64_t last, int64_t b, int64_t v, int64_t t,
                                         int32_t x, int32_t y, int64_t channel) const {
    Pixel colour = pixel_at<Pixel>(clips[v], b, t, y, x)[channel * clips[v].channel_stride];
    for (int64_t k = 0; k < last; ++k) {
      Sight<Number> sight;
      if (!sees(frame[k], x, y, sight)) continue;
      const Covering<Pixel> layer = covering(frame[k], b, v, sight);
      colour = blend(colour, layer.keep, layer.light(channel));
    }
    return to_real(colour);
  }

  /// Channels first .. first + 3 of the gradient of a pasted pixel, 0 where there are no more.
  TUBELETX_HOST_DEVICE void load(int64_t b, int64_t v, int64_t t, int32_t x, int32_t y, int64_t first,
                                 Number (&gradient)[kGroup]) const {
    const ClipView& view = arguments.clips[v];
    const Pixel* pixel = pixel_at<Pixel>(view, b, t, y, x);
    TUBELETX_UNROLL
    for (int i = 0; i < kGroup; ++i) {
      gradient[i] = first + i < arguments.channels ? to_real(pixel[(first + i) * view.channel_stride]) : Number(0);
    }
  }
};

/// One thread for one texel.
template <typename Pixel>
struct PatchGradients : Gradients<Pixel> {
  using Base = Gradients<Pixel>;
  using Number = Real<Pixel>;
  using Base::arguments;

  static constexpr int kThreads = 128;

  Pixel* patches_gradient;

  PatchGradients(const Base& base, void* gradient) : Base(base), patches_gradient(static_cast<Pixel*>(gradient)) {}

  TUBELETX_HOST_DEVICE int64_t texels() const { return arguments.patch_height * arguments.patch_width; }
  TUBELETX_HOST_DEVICE int64_t blocks_per_patch() const { return (texels() + kThreads - 1) / kThreads; }
  TUBELETX_HOST_DEVICE int64_t appearances() const { return arguments.patches_per_clip ? arguments.num_clips : 1; }
  int64_t num_blocks() const { return arguments.batch * appearances() * arguments.num_tubelets * blocks_per_patch(); }
  int64_t shared_bytes() const { return 0; }

  TUBELETX_DEVICE void operator()(int64_t block) const {
    const int64_t patch = block / blocks_per_patch();
    const int64_t texel = block % blocks_per_patch() * kThreads + device::thread();
    if (texel >= texels()) return;
    const int64_t m = patch % arguments.num_tubelets;
    const int64_t appearance = patch / arguments.num_tubelets % appearances();
    const int64_t b = patch / arguments.num_tubelets / appearances();
    const int32_t column = static_cast<int32_t>(texel % arguments.patch_width);
    const int32_t row = static_cast<int32_t>(texel / arguments.patch_width);
    for (int64_t first = 0; first < arguments.patch_channels; first += kGroup) {
      double sums[kGroup] = {};
      const int64_t last_clip = arguments.patches_per_clip ? appearance + 1 : arguments.num_clips;
      for (int64_t v = appearance; v < last_clip; ++v) {
        for (int64_t t = 0; t < arguments.frames; ++t) gather(b, v, t, m, column, row, first, sums);
      }
      TUBELETX_UNROLL
      for (int i = 0; i < kGroup; ++i) {
        if (first + i < arguments.patch_channels) {
          patches_gradient[(patch * arguments.patch_channels + first + i) * texels() + texel] =
              from_real<Pixel>(static_cast<Number>(sums[i]));
        }
      }
    }
  }

 private:
  /// Adds what a frame has for channels first .. first + 3 of a texel.
  TUBELETX_HOST_DEVICE void gather(int64_t b, int64_t v, int64_t t, int64_t m, int32_t column, int32_t row,
                                   int64_t first, double (&sums)[kGroup]) const {
    const Layer<Number>* frame = this->layers_of(b, v, t);
    int64_t place = 0;
    while (frame[place].tubelet != m) ++place;
    const Layer<Number>& layer = frame[place];
    if (layer.column_begin >= layer.column_end || column > layer.last_column || row > layer.last_row) return;

    // Pixels that show a texel lie less than a texel away from it, on both axes of the patch: in a parallelogram, whose
    // bounding box is searched. The reach allows for a few roundings of the largest terms that see_patch adds.
    const Pose<Number>& pose = layer.pose;
    const float* linear = arguments.linear + 4 * ((b * arguments.num_tubelets + m) * arguments.frames + t);
    const double xx = linear[0], xy = linear[1], yx = linear[2], yy = linear[3];
    const double half_width = 0.5 * (layer.last_column + 1), half_height = 0.5 * (layer.last_row + 1);
    const double far_x = std::fabs(xx) * half_width + std::fabs(xy) * half_height;
    const double far_y = std::fabs(yx) * half_width + std::fabs(yy) * half_height;
    const double terms = (std::fabs(pose.inverse[0]) + std::fabs(pose.inverse[2])) * far_x +
                         (std::fabs(pose.inverse[1]) + std::fabs(pose.inverse[3])) * far_y;
    const double reach = 1.0 + 1e-6 * (4.0 + half_width + half_height + terms);
    const double across = column - double(pose.first_texel_x), down = row - double(pose.first_texel_y);
    const double x = double(pose.anchor_x) - double(pose.rest_x) + xx * across + xy * down;
    const double y = double(pose.anchor_y) - double(pose.rest_y) + yx * across + yy * down;
    const double reach_x = reach * (std::fabs(xx) + std::fabs(xy)), reach_y = reach * (std::fabs(yx) + std::fabs(yy));
    const int32_t x_begin = clamp(std::ceil(x - reach_x), layer.column_begin, layer.column_end);
    const int32_t x_end = clamp(std::floor(x + reach_x) + 1.0, layer.column_begin, layer.column_end);
    const int32_t y_begin = clamp(std::ceil(y - reach_y), layer.row_begin, layer.row_end);
    const int32_t y_end = clamp(std::floor(y + reach_y) + 1.0, layer.row_begin, layer.row_end);
    for (int32_t py = y_begin; py < y_end; ++py) {
      for (int32_t px = x_begin; px < x_end; ++px) {
        const Sight<Number> sight = see_patch(layer.shape, layer.pose, px, py);
        if (!(sight.strength > 0)) continue;
        const bool left = sight.column == column, upper = sight.row == row;
        const bool right = (sight.column < layer.last_column ? sight.column + 1 : sight.column) == column;
        const bool lower = (sight.row < layer.last_row ? sight.row + 1 : sight.row) == row;
        if (!((left || right) && (upper || lower))) continue;
        const bool taps[4] = {left && upper, right && upper, left && lower, right && lower};
        add_pixel(frame, place, b, v, t, px, py, column, row, sight, taps, first, sums);
      }
    }
  }

  TUBELETX_HOST_DEVICE void add_pixel(const Layer<Number>* frame, int64_t place, int64_t b, int64_t v, int64_t t,
                                      int32_t x, int32_t y, int32_t column, int32_t row, const Sight<Number>& sight,
                                      const bool (&taps)[4], int64_t first, double (&sums)[kGroup]) const {
    const PasteArguments& a = arguments;
    const Pixel* texel =
        patch_of<Pixel>(a, b, v, frame[place].tubelet) + row * a.patch_row_stride + column * a.patch_column_stride;
    const Number alpha = a.has_alpha ? to_real(texel[a.channels * a.patch_channel_stride]) : Number(1);
    Number gradient[kGroup];
    this->load(b, v, t, x, y, first, gradient);
    this->descend(frame, place + 1, a.num_tubelets, b, v, x, y, gradient);
    Number alpha_gradient = 0;
    if (a.has_alpha && a.channels < first + kGroup) {
      for (int64_t base = 0; base < a.channels; base += kGroup) {
        Number above[kGroup];
        this->load(b, v, t, x, y, base, above);
        this->descend(frame, place + 1, a.num_tubelets, b, v, x, y, above);
        TUBELETX_UNROLL
        for (int i = 0; i < kGroup; ++i) {
          if (base + i >= a.channels) continue;
          const Number colour = to_real(texel[(base + i) * a.patch_channel_stride]);
          const Number under = this->background(frame, place, b, v, t, x, y, base + i);
          alpha_gradient = alpha_gradient + above[i] * (colour - under);
        }
      }
    }
    TUBELETX_UNROLL
    for (int k = 0; k < 4; ++k) {
      if (!taps[k]) continue;
      const Number weight = sight.weight[k] * sight.strength;
      TUBELETX_UNROLL
      for (int i = 0; i < kGroup; ++i) {
        if (first + i < a.channels) sums[i] += double(gradient[i] * (weight * alpha));
        if (a.has_alpha && first + i == a.channels) sums[i] += double(alpha_gradient * weight);
      }
    }
  }

  TUBELETX_HOST_DEVICE static int32_t clamp(double value, int32_t low, int32_t high) {
    return value > low ? (value < high ? static_cast<int32_t>(value) : high) : low;
  }
};

/// The gradients of the clips, in place: one thread for a pixel.
template <typename Pixel>
struct ClipGradients : Gradients<Pixel> {
  using Base = Gradients<Pixel>;
  using Number = Real<Pixel>;
  using Base::arguments;

  static constexpr int kThreads = 256;

  Bands bands;

  explicit ClipGradients(const Base& base) : Base(base), bands(base.arguments) {}

  int64_t num_blocks() const { return arguments.num_tubelets > 0 ? bands.num_blocks() : 0; }
  int64_t shared_bytes() const { return 0; }

  TUBELETX_DEVICE void operator()(int64_t block) const {
    const Region region = bands.region(arguments, block);
    const Layer<Number>* frame = this->layers_of(region.b, region.first_clip, region.t);
    const int thread = device::thread();
    for_each_tile(region, frame, arguments.num_tubelets, thread, kThreads, [&](int32_t x, int32_t y, int32_t end) {
      x += thread % kWarp;
      if (x >= arguments.width) return;
      for (int32_t row = y; row < y + kTileHeight && row < end; ++row) {
        for (int64_t v = region.first_clip; v < region.last_clip; ++v) descend_pixel(region, frame, v, x, row);
      }
    });
  }

 private:
  TUBELETX_HOST_DEVICE void descend_pixel(const Region& region, const Layer<Number>* frame, int64_t v, int32_t x,
                                          int32_t y) const {
    const ClipView& view = arguments.clips[v];
    bool covered = false;
    for (int64_t k = 0; k < arguments.num_tubelets && !covered; ++k) {
      Sight<Number> sight;
      covered = this->sees(frame[k], x, y, sight);
    }
    if (!covered) return;
    for (int64_t first = 0; first < arguments.channels; first += kGroup) {
      Number gradient[kGroup];
      this->load(region.b, v, region.t, x, y, first, gradient);
      this->descend(frame, 0, arguments.num_tubelets, region.b, v, x, y, gradient);
      Pixel* pixel = pixel_at<Pixel>(view, region.b, region.t, y, x);
      TUBELETX_UNROLL
      for (int i = 0; i < kGroup; ++i) {
        if (first + i < arguments.channels) {
          pixel[(first + i) * view.channel_stride] = from_real<Pixel>(gradient[i]);
        }
      }
    }
  }
};

}  // namespace

template <typename Pixel>
int64_t paste_backward_workspace(const PasteArguments& arguments) {
  return PrepareLayers<Real<Pixel>>{arguments, nullptr}.bytes();
}

template <typename Pixel>
void launch_paste_tubelets_backward(const PasteArguments& arguments, const ClipView* clips, void* workspace,
                                    void* patches_gradient, Stream stream) {
  constexpr const char* kName = "paste_tubelets_backward";
  auto* layers = static_cast<Layer<Real<Pixel>>*>(workspace);
  Gradients<Pixel> gradients{arguments, {}, layers};
  if (arguments.has_alpha) std::copy(clips, clips + arguments.num_clips, gradients.clips);
  device::launch(kName, PrepareLayers<Real<Pixel>>{arguments, layers}, stream);
  device::launch(kName, PatchGradients<Pixel>(gradients, patches_gradient), stream);
  device::launch(kName, ClipGradients<Pixel>(gradients), stream);
}

#define TUBELETX_INSTANTIATE(Pixel)                                        \
  template int64_t paste_backward_workspace<Pixel>(const PasteArguments&); \
  template void launch_paste_tubelets_backward<Pixel>(const PasteArguments&, const ClipView*, void*, void*, Stream);
TUBELETX_INSTANTIATE(Half)
TUBELETX_INSTANTIATE(BFloat16)
TUBELETX_INSTANTIATE(float)
TUBELETX_INSTANTIATE(double)
#undef TUBELETX_INSTANTIATE

}  // namespace tubeletx::cuda
