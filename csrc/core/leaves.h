// "Dead leaves" in motion: textured shapes whose sizes follow a power law, each before the ones that come after it
// (Lee, Mumford and Huang, "Occlusion models for natural images", IJCV 2001), moving, turning and growing along smooth
// paths. A leaf is a pure function of (seed, sample id, epoch, its number); outlines are in float32 and textures in
// integers, one order of operations, so that all devices give the same bits.
#pragma once

#include <cmath>
#include <cstdint>

#include "core/exponential.h"
#include "core/macros.h"
#include "core/object_choice.h"
#include "core/philox.h"
#include "core/shapes.h"
#include "core/sine_cosine.h"

namespace tubeletx {

inline constexpr int64_t kMaxLeaves = 1 << 15;
inline constexpr int kChannelsOfLeaves = 3;

struct LeavesPlan {
  int32_t num_leaves;
  int32_t num_frames, height, width;
  float inverse_square_of_smallest, inverse_square_of_largest;  ///< radius, pixels
  float motion, camera;                                         ///< pixels
  float turn;                                                   ///< degrees
  float growth;                                                 ///< of the logarithm of the scale
};

/// How the leaves of a seed are drawn: apart from the tubelets of the same seed.
TUBELETX_HOST_DEVICE inline DrawStream leaf_stream(uint64_t seed, uint64_t sample_id, uint32_t epoch) {
  return {mix_bits(seed + kGolden), sample_id, epoch};
}

// Blocks of four words. A clip's own come first, then the backdrop's, then those of each leaf.
inline constexpr uint32_t kBlocksPerLeaf = 16;
inline constexpr uint32_t kPaletteBlocks = 0;   // tint of three channels and darkest level, the span to the brightest
inline constexpr uint32_t kCameraBlocks = 2;    // x, y
inline constexpr uint32_t kSizeBlock = 0;       // radius, ratio of the sides, shape, angle
inline constexpr uint32_t kLeafPlaceBlock = 1;  // x, y, speed
inline constexpr uint32_t kCurveBlocks = 2;     // x, y, angle, scale
inline constexpr uint32_t kColourBlocks = 6;    // tint of three channels and the noise's seed, two levels and contrast
inline constexpr uint32_t kCellBlock = 8;       // size of the cells of the noise, ratio of their sides

/// One quantity through a clip: a segment of a uniform cubic B-spline, the values of its four control points.
struct LeafCurve {
  float control[4];
};

/// Weights of the control points in a frame; they sum to 1.
struct CurveWeights {
  float weight[4];

  TUBELETX_HOST_DEVICE explicit CurveWeights(int32_t frame, int32_t num_frames) {
    const float u = num_frames > 1 ? static_cast<float>(frame) / static_cast<float>(num_frames - 1) : 0.5f;
    const float v = 1.0f - u;
    constexpr float kSixth = 1.0f / 6.0f;
    weight[0] = v * v * v * kSixth;
    weight[1] = ((3.0f * u - 6.0f) * u * u + 4.0f) * kSixth;
    weight[2] = ((3.0f * v - 6.0f) * v * v + 4.0f) * kSixth;
    weight[3] = u * u * u * kSixth;
  }

