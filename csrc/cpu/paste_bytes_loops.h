// The loops that paste bytes, on the names of cpu/vector.h: included by in_each_instruction_set.h.
//
// A layer is first cut into pieces, a vector's worth of pixels of a row each: the spans of some rows at a time, from
// the outline in double precision, then shrunk to the first and the last pixel that the definition covers. Then the
// pieces go through one loop without branches, each warped once for all clips.

#define TUBELETX_LOCAL TUBELETX_TARGET TUBELETX_VECTOR_INLINE

/// Constants of a layer's places.
struct Places {
  Integers step_x[2], step_y[2], start[2], extent[2], middle[2];
  Floats half[2], inverse_half[2];
};

TUBELETX_LOCAL Places places_of(const BytePose& pose) {
  Places places;
  for (int axis = 0; axis < 2; ++axis) {
    places.step_x[axis] = splat(static_cast<int32_t>(pose.step_x[axis]));
    places.step_y[axis] = splat(static_cast<int32_t>(pose.step_y[axis]));
    places.start[axis] = splat(static_cast<int32_t>(pose.start[axis]));
    places.extent[axis] = splat(static_cast<int32_t>(pose.extent[axis]));
    places.middle[axis] = splat(static_cast<int32_t>(pose.extent[axis] >> 1));
    places.half[axis] = splat(pose.half[axis]);
    places.inverse_half[axis] = splat(pose.inverse_half[axis]);
  }
  return places;
}

TUBELETX_LOCAL Floats from_center(const Places& places, Integers place, int axis) {
  return to_floats(subtract(place, places.middle[axis]));
}

/// Whether a hard edge of the shape covers a place; of a soft edge only whether it lies in the patch.
template <Shape kShape>
TUBELETX_LOCAL Mask covers(const Places& places, Integers x, Integers y) {
  const Mask in_patch = both(less_unsigned(x, places.extent[0]), less_unsigned(y, places.extent[1]));
  if constexpr (kShape == Shape::kRectangle) return in_patch;
  const Floats dx = from_center(places, x, 0), dy = from_center(places, y, 1);
  if constexpr (kShape == Shape::kEllipse) {
    const Floats across = dx * places.inverse_half[0], down = dy * places.inverse_half[1];
    return both(in_patch, less(across * across + down * down, splat(1.0f)));
  }
  const Floats across = dx * places.half[1], down = dy * places.half[0];
  const Floats limit = places.half[0] * places.half[1], opposite = splat(0.0f) - limit;
  const Floats sum = across + down, difference = across - down;
  return but_not(both(in_patch, both(less(sum, limit), less(difference, limit))),
                 either(less(sum, opposite), less(difference, opposite)));
}

/// Columns [begin, end) of rows row .. row + kLanes - 1 that the footprint may cover.
template <bool kRound>
TUBELETX_LOCAL void span_rows(const Footprint& outline, int32_t row, Integers& begin, Integers& end) {
  Doubles low[2], high[2];
  for (int half = 0; half < 2; ++half) {
    const double first = static_cast<double>(row + half * (kLanes / 2)) + 0.5 - outline.center_y;
    const Doubles dy = half_lane_numbers() + splat(first);
    if constexpr (kRound) {
      const Doubles across = splat(outline.determinant * outline.inverse_first) * dy;
      const Doubles square = splat(outline.reach) - across * across;
      const Doubles half_chord = square_root(larger(square, splat(0.0)));
      const Doubles middle = splat(outline.drift) * dy;
      low[half] = middle - half_chord;
      high[half] = middle + half_chord;
    } else {
      // Where a strip lies along the row its inverse is infinite, and so are both ends; not a number comes up only for
      // rows that are not covered.
      const Doubles shift = splat(outline.first_y) * dy, other_shift = splat(outline.second_y) * dy;
      const Doubles one = (splat(-outline.limit) - shift) * splat(outline.inverse_first);
      const Doubles two = (splat(outline.limit) - shift) * splat(outline.inverse_first);
      const Doubles other_one = (splat(-outline.limit) - other_shift) * splat(outline.inverse_second);
      const Doubles other_two = (splat(outline.limit) - other_shift) * splat(outline.inverse_second);
      low[half] = larger(smaller(one, two), smaller(other_one, other_two));
      high[half] = smaller(larger(one, two), larger(other_one, other_two));
    }
    const Doubles first_column = splat(static_cast<double>(outline.column_begin));
    const Doubles last_column = splat(static_cast<double>(outline.column_end - 1));
    const Doubles center = splat(outline.center_x - 0.5);
    low[half] = smaller(larger(low[half] + center, first_column), last_column + splat(1.0));
    high[half] = smaller(larger(high[half] + center, first_column - splat(1.0)), last_column);
  }
  begin = round_up(low[0], low[1]);
  end = add(round_down(high[0], high[1]), splat(1));
}

