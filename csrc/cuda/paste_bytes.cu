// Pastes onto bytes, by the definition in core/paste_bytes.h. One launch makes the layers of all frames and the taps of
// all patches; a second one has, in each block, some tiles of one frame. Its threads first look which layers touch
// which tile; then a warp takes a tile at a time, and a pixel stays with its thread while layer follows layer.
#include "cuda/paste_bytes.h"

#include "cuda/byte_layers.h"

namespace tubeletx::cuda {
namespace {

/// Byte i of the result is the byte of (first, second) that nibble i of `selector` counts: 0 to 3 of first, 4 to 7.
TUBELETX_INLINE uint32_t permute_bytes(uint32_t first, uint32_t second, uint32_t selector) {
#ifdef __CUDA_ARCH__
  return __byte_perm(first, second, selector);
#else
  const uint64_t bytes = uint64_t{second} << 32 | first;
  uint32_t result = 0;
  for (int i = 0; i < 4; ++i) {
    result |= static_cast<uint32_t>((bytes >> (8 * ((selector >> (4 * i)) & 7u))) & 255u) << (8 * i);
  }
  return result;
#endif
}

/// Sum of the products of four pairs of bytes, and of `sum`.
TUBELETX_INLINE uint32_t dot_bytes(uint32_t first, uint32_t second, uint32_t sum) {
#ifdef __CUDA_ARCH__
  return __dp4a(first, second, sum);
#else
  for (int i = 0; i < 4; ++i) sum += ((first >> (8 * i)) & 255u) * ((second >> (8 * i)) & 255u);
  return sum;
#endif
}

TUBELETX_INLINE int lowest_bit(uint32_t bits) {
#ifdef __CUDA_ARCH__
  return __ffs(static_cast<int>(bits)) - 1;
#else
  return __builtin_ctz(bits);
#endif
}

/// The four weights of a pixel, split into their high and low bytes, for the taps of a channel at once.
class Weights {
 public:
  TUBELETX_INLINE Weights(const ByteSight& sight, int32_t bias) {
    const uint32_t* weight = reinterpret_cast<const uint32_t*>(sight.weight);
    const uint32_t upper = permute_bytes(weight[0], weight[1], 0x5410);
    const uint32_t lower = permute_bytes(weight[2], weight[3], 0x5410);
    high_ = permute_bytes(upper, lower, 0x7531);
    low_ = permute_bytes(upper, lower, 0x6420);
    // weigh_bytes takes 128 off each tap.
    rest_ = static_cast<uint32_t>(bias) - 128u * (weight[0] + weight[1] + weight[2] + weight[3]);
  }

  /// The accumulator of a channel.
  TUBELETX_INLINE uint32_t operator()(uint32_t taps) const {
    return dot_bytes(low_, taps, (dot_bytes(high_, taps, 0) << 8) + rest_);
  }

 private:
  uint32_t high_, low_, rest_;
};

/// Tiles of frames, shared out among the blocks.
class ByteTiles {
 public:
  explicit ByteTiles(const PasteArguments& arguments) {
    constexpr int64_t kMostTiles = 128, kEnoughBlocks = 1024;
    frames_ = arguments.batch * arguments.frames * num_views(arguments);
    across_ = (arguments.width + kByteTileWidth - 1) / kByteTileWidth;
    tiles_ = across_ * ((arguments.height + kByteTileHeight - 1) / kByteTileHeight);
    const int64_t wanted = frames_ > 0 ? (kEnoughBlocks + frames_ - 1) / frames_ : 1;
    const int64_t shares = std::max((tiles_ + kMostTiles - 1) / kMostTiles, std::min(wanted, tiles_));
    share_ = shares > 0 ? (tiles_ + shares - 1) / shares : 0;
    shares_ = share_ > 0 ? (tiles_ + share_ - 1) / share_ : 0;
  }

  TUBELETX_HOST_DEVICE int64_t num_blocks() const { return frames_ * shares_; }
  /// Tiles of a block, at most.
  int64_t share() const { return share_; }

  /// Tiles first .. first + count - 1 of a frame.
  struct Share {
    int64_t frame, first;
    int32_t count;
  };
  TUBELETX_HOST_DEVICE Share share_of(int64_t block) const {
    const int64_t frame = block / shares_, first = (block - frame * shares_) * share_;
    const int64_t left = tiles_ - first;
    return {frame, first, static_cast<int32_t>(left < share_ ? left : share_)};
  }

