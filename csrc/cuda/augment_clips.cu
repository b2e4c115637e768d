// From decoded bytes to network input. The taps of each clip are found once; a thread then has a column of a strip of
// output rows, and adds every source row that it has resized along x to those that see it. Bytes stay in the cache
// between this, pasting, the sums of colours and their map.
#include "cuda/augment_clips.h"

#include <algorithm>

#include "core/resize_bytes.h"
#include "cuda/device.h"

namespace tubeletx::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kStripRows = 8;
constexpr int kRowsAtOnce = 64;  // source rows whose weights lie in shared memory
constexpr int kPixelsOfThread = 4;
constexpr int64_t kMostBlocks = 1 << 20;

TUBELETX_HOST_DEVICE inline int64_t divided_up(int64_t count, int64_t by) { return (count + by - 1) / by; }

/// What is said of single clips travels as arguments do, which have room for so many: no copy from the host, for which
/// it would have to wait, nor memory there that a captured graph would find changed.
constexpr int kSourcesAtOnce = 64;
struct SomeSources {
  SourceClip sources[kSourcesAtOnce];
  SourceClip* table;
  int32_t count;
};

TUBELETX_DEVICE int32_t between(int32_t value, int32_t low, int32_t high) {
  return value < low ? low : (value > high ? high : value);
}

/// The host cannot check windows without waiting for them; none may reach foreign memory.
TUBELETX_DEVICE Window window_inside(const AugmentArguments& arguments, int64_t clip) {
  const int64_t b = clip / arguments.num_clips, v = clip % arguments.num_clips;
  const Window given = window_of(arguments, b, v);
  const SourceClip source = source_of(arguments, b, v);
  const int32_t width = source.width, height = source.height;
  const int32_t x0 = between(given.x0, 0, width - 1), y0 = between(given.y0, 0, height - 1);
  return {x0, y0, between(given.x1, x0 + 1, width), between(given.y1, y0 + 1, height)};
}

TUBELETX_DEVICE uint8_t* frame_of(const AugmentClips& clips, int64_t clip, int64_t t) {
  const ClipView& view = clips.pixels[clip % clips.arguments.num_clips];
  return static_cast<uint8_t*>(view.data) + clip / clips.arguments.num_clips * view.batch_stride +
         t * view.frame_stride;
}

TUBELETX_KERNEL(kSourcesAtOnce, 1)
write_sources(TUBELETX_KERNEL_ARGUMENT SomeSources some) {
  if (device::thread() < some.count) some.table[device::thread()] = some.sources[device::thread()];
}

TUBELETX_KERNEL(kThreads, 1)
find_taps(TUBELETX_KERNEL_ARGUMENT AugmentClips clips) {
  const AugmentArguments& arguments = clips.arguments;
  const AugmentWorkspace& workspace = clips.workspace;
  const int32_t width = static_cast<int32_t>(arguments.width), height = static_cast<int32_t>(arguments.height);
  const int64_t step = device::blocks_of_grid() * kThreads;
  const int64_t first = device::block_x() * kThreads + device::thread();
  for (int64_t i = first; i < arguments.batch * arguments.num_clips * (width + height); i += step) {
    const int64_t clip = i / (width + height);
    const int32_t place = static_cast<int32_t>(i % (width + height));
    const Window window = window_inside(arguments, clip);
    const bool along_x = place < width;
    const int32_t in = along_x ? window.x1 - window.x0 : window.y1 - window.y0, out = along_x ? width : height;
    int32_t index = along_x ? place : place - width;
    int16_t* weights = along_x ? workspace.weights_x + (clip * width + index) * workspace.taps_x
                               : workspace.weights_y + (clip * height + index) * workspace.taps_y;
    if (along_x && flip_of(arguments, clip / arguments.num_clips, clip % arguments.num_clips)) index = out - 1 - index;
    const ResizeTaps taps = resize_taps(index, in, out);
    resize_weights(index, in, out, taps, weights);
    workspace.taps[2 * i] = taps.first + (along_x ? window.x0 : window.y0);
    workspace.taps[2 * i + 1] = taps.count;
  }
  const AugmentPatches& patches = clips.patches;
  for (int64_t i = first; i < arguments.batch * patches.count; i += step) {
    const int32_t* given = patches.given_box + 4 * i;
    const int32_t x0 = between(given[0], 0, width), y0 = between(given[1], 0, height);
    const int32_t right = between(x0 + patches.largest_width, 0, width);
    const int32_t bottom = between(y0 + patches.largest_height, 0, height);
    int32_t* box = patches.box + 4 * i;
    box[0] = x0;
    box[1] = y0;
    box[2] = between(given[2], x0, right);
    box[3] = between(given[3], y0, bottom);
    patches.frame[i] = between(patches.given_frame[i], 0, static_cast<int32_t>(arguments.frames) - 1);
  }
}

