// What pasting onto bytes prepares: the pose of each tubelet in each frame, and the texels in the form that the pasting
// kernel reads.
#pragma once

#include <cstdint>

#include "core/paste_bytes.h"
#include "cuda/layers.h"
#include "cuda/paste_bytes.h"

namespace tubeletx::cuda {

/// Pixels that one warp works on at a time: a lane has a run of pixels in a row.
inline constexpr int32_t kByteTileWidth = 16;
inline constexpr int32_t kByteTileHeight = 8;
inline constexpr int32_t kByteRun = kByteTileWidth * kByteTileHeight / kWarp;

/// The taps of four channels at one place of a patch: byte k of a word is tap k.
struct alignas(16) Taps {
  uint32_t channel[4];
};

/// In one access. Nothing writes taps while they are read.
TUBELETX_INLINE Taps load_taps(const Taps* taps) {
#ifdef __CUDA_ARCH__
  const uint4 words = __ldg(reinterpret_cast<const uint4*>(taps));
  return {{words.x, words.y, words.z, words.w}};
#else
  return *taps;
#endif
}

/// A tubelet in one frame of the clips that see it alike.
struct ByteLayer {
  BytePose pose;
  Shape shape;
  bool near;                                             ///< in a tile that touches the patch, places fit 32 bits
  const Taps* taps;                                      ///< of its patch, row by row
  int32_t pitch;                                         ///< of a row
  int32_t column_begin, column_end, row_begin, row_end;  ///< pixels outside are not touched; empty: not painted

  /// Whether the layer may show in the tile whose first pixel is (x, y), by the outline's bounding boxes on the axes of
  /// the frame and on those of the patch, which for rectangles is all there is, and by the distance of other outlines.
  TUBELETX_HOST_DEVICE bool touches(int32_t x, int32_t y) const {
    if (x >= column_end || x + kByteTileWidth <= column_begin || y >= row_end || y + kByteTileHeight <= row_begin) {
      return false;
    }
    if (!overlaps(x, y, 0) || !overlaps(x, y, 1)) return false;
    return shape == Shape::kRectangle || distance(x, y) <= 1.001f;
  }

  /// Sets the pixels that may be touched: the outline's bounding box, from the map of patch axes to image axes. It is
  /// never too small: rounding is allowed for, of this and of places, which are off by up to half a unit a pixel.
  TUBELETX_HOST_DEVICE void bound(const Placement& placement, const float* linear, int64_t height, int64_t width) {
    const float half_width = 0.5f * static_cast<float>(placement.width);
    const float half_height = 0.5f * static_cast<float>(placement.height);
    const float reach_x = reach(std::fabs(linear[0]) * half_width, std::fabs(linear[1]) * half_height);
    const float reach_y = reach(std::fabs(linear[2]) * half_width, std::fabs(linear[3]) * half_height);
    const float error = (reach_x + reach_y + 4.0f) / static_cast<float>(int64_t{1} << pose.fraction);
    const double center_x = double(placement.anchor_x) - placement.rest_x;  // from which pixels count: less one half
    const double center_y = double(placement.anchor_y) - placement.rest_y;
    const double far_x = reach_x * 1.00001f + (std::fabs(linear[0]) + std::fabs(linear[1])) * error;
    const double far_y = reach_y * 1.00001f + (std::fabs(linear[2]) + std::fabs(linear[3])) * error;
    column_begin = clamp(std::ceil(center_x - far_x), width);
    column_end = clamp(std::floor(center_x + far_x) + 1.0, width);
    row_begin = clamp(std::ceil(center_y - far_y), height);
    row_end = clamp(std::floor(center_y + far_y) + 1.0, height);
  }

 private:
  /// How far the outline goes along an axis of the image, from what half the patch's sides reach there.
  TUBELETX_HOST_DEVICE float reach(float first, float second) const {
    if (shape == Shape::kRectangle) return first + second;
    if (shape == Shape::kEllipse) return std::sqrt(first * first + second * second);
    return first > second ? first : second;
  }