/// Cuts the covered part of every row into pieces; returns their end. Behind it the list has room for kAhead more.
template <Shape kShape, bool kSoftEdge>
TUBELETX_TARGET inline Piece* cut_pieces(const ByteLayer& layer, const Footprint& footprint, const Pitch& pitch,
                                         Piece* next) {
  const BytePose& pose = layer.pose;
  const Places places = places_of(pose);
  const Integers one = splat(1);
  constexpr Shape kOutline = kSoftEdge ? Shape::kRectangle : kShape;
  typedef uint32_t Fields __attribute__((vector_size(sizeof(Piece))));
  const Fields step = {static_cast<uint32_t>(pose.step_x[0] * kLanes), static_cast<uint32_t>(pose.step_x[1] * kLanes),
                       static_cast<uint32_t>(kLanes * pitch.pixel), static_cast<uint32_t>(-kLanes)};
  for (int64_t first = footprint.row_begin; first < footprint.row_end; first += kLanes) {
    const int32_t row = static_cast<int32_t>(first);
    Integers begin, end;
    span_rows<kShape == Shape::kEllipse>(footprint, row, begin, end);
    const Integers rows = add(lane_numbers(), splat(row));
    const Mask in_frame = less(rows, splat(static_cast<int32_t>(footprint.row_end)));
    const Integers down = subtract(rows, splat(pose.anchor_y));
    const Integers across = subtract(begin, splat(pose.anchor_x));
    const Integers back = subtract(subtract(end, one), splat(pose.anchor_x));
    Integers place[2], last_place[2];
    for (int axis = 0; axis < 2; ++axis) {
      const Integers of_row = add(multiply(places.step_y[axis], down), places.start[axis]);
      place[axis] = add(of_row, multiply(places.step_x[axis], across));
      last_place[axis] = add(of_row, multiply(places.step_x[axis], back));
    }
    for (;;) {
      const Mask open = both(in_frame, less(begin, end));
      const Mask from_left = but_not(open, covers<kOutline>(places, place[0], place[1]));
      const Mask from_right = but_not(open, covers<kOutline>(places, last_place[0], last_place[1]));
      if (!any(either(from_left, from_right))) break;
      begin = add_where(from_left, begin, one);
      end = subtract_where(from_right, end, one);
      for (int axis = 0; axis < 2; ++axis) {
        place[axis] = add_where(from_left, place[axis], places.step_x[axis]);
        last_place[axis] = subtract_where(from_right, last_place[axis], places.step_x[axis]);
      }
    }
    alignas(64) uint32_t place_x[kLanes], place_y[kLanes], offset[kLanes];
    alignas(64) int32_t length[kLanes];
    store(place_x, place[0]);
    store(place_y, place[1]);
    store(offset, add(multiply(rows, splat(pitch.row)), multiply(begin, splat(pitch.pixel))));
    store(length, subtract(end, begin));
    const int32_t count = static_cast<int32_t>(footprint.row_end - first < kLanes ? footprint.row_end - first : kLanes);
    for (int32_t lane = 0; lane < count; ++lane) {
      Fields piece = {place_x[lane], place_y[lane], offset[lane], static_cast<uint32_t>(length[lane])};
      for (int32_t left = length[lane]; left > 0; left -= kLanes) {
        std::memcpy(next++, &piece, sizeof piece);
        piece += step;
      }
    }
  }
  return next;
}

