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

/// The upper half of the product.
TUBELETX_INLINE uint32_t high_product(uint32_t first, uint32_t second) {
#ifdef __CUDA_ARCH__
  return __umulhi(first, second);
#else
  return static_cast<uint32_t>((uint64_t{first} * second) >> 32);
#endif
}

/// Lets the memory behind an address be fetched; no result is waited for.
TUBELETX_INLINE void prefetch([[maybe_unused]] const void* address) {
#ifdef __CUDA_ARCH__
  asm volatile("prefetch.L2 [%0];" ::"l"(address));
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
    const uint32_t weight[4] = {static_cast<uint32_t>(sight.weight[0]), static_cast<uint32_t>(sight.weight[1]),
                                static_cast<uint32_t>(sight.weight[2]), static_cast<uint32_t>(sight.weight[3])};
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

/// The two ways to blend as one: light_of, keep_of and blend_byte with numbers in the place of branches. A pixel that
/// is not covered has a scale of 0, and then keeps every byte as it is, to the bit.
struct PaintLaw {
  uint32_t light;   ///< added to the light
  uint32_t full;    ///< what is kept where nothing covers
  uint32_t parity;  ///< of sums that go to the even level, in both halves of a word
  bool soft;

  TUBELETX_INLINE explicit PaintLaw(BytePaint paint) : soft(paint == BytePaint::kSoft) {
    light = soft ? 127u : 0u;
    full = soft ? 65281u : 65408u;
    parity = soft ? 0x00010001u : 0u;
  }

  TUBELETX_INLINE uint32_t scale(int32_t strength) const {
    return soft ? static_cast<uint32_t>(strength) : (strength > 0 ? 65536u : 0u);
  }
  /// The middle 16 bits of an accumulator times a scale, in 65536ths.
  TUBELETX_INLINE static uint32_t scaled(uint32_t accumulator, uint32_t scale) {
    return high_product(permute_bytes(accumulator, 0, 0x2144), scale);
  }
};

/// Tiles of frames, shared out among the blocks.
class ByteTiles {
 public:
  explicit ByteTiles(const PasteArguments& arguments) {
    constexpr int64_t kMostTiles = 128, kEnoughBlocks = 2048;
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

  /// Tiles of a frame that follow each other: the first, as row and column of tiles, and their number.
  struct Share {
    int64_t frame;
    int32_t row, column, count;
  };
  /// Counts in 32 bits: the layers of so many frames, or frames of so many tiles, would fit no device.
  TUBELETX_HOST_DEVICE Share share_of(int64_t block) const {
    const uint32_t index = static_cast<uint32_t>(block), shares = static_cast<uint32_t>(shares_);
    const uint32_t frame = index / shares, across = static_cast<uint32_t>(across_);
    const int64_t first = static_cast<int64_t>(index - frame * shares) * share_, left = tiles_ - first;
    const uint32_t row = static_cast<uint32_t>(first) / across;
    return {frame, static_cast<int32_t>(row), static_cast<int32_t>(static_cast<uint32_t>(first) - row * across),
            static_cast<int32_t>(left < share_ ? left : share_)};
  }

  /// The first pixel of tile i of a share.
  TUBELETX_HOST_DEVICE void corner(const Share& share, int32_t i, int32_t& x, int32_t& y) const {
    const uint32_t column = static_cast<uint32_t>(share.column + i), across = static_cast<uint32_t>(across_);
    const uint32_t rows = column / across;
    x = static_cast<int32_t>(column - rows * across) * kByteTileWidth;
    y = (share.row + static_cast<int32_t>(rows)) * kByteTileHeight;
  }

 private:
  int64_t frames_, across_, tiles_, share_, shares_;
};

/// Where a block works: the frame of each clip that sees the same layers.
struct Frames {
  int32_t first_clip, last_clip;
  uint8_t* pixels[kMaxClips];
};

template <bool kRgb>
struct PasteBytes {
  static constexpr int kThreads = 128;
  static constexpr int kResident = 8;
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
  int64_t shared_bytes() const {
    return static_cast<int64_t>(sizeof(Frames)) + tiles.share() * static_cast<int64_t>(sizeof(uint32_t));
  }

  TUBELETX_HOST_DEVICE void operator()(const Block& block, void* shared) const {
    Frames& frames = *static_cast<Frames*>(shared);
    uint32_t* touched = reinterpret_cast<uint32_t*>(&frames + 1);  // a bit for each layer at hand, of every tile
    const ByteTiles::Share share = tiles.share_of(block.index);
    block.each_thread([&](int thread) {
      if (thread >= arguments.num_clips) return;
      const uint32_t views = static_cast<uint32_t>(num_views(arguments));
      const uint32_t sample_frame = static_cast<uint32_t>(share.frame) / views;
      const int32_t view = static_cast<int32_t>(static_cast<uint32_t>(share.frame) - sample_frame * views);
      const uint32_t clip_frames = static_cast<uint32_t>(arguments.frames);
      const uint32_t b = sample_frame / clip_frames, t = sample_frame - b * clip_frames;
      frames.pixels[thread] = pixel_at<uint8_t>(arguments.clips[thread], b, t, 0, 0);
      frames.first_clip = views == 1 ? 0 : view;
      frames.last_clip = views == 1 ? static_cast<int32_t>(arguments.num_clips) : view + 1;
    });
    const ByteLayer* frame = layers + share.frame * arguments.num_tubelets;
    for (int64_t first = 0; first < arguments.num_tubelets; first += kLayersAtOnce) {
      const int64_t left = arguments.num_tubelets - first;
      const int count = static_cast<int>(left < kLayersAtOnce ? left : kLayersAtOnce);
      block.each_thread([&](int thread) {
        for (int32_t i = thread; i < share.count; i += kThreads) {
          int32_t x, y;
          tiles.corner(share, i, x, y);
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
          tiles.corner(share, i, x, y);
          x += lane % (kByteTileWidth / kByteRun) * kByteRun;
          y += lane / (kByteTileWidth / kByteRun);
          if (x >= arguments.width || y >= arguments.height) continue;
          for (; bits != 0; bits &= bits - 1) {
            const ByteLayer& layer = frame[first + lowest_bit(bits)];
            if (kRgb && layer.near) {
              paint_run(frames, layer, x, y);
            } else {
              paint_pixels(frames, layer, x, y);
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

  /// place_of for a layer that is near: the sum fits 32 bits, whatever its terms do.
  TUBELETX_INLINE static int32_t near_place(const BytePose& pose, int32_t x, int32_t y, int axis) {
    return static_cast<int32_t>(static_cast<uint32_t>(pose.step_x[axis]) * static_cast<uint32_t>(x - pose.anchor_x) +
                                static_cast<uint32_t>(pose.step_y[axis]) * static_cast<uint32_t>(y - pose.anchor_y) +
                                static_cast<uint32_t>(pose.start[axis]));
  }

  /// How strongly a layer covers a run of pixels, from its places on; whether it does at all.
  template <Shape kShape>
  TUBELETX_INLINE static bool cover_pixels(const BytePose& pose, int32_t place_x, int32_t place_y,
                                           int32_t (&strength)[kByteRun]) {
    bool any = false;
    TUBELETX_UNROLL
    for (int j = 0; j < kByteRun; ++j) {
      strength[j] = byte_strength<kShape>(pose, place_x, place_y);
      any = any | (strength[j] > 0);
      place_x += static_cast<int32_t>(pose.step_x[0]);
      place_y += static_cast<int32_t>(pose.step_x[1]);
    }
    return any;
  }

  /// kHard says what pose.hard is, so that it is looked at once.
  template <bool kHard>
  TUBELETX_INLINE static bool cover_pixels(Shape shape, BytePose pose, int32_t place_x, int32_t place_y,
                                           int32_t (&strength)[kByteRun]) {
    pose.hard = kHard;
    switch (shape) {
      case Shape::kRectangle:
        return cover_pixels<Shape::kRectangle>(pose, place_x, place_y, strength);
      case Shape::kEllipse:
        return cover_pixels<Shape::kEllipse>(pose, place_x, place_y, strength);
      default:
        return cover_pixels<Shape::kRhombus>(pose, place_x, place_y, strength);
    }
  }

  TUBELETX_INLINE uint8_t* pixel_of(const Frames& frames, int32_t v, int32_t x, int32_t y) const {
    return frames.pixels[v] + arguments.clips[v].row_stride * y +
           (kRgb ? int64_t{kChannels} : arguments.clips[v].column_stride) * x;
  }

  /// Pixels x .. x + 3 of row y, in clips whose channels and pixels stand side by side.
  TUBELETX_INLINE void paint_run(const Frames& frames, const ByteLayer& layer, int32_t x, int32_t y) const {
    const BytePose pose = layer.pose;  // read once
    const Taps* const patch = layer.taps;
    const int32_t pitch = layer.pitch;
    int32_t place_x = near_place(pose, x, y, 0), place_y = near_place(pose, x, y, 1);
    int32_t strength[kByteRun];
    const bool any = pose.hard ? cover_pixels<true>(layer.shape, pose, place_x, place_y, strength)
                               : cover_pixels<false>(layer.shape, pose, place_x, place_y, strength);
    if (!any) return;
    const bool hidden =
        pose.paint == BytePaint::kOpaque && strength[0] > 0 && strength[1] > 0 && strength[2] > 0 && strength[3] > 0;
    if (!hidden) {  // the background is read, but not before the taps are weighed
      for (int32_t v = frames.first_clip; v < frames.last_clip; ++v) prefetch(pixel_of(frames, v, x, y));
    }
    Taps taps[kByteRun];  // all on their way before the first is looked at
    ByteSight sight[kByteRun];
    TUBELETX_UNROLL
    for (int j = 0; j < kByteRun; ++j) {
      sight[j] = see_texels(pose, place_x, place_y);
      const uint32_t index = static_cast<uint32_t>(sight[j].row * pitch + sight[j].column);
      taps[j] = load_taps(patch + (strength[j] > 0 ? index : 0u));
      place_x += static_cast<int32_t>(pose.step_x[0]);
      place_y += static_cast<int32_t>(pose.step_x[1]);
    }
    const bool whole = aligned && x + kByteRun <= arguments.width;
    const int32_t left = static_cast<int32_t>(arguments.width) - x;
    const int32_t elements = kChannels * (left < kByteRun ? left : kByteRun);
    const int32_t bias = byte_bias(pose.paint);
    if (pose.paint == BytePaint::kOpaque) {
      uint32_t sum[kByteRun * kChannels], cover[kByteRun * kChannels];
      TUBELETX_UNROLL
      for (int j = 0; j < kByteRun; ++j) {
        const Weights weights(sight[j], bias);
        TUBELETX_UNROLL
        for (int c = 0; c < kChannels; ++c) {
          sum[j * kChannels + c] = weights(taps[j].channel[c]);
          cover[j * kChannels + c] = strength[j] > 0 ? 0x00ff0000u : 0u;
        }
      }
      Run shown, covered;
      TUBELETX_UNROLL
      for (int i = 0; i < kWords; ++i) {
        shown.word[i] = third_bytes(sum + 4 * i);
        covered.word[i] = third_bytes(cover + 4 * i);
      }
      for (int32_t v = frames.first_clip; v < frames.last_clip; ++v) {
        uint8_t* pixels = pixel_of(frames, v, x, y);
        Run run = shown;
        if (!hidden) {
          run = load(pixels, whole, elements);
          TUBELETX_UNROLL
          for (int i = 0; i < kWords; ++i) {
            run.word[i] = (run.word[i] & ~covered.word[i]) | (shown.word[i] & covered.word[i]);
          }
        }
        store(pixels, whole, elements, run);
      }
      return;
    }
    const PaintLaw law(pose.paint);
    uint32_t light01[kByteRun], light2_keep[kByteRun];  // in halves of words
    TUBELETX_UNROLL
    for (int j = 0; j < kByteRun; ++j) {
      const Weights weights(sight[j], bias);
      const uint32_t scale = law.scale(strength[j]);
      const uint32_t light0 = PaintLaw::scaled(weights(taps[j].channel[0]), scale) + law.light;
      const uint32_t light1 = PaintLaw::scaled(weights(taps[j].channel[1]), scale) + law.light;
      const uint32_t light2 = PaintLaw::scaled(weights(taps[j].channel[2]), scale) + law.light;
      const uint32_t keep = law.full - PaintLaw::scaled(weights(taps[j].channel[3]), scale);
      light01[j] = permute_bytes(light0, light1, 0x5410);
      light2_keep[j] = permute_bytes(light2, keep, 0x5410);
    }
    for (int32_t v = frames.first_clip; v < frames.last_clip; ++v) {
      uint8_t* pixels = pixel_of(frames, v, x, y);
      store(pixels, whole, elements, blend(law, load(pixels, whole, elements), light01, light2_keep));
    }
  }

  /// Of four words, side by side: where opaque_byte finds them.
  TUBELETX_INLINE static uint32_t third_bytes(const uint32_t* words) {
    const uint32_t first = permute_bytes(words[0], words[1], 0x0062), last = permute_bytes(words[2], words[3], 0x0062);
    return permute_bytes(first, last, 0x5410);
  }

  TUBELETX_INLINE static Run load(const uint8_t* pixels, bool whole, int32_t elements) {
    Run run = {};
    if (whole) {
      TUBELETX_UNROLL
      for (int i = 0; i < kWords; ++i) run.word[i] = reinterpret_cast<const uint32_t*>(pixels)[i];
    } else {
      TUBELETX_UNROLL
      for (int i = 0; i < kByteRun * kChannels; ++i) {
        if (i < elements) run.word[i / 4] |= uint32_t{pixels[i]} << (8 * (i % 4));
      }
    }
    return run;
  }

  TUBELETX_INLINE static void store(uint8_t* pixels, bool whole, int32_t elements, const Run& run) {
    if (whole) {
      TUBELETX_UNROLL
      for (int i = 0; i < kWords; ++i) reinterpret_cast<uint32_t*>(pixels)[i] = run.word[i];
    } else {
      TUBELETX_UNROLL
      for (int i = 0; i < kByteRun * kChannels; ++i) {
        if (i < elements) pixels[i] = static_cast<uint8_t>(run.word[i / 4] >> (8 * (i % 4)));
      }
    }
  }

  TUBELETX_INLINE static Run blend(const PaintLaw& law, const Run& background, const uint32_t (&light01)[kByteRun],
                                   const uint32_t (&light2_keep)[kByteRun]) {
    uint32_t sum[kByteRun * kChannels];
    TUBELETX_UNROLL
    for (int i = 0; i < kByteRun * kChannels; ++i) {
      const int j = i / kChannels, c = i % kChannels;
      const uint32_t light = c == 0 ? light01[j] & 0xffffu : (c == 1 ? light01[j] >> 16 : light2_keep[j] & 0xffffu);
      // The byte twice, in the upper half: times 257.
      const uint32_t under = permute_bytes(background.word[i / 4], 0, 0x44u | static_cast<uint32_t>(i % 4) * 0x1100u);
      sum[i] = high_product(under, light2_keep[j] >> 16) + light;
    }
    Run run;
    TUBELETX_UNROLL
    for (int i = 0; i < kWords; ++i) {
      uint32_t half[2];
      TUBELETX_UNROLL
      for (int k = 0; k < 2; ++k) {
        half[k] = permute_bytes(sum[4 * i + 2 * k], sum[4 * i + 2 * k + 1], 0x5410);
        half[k] += (half[k] >> 8) & law.parity;
      }
      run.word[i] = permute_bytes(half[0], half[1], 0x7531);
    }
    return run;
  }

  /// The same pixels, for any pose, channels and strides.
  TUBELETX_INLINE void paint_pixels(const Frames& frames, const ByteLayer& layer, int32_t x, int32_t y) const {
    const BytePose& pose = layer.pose;
    const BytePaint paint = pose.paint;
    const int32_t channels = static_cast<int32_t>(arguments.channels);
    for (int32_t end = x + kByteRun; x < end && x < arguments.width; ++x) {
      const int64_t place_x = place_of(pose, x, y, 0), place_y = place_of(pose, x, y, 1);
      const int32_t strength = byte_strength(layer.shape, pose, place_x, place_y);
      if (strength == 0) continue;
      const ByteSight sight = see_texels(pose, place_x, place_y);
      const Weights weights(sight, byte_bias(paint));
      const Taps* taps = layer.taps + int64_t{sight.row * layer.pitch + sight.column} * texels.groups;
      const uint32_t keep =
          paint == BytePaint::kOpaque ? 0 : keep_of(paint, weights(taps[channels / 4].channel[channels % 4]), strength);
      for (int32_t c = 0; c < channels; ++c) {
        const uint32_t sum = weights(taps[c / 4].channel[c % 4]);
        const uint32_t light = light_of(paint, sum, strength);
        for (int32_t v = frames.first_clip; v < frames.last_clip; ++v) {
          const ClipView& clip = arguments.clips[v];
          uint8_t& pixel = pixel_of(frames, v, x, y)[c * clip.channel_stride];
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

int64_t paste_bytes_workspace(const PasteArguments& arguments) { return PrepareBytes(arguments, {}, nullptr).bytes(); }

void launch_paste_bytes(const PasteArguments& arguments, const PatchBoxes& boxes, void* workspace, Stream stream) {
  constexpr const char* kName = "paste_tubelets";
  const PrepareBytes prepare(arguments, boxes, workspace);
  launch(kName, prepare, stream);
  if (is_rgb(arguments)) {
    launch(kName, PasteBytes<true>(prepare), stream);
  } else {
    launch(kName, PasteBytes<false>(prepare), stream);
  }
}

}  // namespace tubeletx::cuda
