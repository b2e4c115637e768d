// Gradients of pasting. With s the strength of a tubelet at a pixel, w its bilinear weights, a and c the alpha and the
// colour of its taps, a layer is out = background (1 - s sum(w a)) + s sum(w a c); layers are undone from the top. One
// thread has a whole sample, so that sums over frames and clips have one order whatever the number of threads.
#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <tuple>
#include <vector>

#include "core/blend.h"
#include "core/pose.h"
#include "core/shapes.h"
#include "cpu/paint_order.h"
#include "cpu/parallel.h"
#include "ops/paste_tubelets.h"
#include "ops/paste_tubelets_arguments.h"

namespace tubeletx::cpu {
namespace {

/// A tubelet in the frame at hand.
template <typename Real>
struct Layer {
  int64_t tubelet;
  Shape shape;
  Pose<Real> pose;
  Footprint footprint;
  int64_t begin = 0, end = 0;  ///< columns in the row at hand
};

/// A tubelet at the pixel at hand: its four taps, as places in the patch.
template <typename Real>
struct Contribution {
  int64_t tubelet;
  Real strength;
  Real weight[4];
  int64_t column[4], row[4];
  Real alpha[4];
  Real keep;
};

template <typename Pixel>
class Sample {
 public:
  Sample(const PasteArguments& arguments, const ClipView* clips, const std::vector<int64_t>& sequence)
      : arguments_(arguments),
        clips_(clips),
        sequence_(sequence),
        appearances_(arguments.patches_per_clip ? arguments.num_clips : 1),
        patch_elements_(arguments.patch_channels * arguments.patch_height * arguments.patch_width),
        sums_(static_cast<size_t>(appearances_ * arguments.num_tubelets * patch_elements_)),
        gradient_(static_cast<size_t>(arguments.channels)),
        backgrounds_(static_cast<size_t>((arguments.num_tubelets + 1) * arguments.channels)) {
    layers_.reserve(static_cast<size_t>(arguments.num_tubelets));
    contributions_.reserve(static_cast<size_t>(arguments.num_tubelets));
  }

  /// Turns the gradients of sample b into those of its clips, in place, and sums those of its patches.
  void run(int64_t b) {
    std::fill(sums_.begin(), sums_.end(), 0.0);
    for (int64_t v = 0; v < arguments_.num_clips; ++v) {
      for (int64_t t = 0; t < arguments_.frames; ++t) run_frame(b, v, t);
    }
  }

  void write_patches(int64_t b, Pixel* gradient) const {
    const PasteArguments& a = arguments_;
    const double* sum = sums_.data();
    for (int64_t v = 0; v < appearances_; ++v) {
      for (int64_t m = 0; m < a.num_tubelets; ++m) {
        for (int64_t c = 0; c < a.patch_channels; ++c) {
          for (int64_t y = 0; y < a.patch_height; ++y) {
            for (int64_t x = 0; x < a.patch_width; ++x) {
              gradient[(((b * appearances_ + v) * a.num_tubelets + m) * patch_elements_) +
                       (c * a.patch_height + y) * a.patch_width + x] = from_real<Pixel>(static_cast<Number>(*sum++));
            }
          }
        }
      }
    }
  }

 private:
  using Number = Real<Pixel>;

  void run_frame(int64_t b, int64_t v, int64_t t) {
    layers_.clear();
    for (int64_t k = 0; k < arguments_.num_tubelets; ++k) {
      const int64_t m = sequence_[b * arguments_.num_tubelets + k];
      const Shape shape = static_cast<Shape>(arguments_.shape[b * arguments_.num_tubelets + m]);
      Placement placement;
      if (!placement_of(arguments_, b, v, m, t, placement)) continue;
      layers_.push_back({m, shape, pose_of<Number>(arguments_, b, m, t, placement),
                         Footprint(placement, shape, arguments_.height, arguments_.width)});
    }
    for (int64_t y = 0; y < arguments_.height; ++y) {
      int64_t begin = arguments_.width, end = 0;
      for (Layer<Number>& layer : layers_) {
        layer.begin = layer.end = 0;
        if (y < layer.footprint.row_begin || y >= layer.footprint.row_end) continue;
        layer.footprint.span(y, layer.begin, layer.end);
        if (layer.begin >= layer.end) continue;
        begin = std::min(begin, layer.begin);
        end = std::max(end, layer.end);
      }
      for (int64_t x = begin; x < end; ++x) run_pixel(b, v, t, y, x);
    }
  }