/// How strongly a soft edge covers each pixel, in 65535ths.
template <Shape kShape>
TUBELETX_LOCAL Integers ramp_strength(const Places& places, Integers x, Integers y, float slope, float opacity) {
  const Floats across = absolute(from_center(places, x, 0) * places.inverse_half[0]);
  const Floats down = absolute(from_center(places, y, 1) * places.inverse_half[1]);
  Floats distance;
  if constexpr (kShape == Shape::kRectangle) distance = larger(across, down);
  if constexpr (kShape == Shape::kEllipse) distance = square_root(across * across + down * down);
  if constexpr (kShape == Shape::kRhombus) distance = across + down;
  const Floats ramp = (splat(1.0f) - distance) * splat(slope);
  return round_to_integers(smaller(larger(ramp, splat(0.0f)), splat(1.0f)) * splat(opacity));
}

/// The pixels of a piece in one clip.
template <Layout kLayout>
class FramePixels {
 public:
  TUBELETX_LOCAL FramePixels(const ByteFrame& frame, const ClipView& clip, uint32_t offset, int32_t count)
      : clip_(clip), first_(static_cast<uint8_t*>(clip_.data)), count_(count) {
    if constexpr (kLayout == Layout::kStrided) {
      const int64_t row = offset / frame.width, column = offset % frame.width;
      first_ += row * clip_.row_stride + column * clip_.column_stride;
      channels_ = frame.channels;
      count_ = count_ < kLanes ? count_ : kLanes;
    } else {
      first_ += offset;
    }
  }

  TUBELETX_LOCAL Integers read() const {
    if constexpr (kLayout == Layout::kStrided) {
      alignas(64) uint8_t row[4 * kLanes] = {};
      for (int64_t c = 0; c < channels_; ++c) {
        const uint8_t* from = first_ + c * clip_.channel_stride;
        for (int32_t i = 0; i < count_; ++i) row[kColours * i + c] = from[i * clip_.column_stride];
      }
      return load_pixels<Layout::kPacked>(row, 0, kLanes);
    } else {
      return load_pixels<kLayout>(first_, clip_.channel_stride, count_);
    }
  }

  TUBELETX_LOCAL void write(Integers quads) const {
    if constexpr (kLayout == Layout::kStrided) {
      alignas(64) uint8_t row[4 * kLanes];
      store_pixels<Layout::kPacked>(quads, row, 0, kLanes);
      for (int64_t c = 0; c < channels_; ++c) {
        uint8_t* to = first_ + c * clip_.channel_stride;
        for (int32_t i = 0; i < count_; ++i) to[i * clip_.column_stride] = row[kColours * i + c];
      }
    } else {
      store_pixels<kLayout>(quads, first_, clip_.channel_stride, count_);
    }
  }

 private:
  const ClipView& clip_;
  uint8_t* first_;
  int64_t channels_ = kColours;
  int32_t count_;
};