  TUBELETX_HOST_DEVICE static int32_t clamp(double value, int64_t extent) {
    return static_cast<int32_t>(value > 0 ? (value < double(extent) ? value : double(extent)) : 0.0);
  }

  /// Of the outline's centre from the tile, in the measure in which the outline is at 1; or less.
  TUBELETX_HOST_DEVICE float distance(int32_t x, int32_t y) const {
    float center[2], along[2], down[2];  // of the tile, in half sizes of the patch
    for (int axis = 0; axis < 2; ++axis) {
      const float scale = pose.inverse_half[axis] / static_cast<float>(int64_t{1} << pose.coarseness);
      along[axis] = static_cast<float>(pose.step_x[axis]) * scale * (0.5f * (kByteTileWidth - 1));
      down[axis] = static_cast<float>(pose.step_y[axis]) * scale * (0.5f * (kByteTileHeight - 1));
      const float first = static_cast<float>(place_of(pose, x, y, axis) - (pose.extent[axis] >> 1)) * scale;
      center[axis] = first + along[axis] + down[axis];
    }
    return (measure(center) - measure(along) - measure(down)) * 0.9999f;
  }

  TUBELETX_HOST_DEVICE float measure(const float (&vector)[2]) const {
    if (shape == Shape::kEllipse) return std::sqrt(vector[0] * vector[0] + vector[1] * vector[1]);
    return std::fabs(vector[0]) + std::fabs(vector[1]);
  }

  TUBELETX_HOST_DEVICE bool overlaps(int32_t x, int32_t y, int axis) const {
    const int64_t first = place_of(pose, x, y, axis);
    const int64_t along = pose.step_x[axis] * (kByteTileWidth - 1), down = pose.step_y[axis] * (kByteTileHeight - 1);
    const int64_t lowest = first + (along < 0 ? along : 0) + (down < 0 ? down : 0);
    const int64_t highest = first + (along > 0 ? along : 0) + (down > 0 ? down : 0);
    return highest >= 0 && lowest < pose.extent[axis];
  }
};

/// A patch as it is read: its size and its first texel. The size is 0 where it cannot be right, for nobody has looked
/// at the sizes here: a patch beyond its storage paints nothing rather than reading past it.
struct BytePatch {
  int32_t width, height;
  const uint8_t* texels;

  TUBELETX_HOST_DEVICE BytePatch(const PasteArguments& a, const PatchBoxes& boxes, int64_t b, int64_t v, int64_t m)
      : texels(patch_of<uint8_t>(a, b, v, m)) {
    const int64_t tubelet = b * a.num_tubelets + m;
    if (boxes.box != nullptr) {
      const int32_t* box = boxes.box + 4 * tubelet;
      width = box[2] - box[0];
      height = box[3] - box[1];
      texels +=
          boxes.frame[tubelet] * boxes.frame_stride + box[1] * a.patch_row_stride + box[0] * a.patch_column_stride;
    } else {
      width = a.patch_size[2 * tubelet];
      height = a.patch_size[2 * tubelet + 1];
    }
    if (width <= 0 || height <= 0 || width > a.patch_width || height > a.patch_height) width = height = 0;
  }
};

TUBELETX_HOST_DEVICE inline void make_byte_layer(const PasteArguments& arguments, const PatchBoxes& boxes, int64_t b,
                                                 int64_t v, int64_t m, int64_t t, ByteLayer& layer) {
  const int64_t tubelet = b * arguments.num_tubelets + m;
  const BytePatch patch(arguments, boxes, b, v, m);
  layer.shape = static_cast<Shape>(arguments.shape[tubelet]);
  layer.pitch = patch.width + 1;
  layer.column_begin = layer.column_end = layer.row_begin = layer.row_end = 0;
  Placement placement;
  if (!placement_of(arguments, b, v, m, t, patch.width, patch.height, placement)) return;
  const float opacity = arguments.opacity[tubelet * arguments.frames + t];
  if (!make_byte_pose(placement, arguments.edge[tubelet], opacity, arguments.has_alpha, layer.pose)) return;
  layer.near = layer.pose.narrow;
  for (int axis = 0; axis < 2; ++axis) {
    const int64_t along = layer.pose.step_x[axis] * (kByteTileWidth - 1);
    const int64_t down = layer.pose.step_y[axis] * (kByteTileHeight - 1);
    const int64_t reach = (along < 0 ? -along : along) + (down < 0 ? -down : down);
    layer.near = layer.near && reach <= int64_t{1} << 30;
  }
  layer.bound(placement, arguments.linear + 4 * (tubelet * arguments.frames + t), arguments.height, arguments.width);
}

/// The texels of every patch, premultiplied, with the borders repeated: (height + 1, width + 1, groups) taps. Channel c
/// is word c % 4 of group c / 4; the alpha comes after the colours.
struct ByteTexels {
  Taps* taps;
  int32_t groups;  ///< of four channels

