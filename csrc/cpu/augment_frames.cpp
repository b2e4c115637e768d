#include "cpu/augment_frames.h"

#include <algorithm>
#include <cstring>

#include "core/blend.h"
#include "core/resize_bytes.h"
#include "cpu/vector.h"

namespace tubeletx::cpu {
namespace {

/// Bytes that vectors may read behind a row, and numbers that they may write behind one.
constexpr int64_t kRowRoom = 64;

/// One thread's room, kept from frame to frame.
struct RowRoom {
  std::vector<uint8_t> source;
  std::vector<int16_t> rows;
};

RowRoom& row_room() {
  static thread_local RowRoom kept;
  return kept;
}

template <typename Element>
Element* reserve(std::vector<Element>& room, int64_t count) {
  if (static_cast<int64_t>(room.size()) < count) room.resize(static_cast<size_t>(count));
  return room.data();
}

}  // namespace
}  // namespace tubeletx::cpu

#if defined(TUBELETX_NEON)
#include "cpu/augment_neon.h"
#elif defined(TUBELETX_VECTOR_CODE)
#include "cpu/augment_avx2.h"
#include "cpu/augment_avx512.h"
#endif

#define TUBELETX_LOOPS "cpu/augment_loops.h"
#include "cpu/in_each_instruction_set.h"