  TUBELETX_HOST_DEVICE float at(const LeafCurve& curve) const {
    return ((weight[0] * curve.control[0] + weight[1] * curve.control[1]) + weight[2] * curve.control[2]) +
           weight[3] * curve.control[3];
  }
};

TUBELETX_HOST_DEVICE inline LeafCurve draw_curve(const PhiloxBlock& block, float reach) {
  LeafCurve curve;
  for (int i = 0; i < 4; ++i) curve.control[i] = uniform(block.word[i], -reach, reach);
  return curve;
}

// As in pictures of nature, colours differ far more in their level than in their hue, and leaves from each other more
// than within: what moves is then told from what it moves over.
inline constexpr int32_t kTintOfClip = 24, kTintOfLeaf = 32, kLevelsOfLeaf = 64;

/// From -reach to reach.
TUBELETX_HOST_DEVICE inline int32_t uniform_within(uint32_t word, int32_t reach) {
  return uniform_integer(word, 2 * reach + 1) - reach;
}

/// What the leaves of a clip share.
struct LeafClip {
  int32_t darkest, span;            ///< of the levels of grey
  int32_t tint[kChannelsOfLeaves];  ///< added to them
  LeafCurve camera[2];
};

TUBELETX_HOST_DEVICE inline LeafClip draw_leaf_clip(const LeavesPlan& plan, const DrawStream& stream) {
  LeafClip clip;
  const PhiloxBlock low = stream.block(kPaletteBlocks), high = stream.block(kPaletteBlocks + 1);
  constexpr int32_t kDarkest = 64, kLeastSpan = 128;
  for (int c = 0; c < kChannelsOfLeaves; ++c) clip.tint[c] = uniform_within(low.word[c], kTintOfClip);
  clip.darkest = uniform_integer(low.word[3], kDarkest);
  clip.span = kLeastSpan + uniform_integer(high.word[0], 256 - kLeastSpan - clip.darkest);
  for (int axis = 0; axis < 2; ++axis) {
    clip.camera[axis] = draw_curve(stream.block(kCameraBlocks + static_cast<uint32_t>(axis)), plan.camera);
  }
  return clip;
}

/// A leaf before it is posed.
struct Leaf {
  float place[2];  ///< of its centre, from which its path starts out
  float half[2];   ///< half width and height, pixels
  Shape shape;
  float angle;  ///< degrees
  LeafCurve path[2], turn, growth;
  float cell[2];  ///< sides of the cells of its noise, pixels
  uint32_t seed;
  uint32_t colours[2];  ///< red in the lowest byte
  int32_t contrast;
};

TUBELETX_HOST_DEVICE inline float float_exponential(float x) { return static_cast<float>(exponential<double>(x)); }

TUBELETX_HOST_DEVICE inline uint32_t byte_level(int32_t level) {
  return static_cast<uint32_t>(level < 0 ? 0 : (level > 255 ? 255 : level));
}

/// The side of a noise cell: finer ones than this would flicker.
inline constexpr float kFinestCell = 4.0f;

TUBELETX_HOST_DEVICE inline void draw_leaf_texture(const LeafClip& clip, const DrawStream& stream, uint32_t first,
                                                   float radius, Leaf& leaf) {
  const PhiloxBlock tints = stream.block(first + kColourBlocks), levels = stream.block(first + kColourBlocks + 1);
  const int32_t level = clip.darkest + uniform_integer(levels.word[0], clip.span);
  const int32_t other = level + uniform_within(levels.word[1], kLevelsOfLeaf);
  leaf.colours[0] = leaf.colours[1] = 0;
  for (int c = 0; c < kChannelsOfLeaves; ++c) {
    const int32_t tint = clip.tint[c] + uniform_within(tints.word[c], kTintOfLeaf);
    leaf.colours[0] |= byte_level(level + tint) << (8 * c);
    leaf.colours[1] |= byte_level(other + tint) << (8 * c);
  }
  leaf.seed = tints.word[3];
  leaf.contrast = 1 + uniform_integer(levels.word[3], 4);
  const PhiloxBlock block = stream.block(first + kCellBlock);
  const float side = radius * uniform(block.word[0], 0.125f, 1.0f);
  const float ratio = float_exponential(uniform(block.word[1], -1.0f, 1.0f));
  const float sides[2] = {side * ratio, side / ratio};
  for (int axis = 0; axis < 2; ++axis) leaf.cell[axis] = sides[axis] > kFinestCell ? sides[axis] : kFinestCell;
}

/// Leaf `number`, 0 the foremost; number `num_leaves` is the backdrop, which covers all of the frame and moves with the
/// camera alone.
TUBELETX_HOST_DEVICE inline Leaf draw_leaf(const LeavesPlan& plan, const LeafClip& clip, const DrawStream& stream,
                                           int32_t number) {
  const bool backdrop = number == plan.num_leaves;
  const uint32_t first = kBlocksPerLeaf * (backdrop ? 1u : 2u + static_cast<uint32_t>(number));
  const float size[2] = {static_cast<float>(plan.width), static_cast<float>(plan.height)};
  const float shorter = size[0] < size[1] ? size[0] : size[1];
  Leaf leaf;
  if (backdrop) {
    for (int axis = 0; axis < 2; ++axis) {
      leaf.place[axis] = 0.5f * size[axis];
      leaf.half[axis] = 0.5f * shorter;
      leaf.path[axis] = {{0, 0, 0, 0}};
    }
    leaf.shape = Shape::kRectangle;
    leaf.angle = 0;
    leaf.turn = leaf.growth = leaf.path[0];
    draw_leaf_texture(clip, stream, first, 0.5f * shorter, leaf);
    return leaf;
  }
  const PhiloxBlock sizes = stream.block(first + kSizeBlock);
  // The density of radii falls with their cube, which makes the picture look alike at all scales.
  const float inverse_square =
      plan.inverse_square_of_smallest -
      unit_interval(sizes.word[0]) * (plan.inverse_square_of_smallest - plan.inverse_square_of_largest);
  const float radius = 1.0f / std::sqrt(inverse_square);
  const float ratio = float_exponential(uniform(sizes.word[1], -0.5f, 0.5f));
  leaf.half[0] = radius * ratio;
  leaf.half[1] = radius / ratio;
  leaf.shape = static_cast<Shape>(uniform_integer(sizes.word[2], 3));
  leaf.angle = uniform(sizes.word[3], 0.0f, 360.0f);
  const PhiloxBlock places = stream.block(first + kLeafPlaceBlock);
  for (int axis = 0; axis < 2; ++axis) {
    const float margin = 0.125f * shorter;
    leaf.place[axis] = uniform(places.word[axis], -margin, size[axis] + margin);
  }
  const float speed = unit_interval(places.word[2]);  // squared: many are slow, some fast
  const float reach = plan.motion * speed * speed;
  for (int axis = 0; axis < 2; ++axis) {
    leaf.path[axis] = draw_curve(stream.block(first + kCurveBlocks + static_cast<uint32_t>(axis)), reach);
  }
  leaf.turn = draw_curve(stream.block(first + kCurveBlocks + 2), plan.turn);
  leaf.growth = draw_curve(stream.block(first + kCurveBlocks + 3), plan.growth);
  draw_leaf_texture(clip, stream, first, radius, leaf);
  return leaf;
}

/// Rows of the frame that a leaf may cover, half open.
struct LeafRows {
  int32_t begin, end;
};

/// What a leaf covers of a frame, row by row.
struct LeafOutline {
  float center_x, center_y;
  // Where a row is cut: by two strips, |first| < 1 and |second| < 1, or by first^2 + second^2 < 1.
  float drift[2];    ///< how far the middle of the cut moves from one row to the next
  float half[2];     ///< half the length of the cut: of each strip, or [0] at the middle of an ellipse
  float falloff;     ///< of the ellipse: share of the square of half[0] that a squared distance of one row takes
  int32_t is_round;  ///< an ellipse
};

/// How a leaf is painted in a frame; places of its noise are in 2^-16 of a cell, modulo 2^32.
struct LeafTexture {
  uint32_t origin[2], step_x[2], step_y[2];
  uint32_t seed;
  uint32_t colours[2];
  uint32_t contrast;
  uint32_t unused[6];  ///< to the 64 bytes of a cache line
};
inline constexpr int32_t kLeafTextureWords = 16;
static_assert(sizeof(LeafTexture) == 4 * kLeafTextureWords, "textures are read by words");

TUBELETX_INLINE int32_t round_up_within(float value, int32_t least, int32_t most) {
  const float low = static_cast<float>(least), high = static_cast<float>(most);
  const float inside = value > low ? (value < high ? value : high) : low;
  const int32_t whole = static_cast<int32_t>(inside);
  return whole + (static_cast<float>(whole) < inside ? 1 : 0);
}

TUBELETX_HOST_DEVICE inline uint32_t noise_units(double cells) {
  return static_cast<uint32_t>(static_cast<int64_t>(std::floor(cells * 65536.0 + 0.5)));
}

TUBELETX_HOST_DEVICE inline void pose_leaf(const LeavesPlan& plan, const LeafClip& clip, const Leaf& leaf,
                                           const CurveWeights& weights, LeafRows& rows, LeafOutline& outline,
                                           LeafTexture& texture) {
  const float x = (leaf.place[0] + weights.at(leaf.path[0])) + weights.at(clip.camera[0]);
  const float y = (leaf.place[1] + weights.at(leaf.path[1])) + weights.at(clip.camera[1]);
  const SineCosine turn = sine_cosine_degrees(leaf.angle + weights.at(leaf.turn));
  const float scale = float_exponential(weights.at(leaf.growth));

  // In half sizes of the leaf: first = first_x dx + first_y dy, second likewise.
  const float wide = leaf.half[0] * scale, high = leaf.half[1] * scale;
  float first_x = turn.cosine / wide, first_y = turn.sine / wide;
  float second_x = -turn.sine / high, second_y = turn.cosine / high;
  const float across = std::fabs(turn.sine) * wide, along = std::fabs(turn.cosine) * high;
  float extent;
  outline.is_round = leaf.shape == Shape::kEllipse;
  if (outline.is_round) {
    extent = std::sqrt(across * across + along * along);
    const float square = first_x * first_x + second_x * second_x;
    const float determinant = 1.0f / (wide * high);
    outline.drift[0] = outline.drift[1] = -(first_x * first_y + second_x * second_y) / square;
    outline.half[0] = outline.half[1] = 1.0f / std::sqrt(square);
    outline.falloff = determinant * determinant / square;
  } else {
    extent = across + along;
    if (leaf.shape == Shape::kRhombus) {
      extent = across > along ? across : along;
      const float difference_x = first_x - second_x, difference_y = first_y - second_y;
      first_x = first_x + second_x;
      first_y = first_y + second_y;
      second_x = difference_x;
      second_y = difference_y;
    }
    constexpr float kFlattest = 1e-6f;  // a side that runs along the rows ends beyond any frame
    first_x = std::fabs(first_x) < kFlattest ? kFlattest : first_x;
    second_x = std::fabs(second_x) < kFlattest ? kFlattest : second_x;
    outline.drift[0] = -first_y / first_x;
    outline.drift[1] = -second_y / second_x;
    outline.half[0] = std::fabs(1.0f / first_x);
    outline.half[1] = std::fabs(1.0f / second_x);
    outline.falloff = 0.0f;
  }
  outline.center_x = x;
  outline.center_y = y;
  rows.begin = round_up_within(y - extent - 0.5f, 0, plan.height);
  rows.end = round_up_within(y + extent - 0.5f, 0, plan.height);

  const double cosine = turn.cosine, sine = turn.sine;
  const double from_x = 0.5 - static_cast<double>(x), from_y = 0.5 - static_cast<double>(y);
  const double axes[2][2] = {{cosine, sine}, {-sine, cosine}};
  for (int axis = 0; axis < 2; ++axis) {
    const double per_pixel = 1.0 / (static_cast<double>(scale) * static_cast<double>(leaf.cell[axis]));
    texture.step_x[axis] = noise_units(axes[axis][0] * per_pixel);
    texture.step_y[axis] = noise_units(axes[axis][1] * per_pixel);
    texture.origin[axis] = noise_units((axes[axis][0] * from_x + axes[axis][1] * from_y) * per_pixel);
    texture.colours[axis] = leaf.colours[axis];
  }
  texture.seed = leaf.seed;
  texture.contrast = static_cast<uint32_t>(leaf.contrast);
}

/// Columns [begin, end) of a row that a leaf covers: those whose centres lie in the cut.
TUBELETX_INLINE void leaf_span(const LeafOutline& outline, int32_t row, int32_t width, int32_t& begin, int32_t& end) {
  const float dy = (static_cast<float>(row) + 0.5f) - outline.center_y;
  const float rest = 1.0f - outline.falloff * dy * dy;
  const float shrink = std::sqrt(rest > 0.0f ? rest : 0.0f);
  const float first = outline.drift[0] * dy, second = outline.drift[1] * dy;
  const float first_half = outline.half[0] * shrink, second_half = outline.half[1] * shrink;
  const float first_low = first - first_half, second_low = second - second_half;
  const float first_high = first + first_half, second_high = second + second_half;
  const float low = first_low > second_low ? first_low : second_low;
  const float high = first_high < second_high ? first_high : second_high;
  const float zero = outline.center_x - 0.5f;
  begin = round_up_within(zero + low, 0, width);
  end = round_up_within(zero + high, 0, width);
}

/// A byte at a corner of the noise's cells.
TUBELETX_INLINE int32_t noise_corner(uint32_t mixed) {
  mixed ^= mixed >> 15;
  mixed *= 0x2C1B3C6Du;
  mixed ^= mixed >> 12;
  mixed *= 0x297A2D39u;
  return static_cast<int32_t>(mixed >> 24);
}

/// Share of the way to the next corner, 0 to 255, eased.
TUBELETX_INLINE int32_t noise_ease(uint32_t place) {
  const int32_t way = static_cast<int32_t>((place >> 8) & 255u);
  return (way * way * (768 - 2 * way)) >> 16;
}

/// Value noise, 0 to 255, at a place in 2^-16 of a cell. It repeats after 2^16 cells, without a seam.
TUBELETX_INLINE int32_t value_noise(uint32_t u, uint32_t v, uint32_t seed) {
  constexpr uint32_t kAlong = 0x9E3779B1u, kDown = 0x85EBCA77u;
  const uint32_t left = (u >> 16) * kAlong, upper = (v >> 16) * kDown ^ seed;
  const uint32_t right = ((u + 65536u) >> 16) * kAlong, lower = ((v + 65536u) >> 16) * kDown ^ seed;
  const int32_t along = noise_ease(u), down = noise_ease(v);
  const int32_t top = noise_corner(left ^ upper) * (256 - along) + noise_corner(right ^ upper) * along;
  const int32_t bottom = noise_corner(left ^ lower) * (256 - along) + noise_corner(right ^ lower) * along;
  return (top * (256 - down) + bottom * down) >> 16;
}

/// The LeafTexture whose first word is number `first`: an index, so that vector code can gather.
struct LeafWords {
  const uint32_t* words;
  int32_t first;