  ByteTexels(const PasteArguments& arguments, void* memory)
      : taps(static_cast<Taps*>(memory)), groups(static_cast<int32_t>(arguments.channels / 4 + 1)) {}

  TUBELETX_HOST_DEVICE static int64_t appearances(const PasteArguments& arguments) {
    return arguments.batch * (arguments.patches_per_clip ? arguments.num_clips : 1);
  }
  TUBELETX_HOST_DEVICE static int64_t num_patches(const PasteArguments& arguments) {
    return appearances(arguments) * arguments.num_tubelets;
  }
  /// Places that there is room for, for each patch.
  TUBELETX_HOST_DEVICE static int64_t places(const PasteArguments& arguments) {
    return (arguments.patch_height + 1) * (arguments.patch_width + 1);
  }
  TUBELETX_HOST_DEVICE Taps* of(const PasteArguments& arguments, int64_t b, int64_t v, int64_t m) const {
    const int64_t appearance = arguments.patches_per_clip ? b * arguments.num_clips + v : b;
    return taps + (appearance * arguments.num_tubelets + m) * places(arguments) * groups;
  }
};

/// Writes the layers of every frame, (B, T, views, M) in paint order, and the texels of every patch.
struct PrepareBytes {
  static constexpr int kThreads = 128;
  static constexpr int kResident = 8;

  PasteArguments arguments;
  PatchBoxes boxes;
  ByteLayer* layers;
  ByteTexels texels;

  PrepareBytes(const PasteArguments& given, const PatchBoxes& in_clip, void* workspace)
      : arguments(given),
        boxes(in_clip),
        layers(static_cast<ByteLayer*>(workspace)),
        texels(given, static_cast<char*>(workspace) + layer_bytes()) {}

  TUBELETX_HOST_DEVICE int64_t num_layers() const {
    return arguments.batch * arguments.frames * num_views(arguments) * arguments.num_tubelets;
  }
  int64_t layer_bytes() const {
    constexpr int64_t kAlignment = alignof(Taps);
    return (num_layers() * static_cast<int64_t>(sizeof(ByteLayer)) + kAlignment - 1) / kAlignment * kAlignment;
  }
  /// Of the workspace.
  int64_t bytes() const {
    return layer_bytes() + ByteTexels::num_patches(arguments) * ByteTexels::places(arguments) * texels.groups *
                               static_cast<int64_t>(sizeof(Taps));
  }

  TUBELETX_HOST_DEVICE int64_t layer_blocks() const { return (num_layers() + kThreads - 1) / kThreads; }
  /// Few enough that most have work to do where the patches are smaller than their storage.
  TUBELETX_HOST_DEVICE int64_t blocks_per_patch() const {
    constexpr int64_t kMost = 16;
    const int64_t blocks = (ByteTexels::places(arguments) + kThreads - 1) / kThreads;
    return blocks < kMost ? blocks : kMost;
  }
  TUBELETX_HOST_DEVICE int64_t num_blocks() const {
    return layer_blocks() + ByteTexels::num_patches(arguments) * blocks_per_patch();
  }
  int64_t shared_bytes() const { return 0; }