/// Strips of frames, and columns of them, shared out among blocks.
struct Strips {
  int64_t across, down, frames, count;

  TUBELETX_HOST_DEVICE explicit Strips(const AugmentArguments& arguments)
      : across(divided_up(arguments.width, kThreads)),
        down(divided_up(arguments.height, kStripRows)),
        frames(arguments.frames),
        count(arguments.batch * arguments.num_clips * frames * down * across) {}
};

/// A row of the source resized along x, at one output pixel.
TUBELETX_DEVICE void resize_pixel(const uint8_t* row, const SourceClip& clip, const int16_t* weights, int32_t taps,
                                  int32_t (&levels)[3]) {
  int32_t sums[3] = {0, 0, 0};
  for (int32_t tap = 0; tap < taps; ++tap) {
    const uint8_t* pixel = row + tap * clip.column_stride;
    const int32_t weight = weights[tap];
    TUBELETX_UNROLL
    for (int c = 0; c < 3; ++c) sums[c] += weight * pixel[c * clip.channel_stride];
  }
  TUBELETX_UNROLL
  for (int c = 0; c < 3; ++c) levels[c] = round_resized_row(sums[c]);
}

TUBELETX_KERNEL(kThreads, 6)
resize_strips(TUBELETX_KERNEL_ARGUMENT AugmentClips clips) {
  const AugmentArguments& arguments = clips.arguments;
  const AugmentWorkspace& workspace = clips.workspace;
  const Strips strips(arguments);
  int16_t* strip_weights = static_cast<int16_t*>(device::shared_memory());  // (kRowsAtOnce, kStripRows)
  for (int64_t strip = device::block_x(); strip < strips.count; strip += device::blocks_of_grid()) {
    const int64_t across = strip % strips.across, rest = strip / strips.across;
    const int64_t down = rest % strips.down, frame = rest / strips.down;
    const int64_t t = frame % strips.frames, clip = frame / strips.frames;
    const SourceClip source = source_of(arguments, clip / arguments.num_clips, clip % arguments.num_clips);
    const int64_t x = across * kThreads + device::thread(), y = down * kStripRows;
    const bool has_column = x < arguments.width;
    const int32_t rows = static_cast<int32_t>(arguments.height - y < kStripRows ? arguments.height - y : kStripRows);

    const int32_t* taps = workspace.taps + 2 * clip * (arguments.width + arguments.height);
    const int32_t* row_taps = taps + 2 * (arguments.width + y);
    const int32_t begin = row_taps[0], end = row_taps[2 * (rows - 1)] + row_taps[2 * (rows - 1) + 1];
    const int32_t first = has_column ? taps[2 * x] : 0, count = has_column ? taps[2 * x + 1] : 0;
    const int16_t* weights = workspace.weights_x + (clip * arguments.width + (has_column ? x : 0)) * workspace.taps_x;
    const uint8_t* pixels = source.pixels + t * source.frame_stride + first * source.column_stride;
    int32_t sums[kStripRows][3] = {};
    for (int32_t chunk = begin; chunk < end; chunk += kRowsAtOnce) {
      const int32_t left = end - chunk < kRowsAtOnce ? end - chunk : kRowsAtOnce;
      for (int32_t i = device::thread(); i < kRowsAtOnce * kStripRows; i += kThreads) {
        const int32_t row = i % kStripRows, tap = row < rows ? chunk + i / kStripRows - row_taps[2 * row] : -1;
        const bool seen = tap >= 0 && tap < row_taps[2 * row + 1];
        strip_weights[i] =
            seen ? workspace.weights_y[(clip * arguments.height + y + row) * workspace.taps_y + tap] : int16_t{0};
      }
      device::synchronize_block();
      for (int32_t k = 0; has_column && k < left; ++k) {
        int32_t levels[3];
        resize_pixel(pixels + (chunk + k) * source.row_stride, source, weights, count, levels);
        const int16_t* shares = strip_weights + k * kStripRows;
        TUBELETX_UNROLL
        for (int row = 0; row < kStripRows; ++row) {
          const int32_t share = shares[row];
          TUBELETX_UNROLL
          for (int c = 0; c < 3; ++c) sums[row][c] += share * levels[c];
        }
      }
      device::synchronize_block();
    }
    uint8_t* out = frame_of(clips, clip, t) + kAugmentedChannels * (y * arguments.width + x);
    TUBELETX_UNROLL
    for (int row = 0; row < kStripRows; ++row) {
      if (!has_column || row >= rows) continue;
      TUBELETX_UNROLL
      for (int c = 0; c < 3; ++c) {
        out[row * kAugmentedChannels * arguments.width + c] = static_cast<uint8_t>(round_resized_level(sums[row][c]));
      }
    }
  }
}