  void run_pixel(int64_t b, int64_t v, int64_t t, int64_t y, int64_t x) {
    contributions_.clear();
    for (const Layer<Number>& layer : layers_) {
      if (x < layer.begin || x >= layer.end) continue;
      const Sight<Number> sight = see_patch(layer.shape, layer.pose, static_cast<int32_t>(x), static_cast<int32_t>(y));
      if (sight.strength > 0) contributions_.push_back(contribution(b, v, layer.tubelet, sight));
    }
    if (contributions_.empty()) return;
    if (arguments_.has_alpha) paint(b, v, pixel_at(clips_[v], b, t, y, x), clips_[v].channel_stride);

    Pixel* pixel = pixel_at(arguments_.clips[v], b, t, y, x);
    const int64_t stride = arguments_.clips[v].channel_stride;
    for (int64_t c = 0; c < arguments_.channels; ++c) gradient_[c] = to_real(pixel[c * stride]);
    for (size_t layer = contributions_.size(); layer-- > 0;) {
      add_patch_gradient(b, v, contributions_[layer], backgrounds_.data() + layer * arguments_.channels);
      for (Number& value : gradient_) value = value * contributions_[layer].keep;
    }
    for (int64_t c = 0; c < arguments_.channels; ++c) pixel[c * stride] = from_real<Pixel>(gradient_[c]);
  }

  Contribution<Number> contribution(int64_t b, int64_t v, int64_t m, const Sight<Number>& sight) const {
    const int32_t* size = arguments_.patch_size + 2 * (b * arguments_.num_tubelets + m);
    Contribution<Number> result{m, sight.strength, {}, {}, {}, {}, 0};
    Number covered = 0;
    for (int k = 0; k < 4; ++k) {
      result.column[k] = std::min<int64_t>(sight.column + k % 2, size[0] - 1);
      result.row[k] = std::min<int64_t>(sight.row + k / 2, size[1] - 1);
      result.weight[k] = sight.weight[k];
      result.alpha[k] = 1;
      if (arguments_.has_alpha) {
        result.alpha[k] = patch_value(b, v, m, arguments_.channels, result.row[k], result.column[k]);
        covered = covered + result.weight[k] * result.alpha[k];
      }
    }
    result.keep = Number(1) - (arguments_.has_alpha ? sight.strength * covered : sight.strength);
    return result;
  }

  /// The forward pass at one pixel: the background under each layer, which the alpha's gradient needs.
  void paint(int64_t b, int64_t v, const Pixel* pixel, int64_t stride) {
    for (int64_t c = 0; c < arguments_.channels; ++c) {
      Pixel colour = pixel[c * stride];
      for (size_t layer = 0; layer < contributions_.size(); ++layer) {
        const Contribution<Number>& part = contributions_[layer];
        backgrounds_[layer * arguments_.channels + c] = to_real(colour);
        Number tap[4];
        for (int k = 0; k < 4; ++k) tap[k] = patch_value(b, v, part.tubelet, c, part.row[k], part.column[k]);
        const Number warped =
            weigh(part.weight[0] * part.alpha[0], part.weight[1] * part.alpha[1], part.weight[2] * part.alpha[2],
                  part.weight[3] * part.alpha[3], tap[0], tap[1], tap[2], tap[3]);
        colour = blend(colour, part.keep, warped * part.strength);
      }
    }
  }

