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

/// Two texels side by side, in four channels: the bytes of a channel, left and right, are half a word.
struct alignas(8) TexelPair {
  uint32_t word[2];
};

/// The taps of a channel of a pixel, from the pairs above and below: byte k is tap k.
TUBELETX_INLINE uint32_t taps_of(const TexelPair& upper, const TexelPair& lower, int32_t channel) {
  const uint32_t first = upper.word[channel / 2], last = lower.word[channel / 2];
#ifdef __CUDA_ARCH__
  return __byte_perm(first, last, channel % 2 == 0 ? 0x5410 : 0x7632);
#else
  return channel % 2 == 0 ? (first & 0xffffu) | last << 16 : first >> 16 | (last & 0xffff0000u);
#endif
}

/// A narrow pose as the pasting kernel reads it, without an anchor: places count modulo 2^32, and where a tile may
/// touch the patch they are what they should be.
struct alignas(16) NearPose {
  int32_t step_x[2], step_y[2];
  int32_t origin[2];  ///< the place of the frame's first pixel
  int32_t extent[2];
  float half[2], inverse_half[2];
  float edge_slope, opacity;
  int32_t fraction;
  bool hard;

  TUBELETX_HOST_DEVICE static NearPose of(const BytePose& pose) {
    NearPose near;
    for (int axis = 0; axis < 2; ++axis) {
      near.step_x[axis] = static_cast<int32_t>(pose.step_x[axis]);
      near.step_y[axis] = static_cast<int32_t>(pose.step_y[axis]);
      near.origin[axis] = static_cast<int32_t>(static_cast<uint64_t>(place_of(pose, 0, 0, axis)));
      near.extent[axis] = static_cast<int32_t>(pose.extent[axis]);
      near.half[axis] = pose.half[axis];
      near.inverse_half[axis] = pose.inverse_half[axis];
    }
    near.edge_slope = pose.edge_slope;
    near.opacity = pose.opacity;
    near.fraction = pose.fraction;
    near.hard = pose.hard;
    return near;
  }
};

/// No place of a narrow pose needs to lose bits.
TUBELETX_INLINE int32_t coarseness_of(const NearPose&) { return 0; }

/// In 32 bits: the sum fits where the tile may touch the patch, whatever its terms do.
TUBELETX_INLINE int32_t place_of(const NearPose& pose, int32_t x, int32_t y, int axis) {
  return static_cast<int32_t>(static_cast<uint32_t>(pose.step_x[axis]) * static_cast<uint32_t>(x) +
                              static_cast<uint32_t>(pose.step_y[axis]) * static_cast<uint32_t>(y) +
                              static_cast<uint32_t>(pose.origin[axis]));
}

/// Which tiles a layer may show in: those in a box of pixels whose centre lies near enough to the outline. Distances
/// are measured along the patch's axes in half sizes, and what a tile's half diagonal adds is in the limits. It decides
/// what is looked at, not what is painted: rounding only ever lets more tiles through.
struct alignas(16) Reach {
  float origin[2] = {}, step_x[2] = {}, step_y[2] = {};  ///< of tile centres, from the first pixel on
  float limit[2] = {};                                   ///< of either axis
  float round_limit = 0.0f;                              ///< of the distance, squared if `round`
  int32_t round = 0;                                     ///< an ellipse
  int32_t column_begin = 0, column_end = 0;              ///< pixels outside are not touched; empty: not painted
  int32_t row_begin = 0, row_end = 0;

  /// Of the tile whose first pixel is (x, y).
  TUBELETX_INLINE bool touches(int32_t x, int32_t y) const {
    const bool in_box =
        (x < column_end) & (x + kByteTileWidth > column_begin) & (y < row_end) & (y + kByteTileHeight > row_begin);
    const float across = (origin[0] + step_x[0] * static_cast<float>(x)) + step_y[0] * static_cast<float>(y);
    const float down = (origin[1] + step_x[1] * static_cast<float>(x)) + step_y[1] * static_cast<float>(y);
    const float far_across = std::fabs(across), far_down = std::fabs(down);
    const float distance = round != 0 ? across * across + down * down : far_across + far_down;
    return in_box & (far_across <= limit[0]) & (far_down <= limit[1]) & (distance <= round_limit);
  }