namespace tubeletx::cpu {
namespace {

/// A row of the window, its pixels side by side.
void pack_row(const SourceFrame& source, const Window& window, int64_t row, uint8_t* packed) {
  const uint8_t* from =
      source.pixels + (window.y0 + row) * source.row_stride + int64_t{window.x0} * source.column_stride;
  const int64_t width = window.x1 - window.x0;
  if (source.channel_stride == 1 && source.column_stride == kAugmentedChannels) {
    std::memcpy(packed, from, static_cast<size_t>(kAugmentedChannels * width));
    return;
  }
  for (int64_t x = 0; x < width; ++x) {
    for (int64_t c = 0; c < kAugmentedChannels; ++c) {
      packed[kAugmentedChannels * x + c] = from[x * source.column_stride + c * source.channel_stride];
    }
  }
}

/// Along x: one number a channel of each output pixel, in 2^-7 levels.
void resize_row_plainly(const ResizeAxis& axis, const uint8_t* packed, int16_t* row) {
  for (int64_t x = 0; x < axis.out; ++x) {
    const uint8_t* from = packed + kAugmentedChannels * axis.first[x];
    const int16_t* weights = axis.weights_of(x);
    int32_t sums[kAugmentedChannels] = {};
    for (int64_t tap = 0; tap < 2 * axis.pairs; ++tap) {
      for (int64_t c = 0; c < kAugmentedChannels; ++c) sums[c] += weights[tap] * from[kAugmentedChannels * tap + c];
    }
    for (int64_t c = 0; c < kAugmentedChannels; ++c) {
      row[kAugmentedChannels * x + c] = static_cast<int16_t>(round_resized_row(sums[c]));
    }
  }
}

/// Along y: a row of levels from the rows of its taps.
void join_rows_plainly(const int16_t* const* rows, const int16_t* weights, int64_t pairs, int64_t count, uint8_t* out) {
  for (int64_t i = 0; i < count; ++i) {
    int32_t sum = 0;
    for (int64_t tap = 0; tap < 2 * pairs; ++tap) sum += weights[tap] * rows[tap][i];
    out[i] = static_cast<uint8_t>(round_resized_level(sum));
  }
}

void resize_row(const ResizePlan& plan, [[maybe_unused]] Instructions set, const uint8_t* packed, int16_t* row) {
#ifdef TUBELETX_AVX512
  if (set == Instructions::kWide && !plan.gathered.empty()) {
    return avx512::resize_row(plan.gathered.data(), plan.x.pairs, kAugmentedChannels * int64_t{plan.x.out}, packed,
                              row);
  }
#endif
#ifdef TUBELETX_VECTOR_CODE
  if (set != Instructions::kBaseline) return narrow::resize_row(plan.x, packed, row);
#endif
  resize_row_plainly(plan.x, packed, row);
}

void join_rows([[maybe_unused]] Instructions set, const int16_t* const* rows, const int16_t* weights, int64_t pairs,
               int64_t count, uint8_t* out) {
#ifdef TUBELETX_VECTOR_CODE
  if (set == Instructions::kWide) return wide::join_rows(rows, weights, pairs, count, out);
  if (set == Instructions::kNarrow) return narrow::join_rows(rows, weights, pairs, count, out);
#endif
  join_rows_plainly(rows, weights, pairs, count, out);
}

void make_axis(int32_t in, int32_t out, bool flip, ResizeAxis& axis) {
  axis.in = in;
  axis.out = out;
  axis.pairs = (most_resize_taps(in, out) + 1) / 2;
  axis.first.resize(static_cast<size_t>(out));
  axis.weights.assign(static_cast<size_t>(2 * int64_t{out} * axis.pairs), 0);
  for (int32_t index = 0; index < out; ++index) {
    const int32_t seen = flip ? out - 1 - index : index;
    const ResizeTaps taps = resize_taps(seen, in, out);
    axis.first[index] = taps.first;
    resize_weights(seen, in, out, taps, axis.weights.data() + 2 * int64_t{index} * axis.pairs);
  }
}

/// Tables for vectors of 16 sums; false where some sums lie too far from each other.
bool gather_taps(const ResizeAxis& axis, std::vector<GatheredTaps>& tables) {
  constexpr int64_t kSums = 16;
  const int64_t sums = kAugmentedChannels * int64_t{axis.out}, blocks = (sums + kSums - 1) / kSums;
  tables.resize(static_cast<size_t>(blocks * axis.pairs));
  for (int64_t block = 0; block < blocks; ++block) {
    const int64_t begin = block * kSums, end = std::min(begin + kSums, sums);
    const int64_t low = begin / kAugmentedChannels, high = (end - 1) / kAugmentedChannels;
    // Mirrored ones come from right to left.
    const int64_t base = kAugmentedChannels * int64_t{std::min(axis.first[low], axis.first[high])};
    const int64_t last = kAugmentedChannels * (int64_t{std::max(axis.first[low], axis.first[high])} + 1) + 2;
    if (last - base > 63) return false;
    for (int64_t pair = 0; pair < axis.pairs; ++pair) {
      GatheredTaps& table = tables[block * axis.pairs + pair];
      table.base = static_cast<int32_t>(base + 2 * kAugmentedChannels * pair);
      std::memset(table.place, 0, sizeof table.place);
      std::memset(table.weight, 0, sizeof table.weight);
      for (int64_t i = begin; i < end; ++i) {
        const int64_t x = i / kAugmentedChannels, channel = i % kAugmentedChannels;
        const int64_t place = kAugmentedChannels * axis.first[x] + channel - base, lane = i - begin;
        for (int64_t tap = 0; tap < 2; ++tap) {
          table.place[4 * lane + 2 * tap] = static_cast<uint8_t>(place + kAugmentedChannels * tap);
          table.weight[2 * lane + tap] = axis.weights_of(x)[2 * pair + tap];
        }
      }
    }
  }
  return true;
}

void map_colors_plainly(const uint8_t* pixels, int64_t count, const ColorMap& map, AugmentedType type, void* out) {
  for (int64_t i = 0; i < kAugmentedChannels * count; ++i) {
    const uint8_t* pixel = pixels + i / kAugmentedChannels * kAugmentedChannels;
    const float color = map_color(map.entry[i % kAugmentedChannels], pixel[0], pixel[1], pixel[2]);
    switch (type) {
      case AugmentedType::kHalf:
        static_cast<Half*>(out)[i] = from_real<Half>(color);
        break;
      case AugmentedType::kBFloat16:
        static_cast<BFloat16*>(out)[i] = from_real<BFloat16>(color);
        break;
      default:
        static_cast<float*>(out)[i] = color;
    }
  }
}

}  // namespace

void ResizePlan::make(const Window& of, bool flip, int64_t height, int64_t width) {
  window = of;
  const int32_t window_width = of.x1 - of.x0, window_height = of.y1 - of.y0;
  identity = !flip && window_width == width && window_height == height;
  if (identity) return;
  make_axis(window_width, static_cast<int32_t>(width), flip, x);
  make_axis(window_height, static_cast<int32_t>(height), false, y);
  if (instructions() != Instructions::kWide || !gather_taps(x, gathered)) gathered.clear();
}

void resize_frame(const ResizePlan& plan, const SourceFrame& source, uint8_t* out) {
  const int64_t window_width = plan.window.x1 - plan.window.x0, window_height = plan.window.y1 - plan.window.y0;
  if (plan.identity) {
    const int64_t row_bytes = kAugmentedChannels * window_width;
    for (int64_t row = 0; row < window_height; ++row) pack_row(source, plan.window, row, out + row * row_bytes);
    return;
  }
  const Instructions set = instructions();
  const int64_t taps = 2 * int64_t{plan.y.pairs}, count = kAugmentedChannels * int64_t{plan.x.out};
  const int64_t pitch = (count + kRowRoom + 31) / 32 * 32;
  RowRoom& room = row_room();
  const int64_t source_bytes = kAugmentedChannels * (window_width + 2 * int64_t{plan.x.pairs}) + kRowRoom;
  uint8_t* packed = reserve(room.source, source_bytes);
  // The last rows that were resized along x, in turn; and of each tap its row.
  int16_t* rows = reserve(room.rows, taps * pitch);
  std::vector<const int16_t*> seen(static_cast<size_t>(taps));
  int64_t done = 0;
  for (int64_t y = 0; y < plan.y.out; ++y) {
    const int64_t first = plan.y.first[y], end = std::min(first + taps, window_height);
    for (; done < end; ++done) {
      pack_row(source, plan.window, done, packed);
      resize_row(plan, set, packed, rows + done % taps * pitch);
    }
    for (int64_t tap = 0; tap < taps; ++tap) seen[tap] = rows + std::min(first + tap, end - 1) % taps * pitch;
    join_rows(set, seen.data(), plan.y.weights_of(y), plan.y.pairs, count, out + y * count);
  }
}

void add_colors(const uint8_t* pixels, int64_t count, int64_t (&sums)[3]) {
  int64_t done = 0;
#ifdef TUBELETX_VECTOR_CODE
  if (instructions() == Instructions::kWide) done = wide::add_colors(pixels, count, sums);
  if (instructions() == Instructions::kNarrow) done = narrow::add_colors(pixels, count, sums);
#endif
  for (int64_t i = kAugmentedChannels * done; i < kAugmentedChannels * count; ++i) sums[i % 3] += pixels[i];
}

void map_colors(const uint8_t* pixels, int64_t count, const ColorMap& map, AugmentedType type, void* out) {
#ifdef TUBELETX_VECTOR_CODE
  const Instructions set = instructions();
  if (set == Instructions::kWide) return wide::map_colors(pixels, count, map, type, out);
  if (set == Instructions::kNarrow) return narrow::map_colors(pixels, count, map, type, out);
#endif
  map_colors_plainly(pixels, count, map, type, out);
}

}  // namespace tubeletx::cpu