  TUBELETX_INLINE uint32_t operator()(int32_t index) const { return words[first + index]; }
};

/// The colour of a pixel of a leaf, red in the lowest byte.
TUBELETX_INLINE uint32_t shade_leaf(const LeafWords& word, uint32_t column, uint32_t row) {
  const uint32_t u = word(0) + column * word(2) + row * word(4);
  const uint32_t v = word(1) + column * word(3) + row * word(5);
  const uint32_t seed = word(6);
  // Three octaves, each half as strong as the one before.
  const int32_t noise = (146 * value_noise(u, v, seed) + 73 * value_noise(2 * u, 2 * v, seed + 0x632BE5ABu) +
                         37 * value_noise(4 * u, 4 * v, seed + 0xC657CB56u)) >>
                        8;
  const int32_t spread = (noise - 128) * static_cast<int32_t>(word(9)) + 128;
  const int32_t level = spread < 0 ? 0 : (spread > 255 ? 255 : spread);
  const uint32_t share = static_cast<uint32_t>(level + (level >> 7));  // 0 to 256
  uint32_t colour = 0;
  for (int shift = 0; shift < 8 * kChannelsOfLeaves; shift += 8) {
    const uint32_t from = (word(7) >> shift) & 255u, to = (word(8) >> shift) & 255u;
    colour |= ((from * (256u - share) + to * share + 128u) >> 8) << shift;
  }
  return colour;
}

}  // namespace tubeletx