  void add_patch_gradient(int64_t b, int64_t v, const Contribution<Number>& part, const Number* background) {
    const int64_t appearance = arguments_.patches_per_clip ? v : 0;
    double* sums = sums_.data() + (appearance * arguments_.num_tubelets + part.tubelet) * patch_elements_;
    const int64_t plane = arguments_.patch_height * arguments_.patch_width;
    for (int k = 0; k < 4; ++k) {
      const int64_t place = part.row[k] * arguments_.patch_width + part.column[k];
      const Number weight = part.weight[k] * part.strength;
      Number alpha_gradient = 0;
      for (int64_t c = 0; c < arguments_.channels; ++c) {
        sums[c * plane + place] += double(gradient_[c] * (weight * part.alpha[k]));
        if (arguments_.has_alpha) {
          const Number colour = patch_value(b, v, part.tubelet, c, part.row[k], part.column[k]);
          alpha_gradient = alpha_gradient + gradient_[c] * (colour - background[c]);
        }
      }
      if (arguments_.has_alpha) sums[arguments_.channels * plane + place] += double(alpha_gradient * weight);
    }
  }

  Number patch_value(int64_t b, int64_t v, int64_t m, int64_t c, int64_t y, int64_t x) const {
    const PasteArguments& a = arguments_;
    return to_real(static_cast<const Pixel*>(
        a.patches)[b * a.patch_batch_stride + v * a.patch_clip_stride + m * a.patch_tubelet_stride +
                   c * a.patch_channel_stride + y * a.patch_row_stride + x * a.patch_column_stride]);
  }

  static Pixel* pixel_at(const ClipView& clip, int64_t b, int64_t t, int64_t y, int64_t x) {
    return static_cast<Pixel*>(clip.data) + b * clip.batch_stride + t * clip.frame_stride + y * clip.row_stride +
           x * clip.column_stride;
  }

  const PasteArguments& arguments_;
  const ClipView* clips_;
  const std::vector<int64_t>& sequence_;
  int64_t appearances_, patch_elements_;
  std::vector<double> sums_;  ///< gradients of the patches, (V or 1, M, patch channels, Hp, Wp)
  std::vector<Number> gradient_, backgrounds_;
  std::vector<Layer<Number>> layers_;
  std::vector<Contribution<Number>> contributions_;
};

template <typename Pixel>
void run_backward(const PasteArguments& arguments, const ClipView* clips, void* patches_gradient) {
  const std::vector<int64_t> sequence = paint_order(arguments);
  parallel_for(arguments.batch, 1, [&](int64_t begin, int64_t end) {
    Sample<Pixel> sample(arguments, clips, sequence);
    for (int64_t b = begin; b < end; ++b) {
      sample.run(b);
      sample.write_patches(b, static_cast<Pixel*>(patches_gradient));
    }
  });
}

std::tuple<TensorList, Tensor> paste_tubelets_backward(const TensorList& gradients, const TensorList& clips,
                                                       const Tensor& patches, const Tensor& patch_size,
                                                       const Tensor& centers, const Tensor& linear, const Tensor& shape,
                                                       const Tensor& edge, const Tensor& opacity, const Tensor& order,
                                                       const std::optional<Tensor>& offsets) {
  check_clips(gradients, "gradients", patches, /*allow_bytes=*/false);
  TensorList clip_gradients = clone_all(gradients);
  const PasteInputs inputs = check_paste(clip_gradients, "gradients", /*allow_bytes=*/false, patches, patch_size,
                                         centers, linear, shape, edge, opacity, order, offsets);
  const PasteArguments& arguments = inputs.arguments;
  check_paste_values(arguments);
  const std::vector<ClipView> views = check_background(arguments, gradients, clips, patches);
  const auto extents = patches.sizes();
  Tensor patches_gradient = torch::stable::new_empty(patches, extents);
  void* data = patches_gradient.mutable_data_ptr();
  with_float_pixel(patches.scalar_type(),
                   [&](auto pixel) { run_backward<decltype(pixel)>(arguments, views.data(), data); });
  return {std::move(clip_gradients), std::move(patches_gradient)};
}

STABLE_TORCH_LIBRARY_IMPL(tubeletx, CPU, library) {
  library.impl("paste_tubelets_backward", TORCH_BOX(&paste_tubelets_backward));
}

}  // namespace
}  // namespace tubeletx::cpu