TUBELETX_DEVICE int64_t pixels_of_clip(const AugmentArguments& arguments) {
  return arguments.frames * arguments.height * arguments.width;
}

/// The bytes of a clip, added by channels: a block has one part of them. The clip's pixels are dense in the workspace.
TUBELETX_KERNEL(kThreads, 1)
sum_parts(TUBELETX_KERNEL_ARGUMENT AugmentClips clips) {
  const AugmentArguments& arguments = clips.arguments;
  const int64_t parts = clips.workspace.parts, part = device::block_x() % parts, clip = device::block_x() / parts;
  const uint8_t* pixels = frame_of(clips, clip, 0);
  const int64_t count = pixels_of_clip(arguments), share = divided_up(divided_up(count, parts), kPixelsOfThread);
  int64_t sums[3] = {0, 0, 0};
  for (int64_t group = part * share + device::thread(); group < (part + 1) * share; group += kThreads) {
    const int64_t pixel = group * kPixelsOfThread;
    if (pixel + kPixelsOfThread <= count) {
      const uint32_t* words = reinterpret_cast<const uint32_t*>(pixels + kAugmentedChannels * pixel);
      const uint32_t word[3] = {words[0], words[1], words[2]};
      int32_t few[3] = {0, 0, 0};
      TUBELETX_UNROLL
      for (int i = 0; i < 12; ++i) few[i % 3] += static_cast<int32_t>((word[i / 4] >> (8 * (i % 4))) & 255u);
      TUBELETX_UNROLL
      for (int c = 0; c < 3; ++c) sums[c] += few[c];
    } else {
      for (int64_t i = pixel; i < count; ++i) {
        TUBELETX_UNROLL
        for (int c = 0; c < 3; ++c) sums[c] += pixels[kAugmentedChannels * i + c];
      }
    }
  }
  int64_t* of_warps = static_cast<int64_t*>(device::shared_memory());  // (kThreads / kWarp, 3)
  const int warp = device::thread() / device::kWarp;
  TUBELETX_UNROLL
  for (int c = 0; c < 3; ++c) {
    const int64_t sum = device::warp_sum(sums[c]);
    if (device::thread() % device::kWarp == 0) of_warps[3 * warp + c] = sum;
  }
  device::synchronize_block();
  if (device::thread() < 3) {
    int64_t sum = 0;
    for (int i = 0; i < kThreads / device::kWarp; ++i) sum += of_warps[3 * i + device::thread()];
    clips.workspace.sums[3 * (clip * parts + part) + device::thread()] = sum;
  }
}

TUBELETX_KERNEL(device::kWarp, 1)
make_maps(TUBELETX_KERNEL_ARGUMENT AugmentClips clips) {
  const AugmentArguments& arguments = clips.arguments;
  const int64_t clip = device::block_x(), parts = clips.workspace.parts;
  int64_t sums[3] = {0, 0, 0};
  if (arguments.colors != nullptr) {
    for (int64_t part = device::thread(); part < parts; part += device::kWarp) {
      for (int c = 0; c < 3; ++c) sums[c] += clips.workspace.sums[3 * (clip * parts + part) + c];
    }
    for (int64_t& sum : sums) sum = device::warp_sum(sum);
  }
  if (device::thread() > 0) return;
  clips.workspace.maps[clip] =
      make_color_map(color_of(arguments, clip / arguments.num_clips, clip % arguments.num_clips), sums,
                     pixels_of_clip(arguments), arguments.normalization);
}

/// Four numbers of an output, written at once.
template <typename Number>
struct alignas(4 * sizeof(Number)) Quad {
  Number number[4];
};

/// Whether four pixels of every frame lie on their own, in whole words of input and output.
template <typename Number>
TUBELETX_HOST_DEVICE inline bool in_quads(const AugmentArguments& arguments) {
  bool aligned = arguments.height * arguments.width % kPixelsOfThread == 0;
  for (int64_t v = 0; v < arguments.num_clips; ++v) {
    const ClipView& view = arguments.outputs[v];
    aligned = aligned && reinterpret_cast<uintptr_t>(view.data) % sizeof(Quad<Number>) == 0 &&
              view.batch_stride % 4 == 0 && view.frame_stride % 4 == 0;
  }
  return aligned;
}