  /// The outline's bounding box; `linear` maps patch axes to image axes. It is never too small: rounding is allowed
  /// for, of this and of places, which are off by up to half a unit a pixel.
  TUBELETX_HOST_DEVICE void set_box(const Placement& placement, const BytePose& pose, Shape shape,
                                    const float (&linear)[4], int64_t height, int64_t width) {
    const float half_width = 0.5f * static_cast<float>(placement.width);
    const float half_height = 0.5f * static_cast<float>(placement.height);
    const float far_x = extent(shape, std::fabs(linear[0]) * half_width, std::fabs(linear[1]) * half_height);
    const float far_y = extent(shape, std::fabs(linear[2]) * half_width, std::fabs(linear[3]) * half_height);
    const float error = (far_x + far_y + 4.0f) * (1.0f / static_cast<float>(int64_t{1} << pose.fraction));
    const double center_x = double(placement.anchor_x) - placement.rest_x;  // from which pixels count: less one half
    const double center_y = double(placement.anchor_y) - placement.rest_y;
    const double most_x = far_x * 1.00001f + (std::fabs(linear[0]) + std::fabs(linear[1])) * error;
    const double most_y = far_y * 1.00001f + (std::fabs(linear[2]) + std::fabs(linear[3])) * error;
    column_begin = clamp(std::ceil(center_x - most_x), width);
    column_end = clamp(std::floor(center_x + most_x) + 1.0, width);
    row_begin = clamp(std::ceil(center_y - most_y), height);
    row_end = clamp(std::floor(center_y + most_y) + 1.0, height);
  }

  /// Whether places fit 32 bits in all tiles that are let through. If not, all tiles in the box are.
  TUBELETX_HOST_DEVICE bool set_distances(const BytePose& pose, Shape shape, int64_t height, int64_t width) {
    constexpr float kHalfWidth = 0.5f * (kByteTileWidth - 1), kHalfHeight = 0.5f * (kByteTileHeight - 1);
    constexpr float kRounding = 0x1p-20f;
    float error = 0.0f;
    bool fits = pose.narrow;
    for (int axis = 0; axis < 2; ++axis) {
      const float size = static_cast<float>(pose.extent[axis]), scale = 2.0f / size;
      const float across = static_cast<float>(pose.step_x[axis]) * scale;
      const float down = static_cast<float>(pose.step_y[axis]) * scale;
      const float first = static_cast<float>(place_of(pose, 0, 0, axis) - (pose.extent[axis] >> 1)) * scale;
      const float own_error =
          kRounding * (std::fabs(first) + std::fabs(across) * static_cast<float>(width + kByteTileWidth) +
                       std::fabs(down) * static_cast<float>(height + kByteTileHeight) + 1.0f);
      const float tile = std::fabs(across) * kHalfWidth + std::fabs(down) * kHalfHeight;
      step_x[axis] = across;
      step_y[axis] = down;
      origin[axis] = first + across * kHalfWidth + down * kHalfHeight;
      limit[axis] = 1.0f + tile + own_error;
      error += own_error;
      // The farthest pixel of a tile that is let through, from the patch's corner.
      fits = fits && (1.0f + tile + own_error) * size < 0x1p31f;
    }
    if (!fits) {
      for (int axis = 0; axis < 2; ++axis) origin[axis] = step_x[axis] = step_y[axis] = limit[axis] = 0.0f;
      return false;
    }
    round = shape == Shape::kEllipse;
    const float tile = measure(shape, step_x) * kHalfWidth + measure(shape, step_y) * kHalfHeight;
    const float most = (1.0f + tile) * 1.00001f + error;
    round_limit = shape == Shape::kRectangle ? static_cast<float>(INFINITY) : (round != 0 ? most * most : most);
    return true;
  }

 private:
  /// How far an outline goes along an axis of the image, from what half the patch's sides reach there.
  TUBELETX_HOST_DEVICE static float extent(Shape shape, float first, float second) {
    if (shape == Shape::kRectangle) return first + second;
    if (shape == Shape::kEllipse) return std::sqrt(first * first + second * second);
    return first > second ? first : second;
  }

  TUBELETX_HOST_DEVICE static float measure(Shape shape, const float (&vector)[2]) {
    if (shape == Shape::kEllipse) return std::sqrt(vector[0] * vector[0] + vector[1] * vector[1]);
    return std::fabs(vector[0]) + std::fabs(vector[1]);
  }