  TUBELETX_HOST_DEVICE void corner(int64_t tile, int32_t& x, int32_t& y) const {
    const int64_t row = tile / across_;
    x = static_cast<int32_t>(tile - row * across_) * kByteTileWidth;
    y = static_cast<int32_t>(row) * kByteTileHeight;
  }

 private:
  int64_t frames_, across_, tiles_, share_, shares_;
};

/// Where a block works: a sample and a frame, and the clips that see the same layers.
struct Place {
  int64_t b, t;
  int32_t first_clip, last_clip;
};

template <bool kRgb>
struct PasteBytes {
  static constexpr int kThreads = 128;
  static constexpr int kResident = 8;  ///< so that all blocks of a usual batch run at once
  static constexpr int kLayersAtOnce = 32;
  static constexpr int kChannels = 3;
  static constexpr int kWords = kByteRun * kChannels / 4;  ///< of a run of pixels

  PasteArguments arguments;
  const ByteLayer* layers;
  ByteTexels texels;
  ByteTiles tiles;
  bool aligned;  ///< a run of pixels may be read and written in words

  explicit PasteBytes(const PrepareBytes& prepared)
      : arguments(prepared.arguments),
        layers(prepared.layers),
        texels(prepared.texels),
        tiles(arguments),
        aligned(true) {
    for (int64_t v = 0; v < arguments.num_clips; ++v) {
      const ClipView& clip = arguments.clips[v];
      const int64_t strides = clip.batch_stride | clip.frame_stride | clip.row_stride;
      aligned = aligned && reinterpret_cast<uintptr_t>(clip.data) % 4 == 0 && strides % 4 == 0;
    }
  }

  TUBELETX_HOST_DEVICE int64_t num_blocks() const { return arguments.num_tubelets > 0 ? tiles.num_blocks() : 0; }
  int64_t shared_bytes() const { return tiles.share() * static_cast<int64_t>(sizeof(uint32_t)); }

  TUBELETX_HOST_DEVICE void operator()(const Block& block, void* shared) const {
    uint32_t* touched = static_cast<uint32_t*>(shared);  // a bit for each layer at hand, of every tile
    const ByteTiles::Share share = tiles.share_of(block.index);
    const int64_t views = num_views(arguments), sample_frame = share.frame / views;
    const int32_t view = static_cast<int32_t>(share.frame - sample_frame * views);
    Place place;
    place.b = sample_frame / arguments.frames;
    place.t = sample_frame - place.b * arguments.frames;
    place.first_clip = view;
    place.last_clip = views == 1 ? static_cast<int32_t>(arguments.num_clips) : view + 1;
    const ByteLayer* frame = layers + share.frame * arguments.num_tubelets;
    for (int64_t first = 0; first < arguments.num_tubelets; first += kLayersAtOnce) {
      const int64_t left = arguments.num_tubelets - first;
      const int count = static_cast<int>(left < kLayersAtOnce ? left : kLayersAtOnce);
      block.each_thread([&](int thread) {
        for (int32_t i = thread; i < share.count; i += kThreads) {
          int32_t x, y;
          tiles.corner(share.first + i, x, y);
          uint32_t bits = 0;
          for (int k = 0; k < count; ++k) bits |= static_cast<uint32_t>(frame[first + k].touches(x, y)) << k;
          touched[i] = bits;
        }
      });
      block.each_thread([&](int thread) {
        const int lane = thread % kWarp;
        for (int32_t i = thread / kWarp; i < share.count; i += kThreads / kWarp) {
          uint32_t bits = touched[i];
          if (bits == 0) continue;
          int32_t x, y;
          tiles.corner(share.first + i, x, y);
          x += lane % (kByteTileWidth / kByteRun) * kByteRun;
          y += lane / (kByteTileWidth / kByteRun);
          if (x >= arguments.width || y >= arguments.height) continue;
          for (; bits != 0; bits &= bits - 1) {
            const ByteLayer& layer = frame[first + lowest_bit(bits)];
            if (!kRgb || !layer.near) {
              paint_pixels(place, layer, x, y);
            } else if (layer.pose.paint == BytePaint::kOpaque) {
              cover_run(place, layer, x, y);
            } else {
              blend_run(place, layer, x, y);
            }
          }
        }
      });
    }
  }