/// A block takes kThreads times four pixels of a frame at a time. Threads exchange what they have made, so that a warp
/// writes one stretch of memory.
template <typename Number>
TUBELETX_KERNEL(kThreads, 8)
map_pixels(TUBELETX_KERNEL_ARGUMENT AugmentClips clips) {
  constexpr int64_t kAtOnce = kThreads * kPixelsOfThread;
  const AugmentArguments& arguments = clips.arguments;
  Quad<Number>* quads =
      static_cast<Quad<Number>*>(device::shared_memory()) + device::thread() / device::kWarp * (3 * device::kWarp);
  const int lane = device::thread() % device::kWarp;
  const int64_t count = arguments.height * arguments.width, blocks = divided_up(count, kAtOnce);
  const bool whole = in_quads<Number>(arguments);
  const int64_t total = arguments.batch * arguments.num_clips * arguments.frames * blocks;
  for (int64_t index = device::block_x(); index < total; index += device::blocks_of_grid()) {
    const int64_t frame = index / blocks, t = frame % arguments.frames, clip = frame / arguments.frames;
    const ColorMap map = clips.workspace.maps[clip];
    const ClipView& view = arguments.outputs[clip % arguments.num_clips];
    Number* out =
        static_cast<Number*>(view.data) + clip / arguments.num_clips * view.batch_stride + t * view.frame_stride;
    const uint8_t* pixels = frame_of(clips, clip, t);
    const int64_t begin = index % blocks * kAtOnce;
    if (!whole) {
      const int64_t end = begin + kAtOnce < count ? begin + kAtOnce : count;
      for (int64_t i = begin + device::thread(); i < end; i += kThreads) {
        const uint8_t* pixel = pixels + kAugmentedChannels * i;
        for (int c = 0; c < 3; ++c) {
          out[kAugmentedChannels * i + c] = from_real<Number>(map_color(map.entry[c], pixel[0], pixel[1], pixel[2]));
        }
      }
      continue;
    }
    const int64_t of_warp = begin + device::thread() / device::kWarp * (device::kWarp * kPixelsOfThread);
    const int64_t mine = of_warp + lane * kPixelsOfThread;
    if (mine < count) {
      const uint32_t* words = reinterpret_cast<const uint32_t*>(pixels + kAugmentedChannels * mine);
      const uint32_t word[3] = {words[0], words[1], words[2]};
      float byte[12], color[12];
      TUBELETX_UNROLL
      for (int i = 0; i < 12; ++i) byte[i] = static_cast<float>((word[i / 4] >> (8 * (i % 4))) & 255u);
      TUBELETX_UNROLL
      for (int i = 0; i < 12; ++i) {
        const int pixel = i / 3 * 3;
        color[i] = map_color(map.entry[i % 3], byte[pixel], byte[pixel + 1], byte[pixel + 2]);
      }
      TUBELETX_UNROLL
      for (int i = 0; i < 3; ++i) {
        Quad<Number> quad;
        TUBELETX_UNROLL
        for (int j = 0; j < 4; ++j) quad.number[j] = from_real<Number>(color[4 * i + j]);
        quads[3 * lane + i] = quad;
      }
    }
    device::synchronize_warp();
    const int64_t left = (count - of_warp) * 3 / 4;
    TUBELETX_UNROLL
    for (int i = 0; i < 3; ++i) {
      const int64_t place = i * device::kWarp + lane;
      if (place < left) {
        reinterpret_cast<Quad<Number>*>(out + kAugmentedChannels * of_warp)[place] = quads[place];
      }
    }
    device::synchronize_warp();
  }
}

template <typename Number>
void launch_map_pixels(const AugmentClips& clips, Stream stream) {
  const AugmentArguments& arguments = clips.arguments;
  const int64_t of_frame = divided_up(arguments.height * arguments.width, kThreads * kPixelsOfThread);
  const int64_t blocks = arguments.batch * arguments.num_clips * arguments.frames * of_frame;
  device::launch("augment_clips_", map_pixels<Number>, std::min(blocks, kMostBlocks), 1, kThreads,
                 static_cast<int64_t>(sizeof(Quad<Number>)) * 3 * kThreads, clips, stream);
}

}  // namespace

