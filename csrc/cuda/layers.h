// Tubelets as the pasting kernels see them: the layers of a frame, how a frame is cut into tiles, and how a layer shows
// at a pixel.
#pragma once

#include <cstdint>

#include "core/blend.h"
#include "core/pose.h"
#include "cuda/device.h"
#include "ops/paste_tubelets_arguments.h"

namespace tubeletx::cuda {

using device::kWarp;

/// A tubelet in one frame of one clip.
template <typename Real>
struct Layer {
  Pose<Real> pose;
  Shape shape;
  int32_t tubelet;
  int32_t last_column, last_row;                         ///< of the patch
  int32_t column_begin, column_end, row_begin, row_end;  ///< pixels outside are not touched; empty: not painted

  TUBELETX_HOST_DEVICE bool touches(int32_t x, int32_t y, int32_t width, int32_t height) const {
    return x < column_end && x + width > column_begin && y < row_end && y + height > row_begin;
  }
};

/// Which layers share a pose and a patch: all clips, or each clip has its own.
TUBELETX_HOST_DEVICE inline int64_t num_views(const PasteArguments& arguments) {
  return arguments.offsets != nullptr || arguments.patches_per_clip ? arguments.num_clips : 1;
}

/// Place of tubelet m of sample b in the paint order: by rising rank, equal ranks by index.
TUBELETX_HOST_DEVICE inline int64_t paint_position(const PasteArguments& arguments, int64_t b, int64_t m) {
  const int32_t* rank = arguments.order + b * arguments.num_tubelets;
  int64_t position = 0;
  TUBELETX_ROLL
  for (int64_t other = 0; other < arguments.num_tubelets; ++other) {
    position += rank[other] < rank[m] || (rank[other] == rank[m] && other < m);
  }
  return position;
}

template <typename Real>
TUBELETX_HOST_DEVICE inline void make_layer(const PasteArguments& arguments, int64_t b, int64_t v, int64_t m, int64_t t,
                                            Layer<Real>& layer) {
  const int64_t tubelet = b * arguments.num_tubelets + m;
  const int32_t width = arguments.patch_size[2 * tubelet], height = arguments.patch_size[2 * tubelet + 1];
  layer.shape = static_cast<Shape>(arguments.shape[tubelet]);
  layer.tubelet = static_cast<int32_t>(m);
  layer.last_column = width - 1;
  layer.last_row = height - 1;
  layer.column_begin = layer.column_end = layer.row_begin = layer.row_end = 0;
  // Nobody has looked at the sizes here: one beyond the storage paints nothing rather than reading past it.
  if (width > arguments.patch_width || height > arguments.patch_height) return;
  Placement placement;
  if (!placement_of(arguments, b, v, m, t, placement)) return;
  layer.pose = pose_of<Real>(arguments, b, m, t, placement);
  const Footprint footprint(placement, layer.shape, arguments.height, arguments.width);
  layer.column_begin = static_cast<int32_t>(footprint.column_begin);
  layer.column_end = static_cast<int32_t>(footprint.column_end);
  layer.row_begin = static_cast<int32_t>(footprint.row_begin);
  layer.row_end = static_cast<int32_t>(footprint.row_end);
}

/// Writes the layers of every frame, (B, T, views, M) in paint order, for kernels that cannot make their own.
template <typename Real>
struct PrepareLayers {
  static constexpr int kThreads = 128;

  PasteArguments arguments;
  Layer<Real>* layers;

  TUBELETX_HOST_DEVICE int64_t count() const {
    return arguments.batch * arguments.frames * num_views(arguments) * arguments.num_tubelets;
  }
  /// Of the workspace that `layers` is.
  int64_t bytes() const { return count() * static_cast<int64_t>(sizeof(Layer<Real>)); }
  int64_t num_blocks() const { return (count() + kThreads - 1) / kThreads; }
  int64_t shared_bytes() const { return 0; }

  TUBELETX_DEVICE void operator()(int64_t block) const {
    const int64_t index = block * kThreads + device::thread();
    if (index >= count()) return;
    const int64_t frame = index / arguments.num_tubelets, m = index % arguments.num_tubelets;
    const int64_t views = num_views(arguments);
    const int64_t b = frame / views / arguments.frames;
    make_layer(arguments, b, frame % views, m, frame / views % arguments.frames,
               layers[frame * arguments.num_tubelets + paint_position(arguments, b, m)]);
  }
};

/// Which part of which frames a block works on.
struct Region {
  int64_t b, t;
  int64_t first_clip, last_clip;  ///< clips that see the same layers
  int64_t frame;                  ///< among (B, T, views)
  int32_t row_begin, row_end;
};

/// Cuts frames into bands of rows, so that few large frames still fill the processor.
class Bands {
 public:
  explicit Bands(const PasteArguments& arguments) {
    constexpr int64_t kBlocks = 1024, kFewestRows = 16;
    frames_ = arguments.batch * arguments.frames * num_views(arguments);
    const int64_t wanted = frames_ > 0 ? (kBlocks + frames_ - 1) / frames_ : 1;
    const int64_t most = (arguments.height + kFewestRows - 1) / kFewestRows;
    const int64_t bands = std::min(wanted, std::max<int64_t>(most, 1));
    rows_ = (arguments.height + bands - 1) / bands;
    bands_ = rows_ > 0 ? (arguments.height + rows_ - 1) / rows_ : 0;
  }