/// Paints the pieces onto kClips clips (0: as many as there are). Indices are made one piece ahead, and the frame is
/// fetched kAhead pieces ahead.
template <Shape kShape, BytePaint kPaint, bool kSoftEdge, Layout kLayout, int kClips>
TUBELETX_TARGET inline void paint_pieces(const ByteLayer& layer, const ByteFrame& frame, const Piece* pieces,
                                         int64_t count) {
  const BytePose& pose = layer.pose;
  const Places places = places_of(pose);
  const uint8_t* records = layer.records;
  const int64_t num_clips = kClips > 0 ? kClips : frame.num_clips;
  ClipView clips[kClips > 0 ? kClips : kMaxClips];  // a copy that no store can be taken to change
  for (int64_t v = 0; v < num_clips; ++v) clips[v] = frame.clips[v];
  // From here on places count from the centre of the border's first texel, so that their whole part is the record.
  const int32_t half_texel = 1 << (pose.fraction - 1);
  const Integers ahead_x = add(multiply(lane_numbers(), places.step_x[0]), splat(half_texel));
  const Integers ahead_y = add(multiply(lane_numbers(), places.step_x[1]), splat(half_texel));
  const Integers fraction = splat(pose.fraction), fraction_less_4 = splat(pose.fraction - 4);
  const Integers below = splat(pose.fraction - kByteWeightBits);
  const Integers row_of_records = splat((pose.width() + 1) * static_cast<int32_t>(kRecord));
  const Integers last_record = splat(((pose.width() + 1) * (pose.height() + 1) - 1) * static_cast<int32_t>(kRecord));
  const Integers whole_records = splat(-static_cast<int32_t>(kRecord));
  const Integers all_bits = splat(-1), lower_half = splat(0xffff), even_bytes = splat(0x00ff00ff);
  const Integers bias = splat(byte_bias(kPaint) >> 8);
  static_assert(kRecord == 16, "fraction_less_4");

  alignas(64) uint32_t index[2][kLanes];
  const auto see = [&](const Piece& piece, uint32_t* to) TUBELETX_TARGET __attribute__((always_inline)) {
    const Integers x = add(ahead_x, splat(piece.place_x)), y = add(ahead_y, splat(piece.place_y));
    const Integers record = add(multiply_halves_add(shift_right(y, fraction), row_of_records),
                                bits_and(shift_right(x, fraction_less_4), whole_records));
    store(to, smaller_unsigned(record, last_record));  // lanes past the span may lie anywhere
    // 16-bit fractions; the upper halves mean nothing.
    const Integers right = shift_right(x, below), lower = shift_right(y, below);
    const Integers w11 = multiply_halves_high(right, lower);
    const Integers w01 = subtract_halves(right, w11), w10 = subtract_halves(lower, w11);
    const Integers w00 = subtract_halves_saturated(bits_xor(right, all_bits), w10);
    return split_weights(w00, w01, w10, w11);
  };

  SplitWeights next = see(pieces[0], index[0]);
  for (int64_t k = 0; k < count; ++k) {
    const Piece piece = pieces[k];
    const SplitWeights weights = next;
    next = see(pieces[k + 1], index[(k + 1) % 2]);
    asm volatile("" : "+m"(index));  // else the compiler takes the indices out of registers, lane by lane
    for (int64_t v = 0; v < num_clips; ++v) {
      if constexpr (kLayout != Layout::kStrided) {
        const uint8_t* ahead = static_cast<const uint8_t*>(clips[v].data) + pieces[k + kAhead].offset;
        __builtin_prefetch(ahead, 1);
        if constexpr (kLayout == Layout::kPacked) __builtin_prefetch(ahead + 3 * kLanes - 1, 1);
        if constexpr (kLayout == Layout::kPlanar) {
          __builtin_prefetch(ahead + clips[v].channel_stride, 1);
          __builtin_prefetch(ahead + 2 * clips[v].channel_stride, 1);
        }
      }
    }
    const uint32_t* at = index[k % 2];
    const Integers sum0 = weigh<0>(weights, gather_quads(records, at, 0), bias);
    const Integers sum1 = weigh<1>(weights, gather_quads(records, at, 1), bias);
    const Integers sum2 = weigh<2>(weights, gather_quads(records, at, 2), bias);
    const Integers sum3 = weigh<3>(weights, gather_quads(records, at, 3), bias);
    if constexpr (kPaint == BytePaint::kOpaque) {
      const Integers first = choose_bits(lower_half, shift_right<16>(sum0), sum1);
      const Integers second = choose_bits(lower_half, shift_right<16>(sum2), sum3);
      const Integers quads = bits_or(first, shift_left<8>(second));
      for (int64_t v = 0; v < num_clips; ++v) {
        FramePixels<kLayout>(frame, clips[v], piece.offset, piece.left).write(quads);
      }
    } else {
      // 16-bit halves: a quad's pixels 0 and 1, 2 and 3.
      Integers light[2] = {choose_bits(lower_half, shift_right<8>(sum0), shift_left<8>(sum1)),
                           choose_bits(lower_half, shift_right<8>(sum2), shift_left<8>(sum3))};
      Integers alpha[2] = {repeat_in_quads<3>(light[0]), repeat_in_quads<3>(light[1])};
      Integers full = splat(static_cast<int32_t>(65408u * 65537u));
      if constexpr (kPaint == BytePaint::kSoft) {
        Integers strength;
        if constexpr (kSoftEdge) {
          const Integers x = subtract(add(ahead_x, splat(piece.place_x)), splat(half_texel));
          const Integers y = subtract(add(ahead_y, splat(piece.place_y)), splat(half_texel));
          strength = ramp_strength<kShape>(places, x, y, pose.edge_slope, pose.opacity);
        } else {
          strength = round_to_integers(splat(pose.opacity));
        }
        const Integers strengths[2] = {repeat_halves_in_quads<0>(strength), repeat_halves_in_quads<1>(strength)};
        full = splat(static_cast<int32_t>(65281u * 65537u));
        for (int pair = 0; pair < 2; ++pair) {
          light[pair] = add_halves(multiply_halves_high(light[pair], strengths[pair]), splat(127 * 65537));
          alpha[pair] = multiply_halves_high(alpha[pair], strengths[pair]);
        }
      }
      const Integers keep[2] = {subtract_halves(full, alpha[0]), subtract_halves(full, alpha[1])};
      for (int64_t v = 0; v < num_clips; ++v) {
        const FramePixels<kLayout> pixels(frame, clips[v], piece.offset, piece.left);
        const Integers background = pixels.read();
        Integers sum[2] = {spread_halves<kLayout, 0>(background), spread_halves<kLayout, 1>(background)};
        for (int pair = 0; pair < 2; ++pair) {
          sum[pair] = add_halves(light[pair], multiply_halves_high(sum[pair], keep[pair]));
          if constexpr (kPaint == BytePaint::kSoft)
            sum[pair] = add_halves(sum[pair], bits_and(shift_right<8>(sum[pair]), splat(0x00010001)));
        }
        pixels.write(choose_bits(even_bytes, shift_right<8>(sum[0]), sum[1]));
      }
    }
  }
}