 private:
  /// A run of pixels, as they lie in memory: three words for four pixels of three channels.
  struct Run {
    uint32_t word[kWords];
  };

  /// Calls see(j, weights, taps, strength) for the pixels x + j .. of row y that a layer covers; whether there are any.
  template <typename See>
  TUBELETX_INLINE bool see_run(const Place& place, const ByteLayer& layer, int32_t x, int32_t y, const See& see) const {
    const BytePose& pose = layer.pose;
    const Taps* patch = texels.of(arguments, place.b, place.first_clip, layer.tubelet);
    int32_t place_x = static_cast<int32_t>(place_of(pose, x, y, 0));
    int32_t place_y = static_cast<int32_t>(place_of(pose, x, y, 1));
    bool any = false;
    TUBELETX_UNROLL
    for (int j = 0; j < kByteRun; ++j) {
      const int32_t strength = byte_strength(layer.shape, pose, place_x, place_y);
      if (strength > 0) {
        any = true;
        const ByteSight sight = see_texels(pose, place_x, place_y);
        see(j, Weights(sight, byte_bias(pose.paint)), patch[sight.row * texels.pitch + sight.column], strength);
      }
      place_x += static_cast<int32_t>(pose.step_x[0]);
      place_y += static_cast<int32_t>(pose.step_x[1]);
    }
    return any;
  }

  /// Calls change(run) with pixels x .. x + 3 of row y of every clip, as far as the row goes. `read` is false where all
  /// of them change whatever they are.
  template <typename Change>
  TUBELETX_INLINE void change_run(const Place& place, int32_t x, int32_t y, bool read, const Change& change) const {
    const bool whole = aligned && x + kByteRun <= arguments.width;
    const int32_t pixels_left = static_cast<int32_t>(arguments.width) - x;
    const int32_t elements = kChannels * (pixels_left < kByteRun ? pixels_left : kByteRun);
    for (int32_t v = place.first_clip; v < place.last_clip; ++v) {
      uint8_t* pixels = pixel_at<uint8_t>(arguments.clips[v], place.b, place.t, y, x);
      uint32_t* words = reinterpret_cast<uint32_t*>(pixels);
      Run run = {};
      TUBELETX_UNROLL
      for (int i = 0; i < kWords; ++i) {
        if (whole && read) run.word[i] = words[i];
      }
      TUBELETX_UNROLL
      for (int i = 0; i < kByteRun * kChannels; ++i) {
        if (!whole && i < elements) run.word[i / 4] |= uint32_t{pixels[i]} << (8 * (i % 4));
      }
      change(run);
      TUBELETX_UNROLL
      for (int i = 0; i < kWords; ++i) {
        if (whole) words[i] = run.word[i];
      }
      TUBELETX_UNROLL
      for (int i = 0; i < kByteRun * kChannels; ++i) {
        if (!whole && i < elements) pixels[i] = static_cast<uint8_t>(run.word[i / 4] >> (8 * (i % 4)));
      }
    }
  }

  /// Pixels x .. x + 3 of row y, in clips whose channels and pixels stand side by side, under a layer that hides them.
  TUBELETX_INLINE void cover_run(const Place& place, const ByteLayer& layer, int32_t x, int32_t y) const {
    Run shown = {}, hidden = {};  // the bytes, and where they are
    const bool any = see_run(place, layer, x, y, [&](int j, const Weights& weights, const Taps& taps, int32_t) {
      TUBELETX_UNROLL
      for (int c = 0; c < kChannels; ++c) {
        const int element = j * kChannels + c;
        shown.word[element / 4] |= uint32_t{opaque_byte(weights(taps.channel[c]))} << (8 * (element % 4));
        hidden.word[element / 4] |= 255u << (8 * (element % 4));
      }
    });
    if (!any) return;
    const bool read = (hidden.word[0] & hidden.word[1] & hidden.word[2]) != 0xffffffffu;
    change_run(place, x, y, read, [&](Run& run) {
      TUBELETX_UNROLL
      for (int i = 0; i < kWords; ++i) run.word[i] = (run.word[i] & ~hidden.word[i]) | shown.word[i];
    });
  }