  TUBELETX_HOST_DEVICE static int32_t clamp(double value, int64_t extent) {
    return static_cast<int32_t>(value > 0 ? (value < double(extent) ? value : double(extent)) : 0.0);
  }
};

/// A tubelet in one frame of the clips that see it alike.
struct ByteLayer {
  Reach reach;
  NearPose near_pose;       ///< if near
  const TexelPair* texels;  ///< of its patch, row by row
  int32_t pitch;            ///< of a row
  Shape shape;
  BytePaint paint;
  bool near;      ///< in a tile that is let through, places fit 32 bits
  BytePose pose;  ///< if not near
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

/// Fills all but the texels. Everything is read before anything is written: a thread makes one layer, and would wait
/// for each.
TUBELETX_HOST_DEVICE inline void write_byte_layer(const PasteArguments& arguments, const PatchBoxes& boxes, int64_t b,
                                                  int64_t v, int64_t m, int64_t t, ByteLayer& layer) {
  const int64_t tubelet = b * arguments.num_tubelets + m, frame = tubelet * arguments.frames + t;
  const BytePatch patch(arguments, boxes, b, v, m);
  const float center[2] = {arguments.centers[2 * frame], arguments.centers[2 * frame + 1]};
  float linear[4], offset[2] = {};  // an offset of 0 is as good as none
  for (int i = 0; i < 4; ++i) linear[i] = arguments.linear[4 * frame + i];
  if (arguments.offsets != nullptr) {
    const float* given = arguments.offsets + 2 * ((b * arguments.num_clips + v) * arguments.num_tubelets + m);
    for (int axis = 0; axis < 2; ++axis) offset[axis] = given[axis];
  }
  const float opacity = arguments.opacity[frame], edge = arguments.edge[tubelet];
  const Shape shape = static_cast<Shape>(arguments.shape[tubelet]);
  Placement placement;
  BytePose pose;
  if (!place_patch(center, offset, linear, patch.width, patch.height, opacity, placement) ||
      !make_byte_pose(placement, edge, opacity, arguments.has_alpha, pose)) {
    layer.reach = {};
    return;
  }
  Reach reach;
  reach.set_box(placement, pose, shape, linear, arguments.height, arguments.width);
  layer.near = reach.set_distances(pose, shape, arguments.height, arguments.width);
  if (layer.near) {
    layer.near_pose = NearPose::of(pose);
  } else {
    layer.near_pose = {};  // it is read all the same
    layer.pose = pose;
  }
  layer.reach = reach;
  layer.pitch = patch.width + 1;
  layer.shape = shape;
  layer.paint = pose.paint;
}

/// The texels of every patch, premultiplied, with the borders repeated: (height + 2, width + 1, groups) pairs, of which
/// the pixel that lies between four texels reads one and the one below. Channel c is number c % 4 of group c / 4; the
/// alpha comes after the colours.
struct ByteTexels {
  TexelPair* pairs;
  int32_t groups;  ///< of four channels

  ByteTexels(const PasteArguments& arguments, void* memory)
      : pairs(static_cast<TexelPair*>(memory)), groups(static_cast<int32_t>(arguments.channels / 4 + 1)) {}

  TUBELETX_HOST_DEVICE static int64_t appearances(const PasteArguments& arguments) {
    return arguments.batch * (arguments.patches_per_clip ? arguments.num_clips : 1);
  }
  TUBELETX_HOST_DEVICE static int64_t num_patches(const PasteArguments& arguments) {
    return appearances(arguments) * arguments.num_tubelets;
  }
  /// Places that there is room for, for each patch.
  TUBELETX_HOST_DEVICE static int64_t places(const PasteArguments& arguments) {
    return (arguments.patch_height + 2) * (arguments.patch_width + 1);
  }
  TUBELETX_HOST_DEVICE TexelPair* of(const PasteArguments& arguments, int64_t b, int64_t v, int64_t m) const {
    const int64_t appearance = arguments.patches_per_clip ? b * arguments.num_clips + v : b;
    return pairs + (appearance * arguments.num_tubelets + m) * places(arguments) * groups;
  }
};

/// Writes the layers of every frame, (B, T, views, M) in paint order, and the texels of every patch.
struct PrepareBytes {
  static constexpr int kThreads = 128;
  static constexpr int kResident = 7;

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
    constexpr int64_t kAlignment = alignof(TexelPair);
    return (num_layers() * static_cast<int64_t>(sizeof(ByteLayer)) + kAlignment - 1) / kAlignment * kAlignment;
  }
  /// Of the workspace.
  int64_t bytes() const {
    return layer_bytes() + ByteTexels::num_patches(arguments) * ByteTexels::places(arguments) * texels.groups *
                               static_cast<int64_t>(sizeof(TexelPair));
  }

