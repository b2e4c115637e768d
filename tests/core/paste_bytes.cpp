#include "core/paste_bytes.h"

#include <boost/test/unit_test.hpp>

#include <cmath>

#include "reference.h"

BOOST_AUTO_TEST_SUITE(paste_bytes)

using tubeletx::BytePaint;
using tubeletx::BytePose;
using tubeletx::ByteSight;

BOOST_AUTO_TEST_CASE(every_product_with_an_alpha_is_rounded_to_the_nearest) {
  for (int colour = 0; colour < 256; ++colour) {
    for (int alpha = 0; alpha < 256; ++alpha) {
      const long nearest = std::lround(colour * alpha / 255.0);
      if (tubeletx::premultiply(colour, alpha) != nearest) BOOST_ERROR("premultiply " << colour << " by " << alpha);
    }
  }
}

BOOST_AUTO_TEST_CASE(halves_go_to_the_even_integer) {
  for (int whole = 0; whole < 65536; ++whole) {
    const float value = static_cast<float>(whole) + 0.5f;
    if (tubeletx::round_to_even(value) != std::lrint(value)) BOOST_ERROR("round_to_even " << value);
  }
}

/// A pose of w x h texels that is turned and scaled, or nothing.
bool drawn_pose(Draws& draws, int32_t width, int32_t height, double scale, float edge, float opacity, BytePose& pose) {
  const double angle = draws.between(-3.2, 3.2);
  const float center[] = {static_cast<float>(draws.between(0, 60)), static_cast<float>(draws.between(0, 40))};
  const float linear[] = {static_cast<float>(scale * std::cos(angle)), static_cast<float>(-scale * std::sin(angle)),
                          static_cast<float>(scale * std::sin(angle)), static_cast<float>(scale * std::cos(angle))};
  tubeletx::Placement placement;
  return tubeletx::place_patch(center, nullptr, linear, width, height, opacity, placement) &&
         tubeletx::make_byte_pose(placement, edge, opacity, draws.integer(0, 1) == 1, pose);
}

BOOST_AUTO_TEST_CASE(weights_sum_to_one_and_places_lie_in_the_patch) {
  Draws draws;
  int64_t seen = 0;
  for (int trial = 0; trial < 600; ++trial) {
    const int32_t width = draws.integer(1, 70), height = draws.integer(1, 70);
    BytePose pose;
    const double scale = std::exp(draws.between(-4, 4));
    if (!drawn_pose(draws, width, height, scale, trial % 2 ? 0.3f : 0.0f, 1.0f, pose)) continue;
    BOOST_TEST(pose.width() == width);
    BOOST_TEST(pose.height() == height);
    for (int32_t row = 0; row < 40; ++row) {
      for (int32_t column = 0; column < 60; ++column) {
        const int64_t x = tubeletx::place_of(pose, column, row, 0), y = tubeletx::place_of(pose, column, row, 1);
        if (!tubeletx::in_patch(pose, x, y)) continue;
        ++seen;
        const ByteSight sight = tubeletx::see_texels(pose, x, y);
        const int32_t sum = sight.weight[0] + sight.weight[1] + sight.weight[2] + sight.weight[3];
        BOOST_TEST((sum == 65535 || sum == 65536));
        for (const int32_t weight : sight.weight) BOOST_TEST((0 <= weight && weight <= 65535));
        BOOST_TEST((0 <= sight.column && sight.column <= width && 0 <= sight.row && sight.row <= height));
        if (!pose.narrow) continue;
        const auto near_x = static_cast<int32_t>(x), near_y = static_cast<int32_t>(y);
        const ByteSight narrow = tubeletx::see_texels(pose, near_x, near_y);
        BOOST_TEST((narrow.column == sight.column && narrow.weight[3] == sight.weight[3]));
        BOOST_TEST(tubeletx::byte_strength(tubeletx::Shape::kEllipse, pose, near_x, near_y) ==
                   tubeletx::byte_strength(tubeletx::Shape::kEllipse, pose, x, y));
      }
    }
  }
  BOOST_TEST(seen > 10000);
}

/// A plain patch shows as it is, whatever its weights.
BOOST_AUTO_TEST_CASE(a_plain_patch_keeps_its_level) {
  Draws draws;
  for (int trial = 0; trial < 2000; ++trial) {
    BytePose pose;
    BOOST_REQUIRE(drawn_pose(draws, 40, 30, 1.0, 0.0f, 1.0f, pose));
    const int64_t x = draws.integer(0, (40 << 20) - 1), y = draws.integer(0, (30 << 20) - 1);
    const ByteSight sight = tubeletx::see_texels(pose, x, y);
    for (const BytePaint paint : {BytePaint::kOpaque, BytePaint::kBlend, BytePaint::kSoft}) {
      const int32_t bias = tubeletx::byte_bias(paint);
      const auto accumulator = [&](int32_t level) {
        return tubeletx::weigh_bytes(sight.weight, level, level, level, level, bias);
      };
      for (int32_t level = 0; level < 256; level += 5) {
        const uint32_t keep = tubeletx::keep_of(paint, accumulator(255), 65535);
        const uint32_t light = tubeletx::light_of(paint, accumulator(level), 65535);
        const uint8_t other = static_cast<uint8_t>(draws.integer(0, 255));
        const int shown = paint == BytePaint::kOpaque ? tubeletx::opaque_byte(accumulator(level))
                                                      : tubeletx::blend_byte(paint, other, keep, light);
        BOOST_TEST(shown == level);
        // Where nothing covers, the background keeps its level.
        if (paint == BytePaint::kOpaque) continue;
        BOOST_TEST(tubeletx::blend_byte(paint, level, tubeletx::keep_of(paint, accumulator(0), 65535),
                                        tubeletx::light_of(paint, accumulator(0), 65535)) == level);
        BOOST_TEST(tubeletx::blend_byte(BytePaint::kSoft, level, tubeletx::keep_of(BytePaint::kSoft, 0xff0000, 0),
                                        tubeletx::light_of(BytePaint::kSoft, 0xff0000, 0)) == level);
      }
    }
  }
}

/// The vector forms add and multiply in 16 bits.
BOOST_AUTO_TEST_CASE(nothing_overflows_16_bits) {
  for (const BytePaint paint : {BytePaint::kBlend, BytePaint::kSoft}) {
    for (const int32_t total : {65535, 65536}) {
      for (int32_t alpha = 0; alpha < 256; ++alpha) {
        const int32_t weight[4] = {total, 0, 0, 0};
        const int32_t bias = tubeletx::byte_bias(paint);
        const uint32_t sum = tubeletx::weigh_bytes(weight, alpha, 0, 0, 0, bias);
        for (int32_t strength = 0; strength < 65536; strength += 257) {
          const uint32_t keep = tubeletx::keep_of(paint, sum, strength);
          const uint32_t light = tubeletx::light_of(paint, sum, strength);  // of a colour as bright as can be
          if (keep > 65535 || light + ((255u * 257u * keep) >> 16) > 65535) {
            BOOST_ERROR("overflow at alpha " << alpha << ", strength " << strength);
          }
        }
      }
    }
  }
}

BOOST_AUTO_TEST_SUITE_END()
