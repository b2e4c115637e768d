// The loops of augment_frames.cpp, on the names of vector.h and of the instruction set's own file, such as
// augment_neon.h: included by in_each_instruction_set.h.

#define TUBELETX_LOCAL TUBELETX_TARGET TUBELETX_VECTOR_INLINE

template <int kPairs>
TUBELETX_LOCAL void join_rows_of(const int16_t* const* rows, const int16_t* weights, int64_t any_pairs, int64_t count,
                                 uint8_t* out) {
  constexpr int64_t kWords = kBytes / 2;
  const int64_t pairs = kPairs > 0 ? kPairs : any_pairs;
  const Integers half = splat(1 << (kResizeLevelShift - 1));
  for (int64_t i = 0; i < count; i += kWords) {
    Integers low = half, high = half;
    for (int64_t pair = 0; pair < pairs; ++pair) {
      const Integers first = load_unaligned(rows[2 * pair] + i), second = load_unaligned(rows[2 * pair + 1] + i);
      int32_t both;
      std::memcpy(&both, weights + 2 * pair, sizeof both);
      const Integers weight = splat(both);
      low = multiply_accumulate(low, interleave_low(first, second), weight);
      high = multiply_accumulate(high, interleave_high(first, second), weight);
    }
    const Integers words =
        pack_words(shift_right_signed<kResizeLevelShift>(low), shift_right_signed<kResizeLevelShift>(high));
    store_words_as_bytes(out + i, words, count - i);
  }
}

/// Along y: `count` levels from the rows of `pairs` pairs of taps. Rows may be read up to a vector behind their end.
TUBELETX_TARGET inline void join_rows(const int16_t* const* rows, const int16_t* weights, int64_t pairs, int64_t count,
                                      uint8_t* out) {
  if (pairs == 1) return join_rows_of<1>(rows, weights, pairs, count, out);
  if (pairs == 2) return join_rows_of<2>(rows, weights, pairs, count, out);
  join_rows_of<0>(rows, weights, pairs, count, out);
}

/// Bytes i with (i + shift) % 3 == 0 have all bits.
struct ThirdBytes {
  alignas(64) uint8_t bits[64];
};
constexpr ThirdBytes third_bytes(int shift) {
  ThirdBytes mask{};
  for (int i = 0; i < 64; ++i) mask.bits[i] = (i + shift) % 3 == 0 ? 255 : 0;
  return mask;
}
inline constexpr ThirdBytes kThirdBytes[3] = {third_bytes(0), third_bytes(1), third_bytes(2)};

/// Adds the channels of whole vectors; returns how many pixels that were.
TUBELETX_TARGET inline int64_t add_colors(const uint8_t* pixels, int64_t count, int64_t (&sums)[3]) {
  const Integers third[3] = {load(kThirdBytes[0].bits), load(kThirdBytes[1].bits), load(kThirdBytes[2].bits)};
  Integers wide[3] = {splat(0), splat(0), splat(0)};
  int64_t done = 0;
  for (; done + kBytes <= count; done += kBytes) {
    for (int part = 0; part < 3; ++part) {
      const Integers bytes = load_unaligned(pixels + 3 * done + part * kBytes);
      for (int c = 0; c < 3; ++c) {
        const int shift = static_cast<int>((part * kBytes + 3 - c) % 3);
        wide[c] = add_wide(wide[c], sum_bytes(bits_and(bytes, third[shift])));
      }
    }
  }
  for (int c = 0; c < 3; ++c) {
    alignas(64) int64_t lanes[kBytes / 8];
    store(lanes, wide[c]);
    for (const int64_t lane : lanes) sums[c] += lane;
  }
  return done;
}

template <typename Number>
TUBELETX_LOCAL void map_lanes(const uint8_t* pixels, const Floats (&entry)[3][4], Number* out) {
  const Planes from = load_planes(pixels);
  Planes to;
  for (int c = 0; c < 3; ++c) {
    const Floats two = add(multiply(entry[c][0], from.channel[0]), multiply(entry[c][1], from.channel[1]));
    to.channel[c] = add(add(two, multiply(entry[c][2], from.channel[2])), entry[c][3]);
  }
  for (int part = 0; part < 3; ++part) store_numbers(out + part * kLanes, interleaved(to, part));
}

template <typename Number>
TUBELETX_TARGET void map_colors(const uint8_t* pixels, int64_t count, const ColorMap& map, Number* out) {
  Floats entry[3][4];
  for (int c = 0; c < 3; ++c) {
    for (int i = 0; i < 4; ++i) entry[c][i] = splat(map.entry[c][i]);
  }
  int64_t done = 0;
  for (; done + kLanes <= count; done += kLanes) map_lanes(pixels + 3 * done, entry, out + 3 * done);
  if (done == count) return;
  uint8_t rest[3 * kLanes] = {};
  Number mapped[3 * kLanes];
  std::memcpy(rest, pixels + 3 * done, static_cast<size_t>(3 * (count - done)));
  map_lanes(rest, entry, mapped);
  std::memcpy(out + 3 * done, mapped, static_cast<size_t>(3 * (count - done)) * sizeof(Number));
}

TUBELETX_TARGET inline void map_colors(const uint8_t* pixels, int64_t count, const ColorMap& map, AugmentedType type,
                                       void* out) {
  switch (type) {
    case AugmentedType::kHalf:
      return map_colors(pixels, count, map, static_cast<Half*>(out));
    case AugmentedType::kBFloat16:
      return map_colors(pixels, count, map, static_cast<BFloat16*>(out));
    default:
      return map_colors(pixels, count, map, static_cast<float*>(out));
  }
}

#undef TUBELETX_LOCAL