  TUBELETX_HOST_DEVICE int64_t layer_blocks() const { return (num_layers() + kThreads - 1) / kThreads; }
  /// Few enough that most have work to do where the patches are smaller than their storage.
  TUBELETX_HOST_DEVICE int64_t blocks_per_patch() const {
    constexpr int64_t kMost = 14;
    const int64_t blocks = (ByteTexels::places(arguments) + kThreads - 1) / kThreads;
    return blocks < kMost ? blocks : kMost;
  }
  int64_t num_blocks() const { return layer_blocks() + ByteTexels::num_patches(arguments) * blocks_per_patch(); }
  int64_t shared_bytes() const { return 0; }

  TUBELETX_DEVICE void operator()(int64_t block) const {
    device::let_next_kernel_start();
    const int thread = device::thread();
    if (block < layer_blocks()) {
      device::wait_for_previous_kernel();
      write_layer(block * kThreads + thread);
    } else {
      const uint32_t index = static_cast<uint32_t>(block - layer_blocks());
      const uint32_t parts = static_cast<uint32_t>(blocks_per_patch());
      device::wait_for_previous_kernel();
      write_patch(index / parts, static_cast<int32_t>(index % parts) * kThreads + thread);
    }
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
    write_byte_layer(arguments, boxes, b, v, m, t, layer);
    layer.texels = texels.of(arguments, b, v, m);
  }

  /// The pairs of a patch at place `first` and every so many further on.
  TUBELETX_HOST_DEVICE void write_patch(uint32_t index, int32_t first) const {
    const PasteArguments& a = arguments;
    const uint32_t tubelets = static_cast<uint32_t>(a.num_tubelets);
    const uint32_t clips = static_cast<uint32_t>(a.patches_per_clip ? a.num_clips : 1);
    const uint32_t appearance = index / tubelets, m = index - appearance * tubelets;
    const uint32_t b = appearance / clips, v = appearance - b * clips;
    const BytePatch patch(a, boxes, b, v, m);
    if (patch.width == 0) return;
    TexelPair* out = texels.of(a, b, v, m);
    const int32_t pitch = patch.width + 1, places = (patch.height + 2) * pitch;
    const int32_t step = static_cast<int32_t>(blocks_per_patch()) * kThreads;
    for (int32_t place = first; place < places; place += step) {
      const int32_t row = place / pitch;
      write_pair(patch, place - row * pitch, row, out + int64_t{place} * texels.groups);
    }
  }

  TUBELETX_HOST_DEVICE void write_pair(const BytePatch& patch, int32_t column, int32_t row, TexelPair* out) const {
    const PasteArguments& a = arguments;
    const int32_t texel_row = row == 0 ? 0 : (row <= patch.height ? row - 1 : patch.height - 1);
    const int32_t texel_column[2] = {column > 0 ? column - 1 : 0, column < patch.width ? column : column - 1};
    const uint8_t* texel[2];
    uint8_t alpha[2];
    TUBELETX_UNROLL
    for (int k = 0; k < 2; ++k) {
      texel[k] = patch.texels + texel_column[k] * a.patch_column_stride + texel_row * a.patch_row_stride;
      alpha[k] = a.has_alpha ? texel[k][a.channels * a.patch_channel_stride] : 255;
    }
    for (int32_t group = 0; group < texels.groups; ++group) {
      TexelPair pair = {};
      TUBELETX_UNROLL
      for (int c = 0; c < 4; ++c) {
        const int32_t channel = 4 * group + c;
        TUBELETX_UNROLL
        for (int k = 0; k < 2; ++k) {
          uint8_t byte = alpha[k];
          if (channel < a.channels) byte = premultiply(texel[k][channel * a.patch_channel_stride], byte);
          pair.word[c / 2] |= uint32_t{byte} << (8 * (c % 2 * 2 + k));
        }
      }
      out[group] = pair;
    }
  }
};

}  // namespace tubeletx::cuda