  TUBELETX_HOST_DEVICE void operator()(const Block& block, void*) const {
    block.each_thread([&](int thread) {
      if (block.index < layer_blocks()) {
        write_layer(block.index * kThreads + thread);
      } else {
        const uint32_t index = static_cast<uint32_t>(block.index - layer_blocks());
        const uint32_t parts = static_cast<uint32_t>(blocks_per_patch());
        write_patch(index / parts, static_cast<int32_t>(index % parts) * kThreads + thread);
      }
    });
  }

 private:
  /// Counts in 32 bits: a workspace of so many layers would fit no device.
  TUBELETX_HOST_DEVICE void write_layer(int64_t place) const {
    if (place >= num_layers()) return;
    const uint32_t index = static_cast<uint32_t>(place), tubelets = static_cast<uint32_t>(arguments.num_tubelets);
    const uint32_t views = static_cast<uint32_t>(num_views(arguments)),
                   frames = static_cast<uint32_t>(arguments.frames);
    const uint32_t frame = index / tubelets, m = index - frame * tubelets;
    const uint32_t sample_frame = frame / views, v = frame - sample_frame * views;
    const uint32_t b = sample_frame / frames, t = sample_frame - b * frames;
    ByteLayer& layer = layers[int64_t{frame} * tubelets + paint_position(arguments, b, m)];
    make_byte_layer(arguments, boxes, b, v, m, t, layer);
    layer.taps = texels.of(arguments, b, v, m);
  }

  /// The taps of a patch at place `first` and every so many further on.
  TUBELETX_HOST_DEVICE void write_patch(uint32_t index, int32_t first) const {
    const PasteArguments& a = arguments;
    const uint32_t tubelets = static_cast<uint32_t>(a.num_tubelets);
    const uint32_t clips = static_cast<uint32_t>(a.patches_per_clip ? a.num_clips : 1);
    const uint32_t appearance = index / tubelets, m = index - appearance * tubelets;
    const uint32_t b = appearance / clips, v = appearance - b * clips;
    const BytePatch patch(a, boxes, b, v, m);
    if (patch.width == 0) return;
    Taps* out = texels.of(a, b, v, m);
    const int32_t pitch = patch.width + 1, places = (patch.height + 1) * pitch;
    const int32_t step = static_cast<int32_t>(blocks_per_patch()) * kThreads;
    for (int32_t place = first; place < places; place += step) {
      const int32_t row = place / pitch;
      write_taps(patch, place - row * pitch, row, out + int64_t{place} * texels.groups);
    }
  }

  TUBELETX_HOST_DEVICE void write_taps(const BytePatch& patch, int32_t column, int32_t row, Taps* out) const {
    const PasteArguments& a = arguments;
    const int32_t left = column > 0 ? column - 1 : 0, upper = row > 0 ? row - 1 : 0;
    const int32_t right = column < patch.width ? column : column - 1, lower = row < patch.height ? row : row - 1;
    const uint8_t* texel[4];
    uint8_t alpha[4];
    TUBELETX_UNROLL
    for (int k = 0; k < 4; ++k) {
      texel[k] =
          patch.texels + (k % 2 ? right : left) * a.patch_column_stride + (k / 2 ? lower : upper) * a.patch_row_stride;
      alpha[k] = a.has_alpha ? texel[k][a.channels * a.patch_channel_stride] : 255;
    }
    for (int32_t group = 0; group < texels.groups; ++group) {
      Taps taps;
      TUBELETX_UNROLL
      for (int c = 0; c < 4; ++c) {
        const int32_t channel = 4 * group + c;
        uint32_t word = 0;
        TUBELETX_UNROLL
        for (int k = 0; k < 4; ++k) {
          uint8_t byte = alpha[k];
          if (channel < a.channels) byte = premultiply(texel[k][channel * a.patch_channel_stride], byte);
          word |= uint32_t{byte} << (8 * k);
        }
        taps.channel[c] = word;
      }
      out[group] = taps;
    }
  }
};

}  // namespace tubeletx::cuda