template <Shape kShape, BytePaint kPaint, bool kSoftEdge>
TUBELETX_TARGET inline void paint_layer(const ByteLayer& layer, const Footprint& footprint, const ByteFrame& frame,
                                        Layout layout, const Pitch& pitch, Piece* pieces) {
  Piece* end = cut_pieces<kShape, kSoftEdge>(layer, footprint, pitch, pieces);
  const int64_t count = end - pieces;
  if (count == 0) return;
  for (int32_t i = 0; i < kAhead; ++i) end[i] = end[-1];
  switch (layout) {
    case Layout::kPacked:
      if (frame.num_clips == 1) {
        return paint_pieces<kShape, kPaint, kSoftEdge, Layout::kPacked, 1>(layer, frame, pieces, count);
      }
      if (frame.num_clips == 2) {
        return paint_pieces<kShape, kPaint, kSoftEdge, Layout::kPacked, 2>(layer, frame, pieces, count);
      }
      return paint_pieces<kShape, kPaint, kSoftEdge, Layout::kPacked, 0>(layer, frame, pieces, count);
    case Layout::kPlanar:
      return paint_pieces<kShape, kPaint, kSoftEdge, Layout::kPlanar, 0>(layer, frame, pieces, count);
    default:
      return paint_pieces<kShape, kPaint, kSoftEdge, Layout::kStrided, 0>(layer, frame, pieces, count);
  }
}

template <Shape kShape>
TUBELETX_TARGET inline void paint_shape(const ByteLayer& layer, const Footprint& footprint, const ByteFrame& frame,
                                        Layout layout, const Pitch& pitch, Piece* pieces) {
  switch (layer.pose.paint) {
    case BytePaint::kOpaque:
      return paint_layer<kShape, BytePaint::kOpaque, false>(layer, footprint, frame, layout, pitch, pieces);
    case BytePaint::kBlend:
      return paint_layer<kShape, BytePaint::kBlend, false>(layer, footprint, frame, layout, pitch, pieces);
    default:
      if (layer.pose.hard) {
        return paint_layer<kShape, BytePaint::kSoft, false>(layer, footprint, frame, layout, pitch, pieces);
      }
      return paint_layer<kShape, BytePaint::kSoft, true>(layer, footprint, frame, layout, pitch, pieces);
  }
}

/// Paints a layer. `pieces` has room for all pieces that the footprint may have, and kAhead more.
TUBELETX_TARGET inline void paste_layer(const ByteLayer& layer, const Footprint& footprint, const ByteFrame& frame,
                                        Layout layout, const Pitch& pitch, Piece* pieces) {
  switch (layer.shape) {
    case Shape::kRectangle:
      return paint_shape<Shape::kRectangle>(layer, footprint, frame, layout, pitch, pieces);
    case Shape::kEllipse:
      return paint_shape<Shape::kEllipse>(layer, footprint, frame, layout, pitch, pieces);
    default:
      return paint_shape<Shape::kRhombus>(layer, footprint, frame, layout, pitch, pieces);
  }
}

#undef TUBELETX_LOCAL