  TUBELETX_HOST_DEVICE int64_t num_blocks() const { return frames_ * bands_; }

  TUBELETX_HOST_DEVICE Region region(const PasteArguments& arguments, int64_t index) const {
    const int64_t frame = index / bands_, row = index % bands_ * rows_;
    const int64_t views = num_views(arguments), view = frame % views;
    const int64_t end = row + rows_ < arguments.height ? row + rows_ : arguments.height;
    return {frame / views / arguments.frames,
            frame / views % arguments.frames,
            view,
            views == 1 ? arguments.num_clips : view + 1,
            frame,
            static_cast<int32_t>(row),
            static_cast<int32_t>(end)};
  }

 private:
  int64_t frames_, bands_, rows_;
};

/// Pixels of a tile, which one warp works on: every lane has as many as the tile has rows.
inline constexpr int32_t kTileWidth = 32;
inline constexpr int32_t kTileHeight = 4;

/// Calls body(x, y) for the tiles of this thread's warp. They cover the rows of the region as far as the layers reach;
/// x is a multiple of 4.
template <typename Real, typename Body>
TUBELETX_HOST_DEVICE inline void for_each_tile(const Region& region, const Layer<Real>* layers, int64_t count,
                                               int thread, int threads, const Body& body) {
  int32_t left = INT32_MAX, right = 0, top = INT32_MAX, bottom = 0;
  for (int64_t k = 0; k < count; ++k) {
    const Layer<Real>& layer = layers[k];
    if (layer.column_begin >= layer.column_end || layer.row_begin >= layer.row_end) continue;
    left = layer.column_begin < left ? layer.column_begin : left;
    right = layer.column_end > right ? layer.column_end : right;
    top = layer.row_begin < top ? layer.row_begin : top;
    bottom = layer.row_end > bottom ? layer.row_end : bottom;
  }
  top = region.row_begin > top ? region.row_begin : top;
  bottom = region.row_end < bottom ? region.row_end : bottom;
  if (left >= right || top >= bottom) return;
  left = left / 4 * 4;
  const int64_t across = (right - left + kTileWidth - 1) / kTileWidth;
  const int64_t down = (bottom - top + kTileHeight - 1) / kTileHeight;
  for (int64_t tile = thread / kWarp; tile < across * down; tile += threads / kWarp) {
    body(left + static_cast<int32_t>(tile % across) * kTileWidth,
         top + static_cast<int32_t>(tile / across) * kTileHeight, bottom);
  }
}

template <typename Pixel>
TUBELETX_HOST_DEVICE inline Pixel* pixel_at(const ClipView& clip, int64_t b, int64_t t, int32_t y, int32_t x) {
  return static_cast<Pixel*>(clip.data) + b * clip.batch_stride + t * clip.frame_stride + y * clip.row_stride +
         x * clip.column_stride;
}

/// The patch of tubelet m of sample b, as clip v sees it.
template <typename Pixel>
TUBELETX_HOST_DEVICE inline const Pixel* patch_of(const PasteArguments& arguments, int64_t b, int64_t v, int64_t m) {
  return static_cast<const Pixel*>(arguments.patches) + b * arguments.patch_batch_stride +
         v * arguments.patch_clip_stride + m * arguments.patch_tubelet_stride;
}

/// A layer at a pixel that it covers: what stays of the background, and the light that it adds to each channel.
template <typename Pixel>
class Covering {
 public:
  using Number = Real<Pixel>;

  TUBELETX_INLINE Covering(const PasteArguments& arguments, const Layer<Number>& layer, const Pixel* patch,
                           const Sight<Number>& sight)
      : channel_stride_(arguments.patch_channel_stride), strength_(sight.strength) {
    const int64_t right = sight.column < layer.last_column ? arguments.patch_column_stride : 0;
    const int64_t lower = sight.row < layer.last_row ? arguments.patch_row_stride : 0;
    tap_[0] = patch + sight.row * arguments.patch_row_stride + sight.column * arguments.patch_column_stride;
    tap_[1] = tap_[0] + right;
    tap_[2] = tap_[0] + lower;
    tap_[3] = tap_[0] + lower + right;
    for (int k = 0; k < 4; ++k) weight_[k] = sight.weight[k];
    keep = Number(1) - strength_;
    if (arguments.has_alpha) {
      Number covered = 0;
      for (int k = 0; k < 4; ++k) {
        weight_[k] = weight_[k] * tap(k, arguments.channels);
        covered = covered + weight_[k];
      }
      keep = Number(1) - strength_ * covered;
    }
  }

  TUBELETX_INLINE Number light(int64_t channel) const {
    return weigh(weight_[0], weight_[1], weight_[2], weight_[3], tap(0, channel), tap(1, channel), tap(2, channel),
                 tap(3, channel)) *
           strength_;
  }

  Number keep;

 private:
  TUBELETX_INLINE Number tap(int k, int64_t channel) const { return to_real(tap_[k][channel * channel_stride_]); }

  const Pixel* tap_[4];
  int64_t channel_stride_;
  Number weight_[4];
  Number strength_;
};

}  // namespace tubeletx::cuda