  /// The same pixels under a layer that they show through.
  TUBELETX_INLINE void blend_run(const Place& place, const ByteLayer& layer, int32_t x, int32_t y) const {
    const BytePaint paint = layer.pose.paint;
    // In halves of words. Where nothing covers, they leave every byte as it is.
    const uint32_t none = paint == BytePaint::kSoft ? 127u : 128u;
    const uint32_t all = paint == BytePaint::kSoft ? 65281u : 65280u;
    uint32_t light01[kByteRun], light2_keep[kByteRun];
    TUBELETX_UNROLL
    for (int j = 0; j < kByteRun; ++j) {
      light01[j] = none << 16 | none;
      light2_keep[j] = all << 16 | none;
    }
    const bool any =
        see_run(place, layer, x, y, [&](int j, const Weights& weights, const Taps& taps, int32_t strength) {
          light01[j] = light_of(paint, weights(taps.channel[0]), strength) |
                       light_of(paint, weights(taps.channel[1]), strength) << 16;
          light2_keep[j] = light_of(paint, weights(taps.channel[2]), strength) |
                           keep_of(paint, weights(taps.channel[3]), strength) << 16;
        });
    if (!any) return;
    change_run(place, x, y, true, [&](Run& run) {
      Run blended = {};
      TUBELETX_UNROLL
      for (int i = 0; i < kByteRun * kChannels; ++i) {
        const int j = i / kChannels, c = i % kChannels;
        const uint32_t light = c == 0 ? light01[j] & 0xffffu : (c == 1 ? light01[j] >> 16 : light2_keep[j] & 0xffffu);
        const uint8_t under = static_cast<uint8_t>(run.word[i / 4] >> (8 * (i % 4)));
        blended.word[i / 4] |= uint32_t{blend_byte(paint, under, light2_keep[j] >> 16, light)} << (8 * (i % 4));
      }
      run = blended;
    });
  }

  /// The same pixels, for any pose, channels and strides.
  TUBELETX_INLINE void paint_pixels(const Place& place, const ByteLayer& layer, int32_t x, int32_t y) const {
    const BytePose& pose = layer.pose;
    const BytePaint paint = pose.paint;
    const int32_t channels = static_cast<int32_t>(arguments.channels);
    for (int32_t end = x + kByteRun; x < end && x < arguments.width; ++x) {
      const int64_t place_x = place_of(pose, x, y, 0), place_y = place_of(pose, x, y, 1);
      const int32_t strength = byte_strength(layer.shape, pose, place_x, place_y);
      if (strength == 0) continue;
      const ByteSight sight = see_texels(pose, place_x, place_y);
      const Weights weights(sight, byte_bias(paint));
      const Taps* taps = texels.of(arguments, place.b, place.first_clip, layer.tubelet) +
                         int64_t{sight.row * texels.pitch + sight.column} * texels.groups;
      const uint32_t keep =
          paint == BytePaint::kOpaque ? 0 : keep_of(paint, weights(taps[channels / 4].channel[channels % 4]), strength);
      for (int32_t c = 0; c < channels; ++c) {
        const uint32_t sum = weights(taps[c / 4].channel[c % 4]);
        const uint32_t light = light_of(paint, sum, strength);
        for (int32_t v = place.first_clip; v < place.last_clip; ++v) {
          const ClipView& clip = arguments.clips[v];
          uint8_t& pixel = pixel_at<uint8_t>(clip, place.b, place.t, y, x)[c * clip.channel_stride];
          pixel = paint == BytePaint::kOpaque ? opaque_byte(sum) : blend_byte(paint, pixel, keep, light);
        }
      }
    }
  }
};

/// Three channels side by side, pixel after pixel, in every clip.
bool is_rgb(const PasteArguments& arguments) {
  constexpr int64_t kChannels = 3;
  bool rgb = arguments.channels == kChannels;
  for (int64_t v = 0; v < arguments.num_clips; ++v) {
    rgb = rgb && arguments.clips[v].channel_stride == 1 && arguments.clips[v].column_stride == kChannels;
  }
  return rgb;
}

}  // namespace

int64_t paste_bytes_workspace(const PasteArguments& arguments) { return PrepareBytes(arguments, nullptr).bytes(); }

void launch_paste_bytes(const PasteArguments& arguments, void* workspace, Stream stream) {
  constexpr const char* kName = "paste_tubelets";
  const PrepareBytes prepare(arguments, workspace);
  launch(kName, prepare, stream);
  if (is_rgb(arguments)) {
    launch(kName, PasteBytes<true>(prepare), stream);
  } else {
    launch(kName, PasteBytes<false>(prepare), stream);
  }
}

}  // namespace tubeletx::cuda