int64_t lay_out_workspace(AugmentClips& clips, void* memory) {
  constexpr int64_t kAlignment = 16, kPixelsOfPart = 1 << 14;
  const AugmentArguments& arguments = clips.arguments;
  AugmentWorkspace& workspace = clips.workspace;
  const int64_t count = arguments.batch * arguments.num_clips;
  const int64_t frame_pixels = arguments.height * arguments.width, pixels = arguments.frames * frame_pixels;
  workspace.taps_x = most_resize_taps(arguments.largest_width, static_cast<int32_t>(arguments.width));
  workspace.taps_y = most_resize_taps(arguments.largest_height, static_cast<int32_t>(arguments.height));
  workspace.parts = static_cast<int32_t>(divided_up(pixels, kPixelsOfPart));
  int64_t bytes = 0;
  const auto take = [&](auto*& pointer, int64_t elements) {
    using Element = std::remove_reference_t<decltype(*pointer)>;
    pointer = memory == nullptr ? nullptr : reinterpret_cast<Element*>(static_cast<char*>(memory) + bytes);
    bytes += divided_up(elements * static_cast<int64_t>(sizeof(Element)), kAlignment) * kAlignment;
  };
  take(workspace.taps, 2 * count * (arguments.width + arguments.height));
  take(workspace.weights_x, count * arguments.width * workspace.taps_x);
  take(workspace.weights_y, count * arguments.height * workspace.taps_y);
  take(workspace.single, arguments.single == nullptr ? 0 : count);
  take(clips.patches.frame, arguments.batch * clips.patches.count);
  take(clips.patches.box, 4 * arguments.batch * clips.patches.count);
  workspace.pixels = nullptr;
  const int64_t frame_bytes = kAugmentedChannels * frame_pixels;
  if (arguments.type == AugmentedType::kByte) {
    std::copy(arguments.outputs, arguments.outputs + arguments.num_clips, clips.pixels);
    return bytes;
  }
  take(workspace.sums, 3 * count * workspace.parts);
  take(workspace.maps, count);
  const int64_t clip_bytes = divided_up(arguments.frames * frame_bytes, kAlignment) * kAlignment;
  take(workspace.pixels, count * clip_bytes);
  for (int64_t v = 0; v < arguments.num_clips; ++v) {
    uint8_t* data = workspace.pixels == nullptr ? nullptr : workspace.pixels + v * clip_bytes;
    clips.pixels[v] = {data,        arguments.num_clips * clip_bytes,     1,
                       frame_bytes, kAugmentedChannels * arguments.width, kAugmentedChannels};
  }
  return bytes;
}

void launch_write_sources(AugmentClips& clips, Stream stream) {
  AugmentArguments& arguments = clips.arguments;
  if (arguments.single == nullptr) return;
  const int64_t count = arguments.batch * arguments.num_clips;
  for (int64_t first = 0; first < count; first += kSourcesAtOnce) {
    SomeSources some = {};
    some.table = clips.workspace.single + first;
    some.count = static_cast<int32_t>(std::min<int64_t>(count - first, kSourcesAtOnce));
    std::copy(arguments.single + first, arguments.single + first + some.count, some.sources);
    device::launch("augment_clips_", write_sources, 1, 1, kSourcesAtOnce, 0, some, stream);
  }
  arguments.single = clips.workspace.single;
}

void launch_resize_clips(const AugmentClips& clips, Stream stream) {
  const AugmentArguments& arguments = clips.arguments;
  const int64_t places = arguments.batch * arguments.num_clips * (arguments.width + arguments.height);
  const int64_t threads = std::max(places, arguments.batch * clips.patches.count);
  device::launch("augment_clips_", find_taps, std::min(divided_up(threads, kThreads), kMostBlocks), 1, kThreads, 0,
                 clips, stream);
  device::launch("augment_clips_", resize_strips, std::min(Strips(arguments).count, kMostBlocks), 1, kThreads,
                 static_cast<int64_t>(sizeof(int16_t)) * kRowsAtOnce * kStripRows, clips, stream);
}

void launch_map_clips(const AugmentClips& clips, Stream stream) {
  const AugmentArguments& arguments = clips.arguments;
  const int64_t count = arguments.batch * arguments.num_clips;
  if (arguments.colors != nullptr) {
    device::launch("augment_clips_", sum_parts, count * clips.workspace.parts, 1, kThreads,
                   static_cast<int64_t>(sizeof(int64_t)) * 3 * (kThreads / device::kWarp), clips, stream);
  }
  device::launch("augment_clips_", make_maps, count, 1, device::kWarp, 0, clips, stream);
  switch (arguments.type) {
    case AugmentedType::kHalf:
      return launch_map_pixels<Half>(clips, stream);
    case AugmentedType::kBFloat16:
      return launch_map_pixels<BFloat16>(clips, stream);
    default:
      return launch_map_pixels<float>(clips, stream);
  }
}

}  // namespace tubeletx::cuda
