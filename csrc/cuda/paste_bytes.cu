// Pastes onto bytes, by the definition in core/paste_bytes.h. One launch makes the layers of all frames and the texels
// of all patches. In a second one each warp has some tiles of a frame: its lanes first look which layers touch a tile
// each, then all of them paint one tile after the other. In a tile layer follows layer, and a lane has a run of pixels;
// where the clips let it, the warp exchanges what it weighed, so that memory is written in whole vectors.
//
// Floors on an H100, 32 pairs of 16 x 112 x 112: 2.4 us for the bytes written; about 8 us for the instructions, some
// 450 for each of 16,400 times that a layer shows in a tile, could four be issued in each cycle. What takes longer is
// that they wait for each other: more warps at once help, fewer instructions hardly do.
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

/// The four weights of a pixel, split into their high and low bytes, for the taps of a channel at once.
class Weights {
 public:
  TUBELETX_INLINE Weights(int32_t right, int32_t lower, int32_t bias) {
    int32_t part[4];
    weigh_texels(right, lower, part);
    const uint32_t weight[4] = {static_cast<uint32_t>(part[0]), static_cast<uint32_t>(part[1]),
                                static_cast<uint32_t>(part[2]), static_cast<uint32_t>(part[3])};
    const uint32_t first = permute_bytes(weight[0], weight[1], 0x5410);
    const uint32_t last = permute_bytes(weight[2], weight[3], 0x5410);
    high_ = permute_bytes(first, last, 0x7531);
    low_ = permute_bytes(first, last, 0x6420);
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

/// Tiles of frames, dealt out to warps: the tiles of a frame in turn to the warps that it has.
class ByteTiles {
 public:
  explicit ByteTiles(const PasteArguments& arguments) {
    constexpr int64_t kEnoughWarps = 4608;  // an H100 has room for a few more at once
    frames_ = arguments.batch * arguments.frames * num_views(arguments);
    across_ = static_cast<uint32_t>((arguments.width + kByteTileWidth - 1) / kByteTileWidth);
    tiles_ = across_ * static_cast<uint32_t>((arguments.height + kByteTileHeight - 1) / kByteTileHeight);
    const int64_t wanted = frames_ > 0 ? (kEnoughWarps + frames_ - 1) / frames_ : 1;
    warps_ = static_cast<uint32_t>(std::min<int64_t>(wanted, tiles_));
  }

  int64_t num_warps() const { return frames_ * warps_; }

  /// Of a warp; the first is where it begins among the tiles of the frame. Counts in 32 bits: the layers of so many
  /// frames, or frames of so many tiles, would fit no device.
  struct Share {
    uint32_t frame, first;
  };
  TUBELETX_HOST_DEVICE Share share_of(int64_t warp) const {
    const uint32_t index = static_cast<uint32_t>(warp), frame = index / warps_;
    return {frame, index - frame * warps_};
  }
  TUBELETX_HOST_DEVICE bool is_over(int64_t warp) const { return warp >= frames_ * warps_; }

  TUBELETX_HOST_DEVICE uint32_t count() const { return tiles_; }
  TUBELETX_HOST_DEVICE uint32_t step() const { return warps_; }

  /// The first pixel of a tile.
  TUBELETX_HOST_DEVICE void corner(uint32_t tile, int32_t& x, int32_t& y) const {
    const uint32_t row = tile / across_;
    x = static_cast<int32_t>(tile - row * across_) * kByteTileWidth;
    y = static_cast<int32_t>(row) * kByteTileHeight;
  }

 private:
  int64_t frames_;
  uint32_t across_, tiles_, warps_;
};

/// Where a warp works: the frame of each clip that sees the same layers.
struct Frames {
  int32_t first_clip, last_clip;
  uint8_t* const* pixels;  ///< of each clip, in shared memory
};

template <bool kRgb>
struct PasteBytes {
  static constexpr int kThreads = 128;
  static constexpr int kResident = kRgb ? 9 : 8;
  static constexpr int kWarps = kThreads / kWarp;
  static constexpr int kLayersAtOnce = 32;
  static constexpr int kChannels = 3;
  static constexpr int kWords = kByteRun * kChannels / 4;              ///< of a run of pixels
  static constexpr int kRowVectors = kByteTileWidth * kChannels / 16;  ///< of 16 bytes, of a row of a tile
  static constexpr int kVectors = kByteTileHeight * kRowVectors;
  static_assert(kVectors <= kWarp, "a lane writes one vector of a tile");

  PasteArguments arguments;
  const ByteLayer* layers;
  ByteTexels texels;
  ByteTiles tiles;
  bool words;    ///< a run of pixels may be read and written in words
  bool vectors;  ///< and the row of a tile in vectors

  explicit PasteBytes(const PrepareBytes& prepared)
      : arguments(prepared.arguments), layers(prepared.layers), texels(prepared.texels), tiles(arguments) {
    uint64_t bits = 0;
    for (int64_t v = 0; v < arguments.num_clips; ++v) {
      const ClipView& clip = arguments.clips[v];
      bits |= static_cast<uint64_t>(clip.batch_stride | clip.frame_stride | clip.row_stride);
      bits |= reinterpret_cast<uintptr_t>(clip.data);
    }
    words = bits % 4 == 0;
    vectors = bits % 16 == 0;
  }

  int64_t num_blocks() const { return arguments.num_tubelets > 0 ? (tiles.num_warps() + kWarps - 1) / kWarps : 0; }
  int64_t shared_bytes() const { return kWarps * static_cast<int64_t>(sizeof(Memory)); }

  TUBELETX_DEVICE void operator()(int64_t block) const {
    const int lane = device::thread() % kWarp;
    const int64_t warp = block * kWarps + device::thread() / kWarp;
    if (tiles.is_over(warp)) return;
    const ByteTiles::Share share = tiles.share_of(warp);
    const Frames frames = frames_of(share.frame, lane);
    const ByteLayer* frame = layers + int64_t{share.frame} * arguments.num_tubelets;
    device::wait_for_previous_kernel();
    const int32_t tubelets = static_cast<int32_t>(arguments.num_tubelets);
    for (int32_t first = 0; first < tubelets; first += kLayersAtOnce) {
      const int count = tubelets - first < kLayersAtOnce ? tubelets - first : kLayersAtOnce;
      for (uint32_t begin = share.first; begin < tiles.count(); begin += kWarp * tiles.step()) {
        // Each lane looks which layers touch a tile of its own; then all of them paint one tile after the other.
        const uint32_t number = begin + static_cast<uint32_t>(lane) * tiles.step();
        Tile tile;
        tiles.corner(number, tile.x, tile.y);
        tile.layers = 0;
        if (number < tiles.count()) {
          for (int k = 0; k < count; ++k) {
            tile.layers |= static_cast<uint32_t>(frame[first + k].reach.touches(tile.x, tile.y)) << k;
          }
        }
        memory().tiles[lane] = tile;
        uint32_t left = device::ballot(tile.layers != 0);
        device::synchronize_warp();
        for (; left != 0; left &= left - 1) {
          const Tile& touched = memory().tiles[device::lowest_bit(left)];
          for (uint32_t bits = touched.layers; bits != 0; bits &= bits - 1) {
            paint(frames, frame[first + device::lowest_bit(bits)], touched.x, touched.y);
            device::synchronize_warp();  // a byte may have another lane under the next layer
          }
        }
      }
    }
  }

 private:
  /// A run of pixels, as they lie in memory: three words for four pixels of three channels.
  struct Run {
    uint32_t word[kWords];
  };

  struct alignas(16) Vector {
    uint32_t word[4];
  };

  /// By its first pixel, and a bit for each layer at hand that touches it.
  struct Tile {
    int32_t x, y;
    uint32_t layers;
  };

  /// What a warp has in shared memory: its frames, the tiles at hand, and a tile on its way from runs of pixels to
  /// vectors of bytes, row after row without gaps.
  struct alignas(16) Memory {
    uint8_t* pixels[kMaxClips];
    Tile tiles[kWarp];
    uint32_t shown[kWarp * kWords];
    uint32_t covered[kWarp * kWords];  ///< bytes of all ones
  };

  TUBELETX_DEVICE static Memory& memory() {
    return static_cast<Memory*>(device::shared_memory())[device::thread() / kWarp];
  }

  TUBELETX_INLINE uint8_t* pixel_of(const Frames& frames, int32_t v, int32_t x, int32_t y) const {
    return frames.pixels[v] + arguments.clips[v].row_stride * y +
           (kRgb ? int64_t{kChannels} : arguments.clips[v].column_stride) * x;
  }

  TUBELETX_DEVICE Frames frames_of(uint32_t frame, int lane) const {
    const uint32_t views = static_cast<uint32_t>(num_views(arguments));
    const uint32_t sample_frame = frame / views;
    const int32_t view = static_cast<int32_t>(frame - sample_frame * views);
    const uint32_t clip_frames = static_cast<uint32_t>(arguments.frames);
    const uint32_t b = sample_frame / clip_frames, t = sample_frame - b * clip_frames;
    Memory& own = memory();
    if (lane < arguments.num_clips) own.pixels[lane] = pixel_at<uint8_t>(arguments.clips[lane], b, t, 0, 0);
    device::synchronize_warp();
    if (views > 1) return {view, view + 1, own.pixels};
    return {0, static_cast<int32_t>(arguments.num_clips), own.pixels};
  }

  /// How strongly a layer covers a run of pixels, from its places on: 16 bits for each. kHard says what pose.hard is,
  /// so that it is looked at once.
  template <Shape kShape>
  TUBELETX_INLINE static uint64_t cover_hard(NearPose pose, int32_t place_x, int32_t place_y) {
    pose.hard = true;
    uint32_t half[2];
    TUBELETX_UNROLL
    for (int i = 0; i < 2; ++i) {
      uint32_t strength[2];
      TUBELETX_UNROLL
      for (int k = 0; k < 2; ++k) {
        strength[k] = static_cast<uint32_t>(byte_strength<kShape>(pose, place_x, place_y));
        place_x += pose.step_x[0];
        place_y += pose.step_x[1];
      }
      half[i] = permute_bytes(strength[0], strength[1], 0x5410);
    }
    return uint64_t{half[1]} << 32 | half[0];
  }

  TUBELETX_INLINE static uint64_t cover_soft(Shape shape, NearPose pose, int32_t place_x, int32_t place_y) {
    pose.hard = false;
    uint64_t strengths = 0;
    TUBELETX_ROLL
    for (int j = 0; j < kByteRun; ++j) {
      const uint64_t strength = static_cast<uint64_t>(byte_strength(shape, pose, place_x, place_y));
      strengths = strengths >> 16 | strength << 48;
      place_x += pose.step_x[0];
      place_y += pose.step_x[1];
    }
    return strengths;
  }

  TUBELETX_INLINE static uint64_t cover(Shape shape, const NearPose& pose, int32_t place_x, int32_t place_y) {
    if (!pose.hard) return cover_soft(shape, pose, place_x, place_y);
    if (shape == Shape::kRectangle) return cover_hard<Shape::kRectangle>(pose, place_x, place_y);
    if (shape == Shape::kEllipse) return cover_hard<Shape::kEllipse>(pose, place_x, place_y);
    return cover_hard<Shape::kRhombus>(pose, place_x, place_y);
  }

  TUBELETX_INLINE static uint32_t strength_of(uint64_t strengths, int j) {
    return static_cast<uint32_t>(strengths >> (16 * j)) & 0xffffu;
  }

  /// What a lane sees of a layer: the texels around each of a run of pixels, and how far it lies between them, right in
  /// the lower half.
  struct Sights {
    uint64_t strengths;
    TexelPair upper[kByteRun], lower[kByteRun];
    uint32_t between[kByteRun];

    TUBELETX_INLINE Weights weights(int j, int32_t bias) const {
      return Weights(static_cast<int32_t>(between[j] & 0xffffu), static_cast<int32_t>(between[j] >> 16), bias);
    }
  };

  /// All lanes take part.
  TUBELETX_DEVICE void paint(const Frames& frames, const ByteLayer& layer, int32_t x, int32_t y) const {
    const NearPose pose = layer.near_pose;  // read before it is known whether it is needed
    if (!layer.near) {
      paint_pixels(frames, layer, layer.pose, x, y);
    } else if constexpr (kRgb) {
      paint_tile(frames, layer, pose, x, y);
    } else {
      paint_pixels(frames, layer, pose, x, y);
    }
  }

  /// A tile of clips whose channels and pixels stand side by side. All lanes take part.
  TUBELETX_DEVICE void paint_tile(const Frames& frames, const ByteLayer& layer, const NearPose& pose, int32_t tile_x,
                                  int32_t tile_y) const {
    const int lane = device::thread() % kWarp;
    const int32_t x = tile_x + lane % (kByteTileWidth / kByteRun) * kByteRun;
    const int32_t y = tile_y + lane / (kByteTileWidth / kByteRun);
    const TexelPair* const patch = layer.texels;
    const int32_t pitch = layer.pitch;
    int32_t place_x = place_of(pose, x, y, 0), place_y = place_of(pose, x, y, 1);
    Sights sights;
    sights.strengths = cover(layer.shape, pose, place_x, place_y);
    const int32_t left = y < arguments.height ? static_cast<int32_t>(arguments.width) - x : 0;
    if (left < kByteRun) sights.strengths = left > 0 ? sights.strengths & ((uint64_t{1} << (16 * left)) - 1) : 0;
    if (device::ballot(sights.strengths != 0) == 0) return;
    TUBELETX_UNROLL
    for (int j = 0; j < kByteRun; ++j) {  // all texels are on their way before the first is looked at
      const ByteTexel texel = find_texel(pose, place_x, place_y);
      const int32_t index = strength_of(sights.strengths, j) != 0 ? texel.row * pitch + texel.column : 0;
      sights.upper[j] = patch[index];
      sights.lower[j] = patch[index + pitch];
      sights.between[j] = permute_bytes(static_cast<uint32_t>(texel.right), static_cast<uint32_t>(texel.lower), 0x5410);
      place_x += pose.step_x[0];
      place_y += pose.step_x[1];
    }
    if (layer.paint == BytePaint::kOpaque) {
      paint_opaque(frames, sights, tile_x, tile_y);
    } else if (sights.strengths != 0) {
      paint_blended(frames, layer.paint, sights, x, y, left);
    }
  }

  /// Lanes write what they weighed to shared memory, and read it as vectors of 16 bytes.
  TUBELETX_DEVICE void paint_opaque(const Frames& frames, const Sights& sights, int32_t tile_x, int32_t tile_y) const {
    const int lane = device::thread() % kWarp;
    Memory& stage = memory();
    uint32_t all[kByteRun];  // all ones where a pixel is covered
    TUBELETX_UNROLL
    for (int j = 0; j < kByteRun; ++j) all[j] = strength_of(sights.strengths, j) != 0 ? ~0u : 0u;
    stage.covered[kWords * lane] = permute_bytes(all[0], all[1], 0x4210);
    stage.covered[kWords * lane + 1] = permute_bytes(all[1], all[2], 0x5410);
    stage.covered[kWords * lane + 2] = permute_bytes(all[2], all[3], 0x6540);
    device::synchronize_warp();
    Vector covered = {};
    if (lane < kVectors) covered = reinterpret_cast<const Vector*>(stage.covered)[lane];
    const bool any = (covered.word[0] | covered.word[1] | covered.word[2] | covered.word[3]) != 0;
    const bool hidden = (covered.word[0] & covered.word[1] & covered.word[2] & covered.word[3]) == ~0u;
    // A vector that the frame does not have in whole is written byte by byte.
    const bool whole = vectors && tile_x + kByteTileWidth <= arguments.width;
    const int32_t row = tile_y + lane / kRowVectors, column = tile_x * kChannels + lane % kRowVectors * 16;
    if (any && !hidden && whole) {  // the background is read, but not before the taps are weighed
      TUBELETX_ROLL
      for (int32_t v = frames.first_clip; v < frames.last_clip; ++v) {
        prefetch(frames.pixels[v] + arguments.clips[v].row_stride * row + column);
      }
    }
    const int32_t bias = byte_bias(BytePaint::kOpaque);
    uint32_t sum[kByteRun * kChannels];
    TUBELETX_UNROLL
    for (int j = 0; j < kByteRun; ++j) {
      const Weights weights = sights.weights(j, bias);
      TUBELETX_UNROLL
      for (int c = 0; c < kChannels; ++c)
        sum[j * kChannels + c] = weights(taps_of(sights.upper[j], sights.lower[j], c));
    }
    TUBELETX_UNROLL
    for (int i = 0; i < kWords; ++i) stage.shown[kWords * lane + i] = third_bytes(sum + 4 * i);
    device::synchronize_warp();
    if (!any) return;
    const Vector shown = reinterpret_cast<const Vector*>(stage.shown)[lane];
    TUBELETX_ROLL
    for (int32_t v = frames.first_clip; v < frames.last_clip; ++v) {
      write(frames.pixels[v] + arguments.clips[v].row_stride * row + column, shown, covered, whole, hidden);
    }
  }

  TUBELETX_INLINE static void write(uint8_t* bytes, const Vector& shown, const Vector& covered, bool whole,
                                    bool hidden) {
    if (!whole) {
      TUBELETX_UNROLL
      for (int i = 0; i < 16; ++i) {
        if ((covered.word[i / 4] >> (8 * (i % 4)) & 1u) != 0) {
          bytes[i] = static_cast<uint8_t>(shown.word[i / 4] >> (8 * (i % 4)));
        }
      }
      return;
    }
    Vector vector = shown;
    if (!hidden) {
      vector = *reinterpret_cast<const Vector*>(bytes);
      TUBELETX_UNROLL
      for (int i = 0; i < 4; ++i) {
        vector.word[i] = (vector.word[i] & ~covered.word[i]) | (shown.word[i] & covered.word[i]);
      }
    }
    *reinterpret_cast<Vector*>(bytes) = vector;
  }

  /// Pixels x .. x + 3 of row y, of which the frame has `left`.
  TUBELETX_DEVICE void paint_blended(const Frames& frames, BytePaint paint, const Sights& sights, int32_t x, int32_t y,
                                     int32_t left) const {
    const bool whole = words && left >= kByteRun;
    const int32_t elements = kChannels * left;
    const int32_t bias = byte_bias(paint);
    const PaintLaw law(paint);
    uint32_t light01[kByteRun], light2_keep[kByteRun];  // in halves of words
    TUBELETX_UNROLL
    for (int j = 0; j < kByteRun; ++j) {
      const Weights weights = sights.weights(j, bias);
      const uint32_t scale = law.scale(static_cast<int32_t>(strength_of(sights.strengths, j)));
      const uint32_t light0 =
          PaintLaw::scaled(weights(taps_of(sights.upper[j], sights.lower[j], 0)), scale) + law.light;
      const uint32_t light1 =
          PaintLaw::scaled(weights(taps_of(sights.upper[j], sights.lower[j], 1)), scale) + law.light;
      const uint32_t light2 =
          PaintLaw::scaled(weights(taps_of(sights.upper[j], sights.lower[j], 2)), scale) + law.light;
      const uint32_t keep = law.full - PaintLaw::scaled(weights(taps_of(sights.upper[j], sights.lower[j], 3)), scale);
      light01[j] = permute_bytes(light0, light1, 0x5410);
      light2_keep[j] = permute_bytes(light2, keep, 0x5410);
    }
    TUBELETX_ROLL
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

  /// A tile, for any pose, channels and strides.
  template <typename SomePose>
  TUBELETX_DEVICE void paint_pixels(const Frames& frames, const ByteLayer& layer, const SomePose& pose, int32_t tile_x,
                                    int32_t tile_y) const {
    const int lane = device::thread() % kWarp;
    int32_t x = tile_x + lane % (kByteTileWidth / kByteRun) * kByteRun;
    const int32_t y = tile_y + lane / (kByteTileWidth / kByteRun);
    if (y >= arguments.height) return;
    const BytePaint paint = layer.paint;
    const int32_t channels = static_cast<int32_t>(arguments.channels);
    TUBELETX_ROLL
    for (int32_t end = x + kByteRun; x < end && x < arguments.width; ++x) {
      const auto place_x = place_of(pose, x, y, 0), place_y = place_of(pose, x, y, 1);
      const int32_t strength = byte_strength(layer.shape, pose, place_x, place_y);
      if (strength == 0) continue;
      const ByteTexel texel = find_texel(pose, place_x, place_y);
      const Weights weights(texel.right, texel.lower, byte_bias(paint));
      const TexelPair* upper = layer.texels + int64_t{texel.row * layer.pitch + texel.column} * texels.groups;
      const TexelPair* lower = upper + int64_t{layer.pitch} * texels.groups;
      const uint32_t keep =
          paint == BytePaint::kOpaque
              ? 0
              : keep_of(paint, weights(taps_of(upper[channels / 4], lower[channels / 4], channels % 4)), strength);
      TUBELETX_ROLL
      for (int32_t c = 0; c < channels; ++c) {
        const uint32_t sum = weights(taps_of(upper[c / 4], lower[c / 4], c % 4));
        const uint32_t light = light_of(paint, sum, strength);
        TUBELETX_ROLL
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
  device::launch(kName, prepare, stream, device::Start::kEarly);
  if (is_rgb(arguments)) {
    device::launch(kName, PasteBytes<true>(prepare), stream, device::Start::kEarly);
  } else {
    device::launch(kName, PasteBytes<false>(prepare), stream, device::Start::kEarly);
  }
}

}  // namespace tubeletx::cuda
