#include "core/trajectory.h"

#include <boost/test/unit_test.hpp>

#include <vector>

#include "reference.h"

BOOST_AUTO_TEST_SUITE(trajectory)

BOOST_AUTO_TEST_CASE(easings_meet_at_the_ends) {
  for (int32_t easing = 0; easing < tubeletx::kNumEasings; ++easing) {
    BOOST_TEST(tubeletx::eased(easing, 0.0f) == 0.0f);
    BOOST_TEST(tubeletx::eased(easing, 1.0f) == 1.0f);
  }
  BOOST_TEST(tubeletx::eased(tubeletx::kAccelerating, 0.5f) == 0.25f);
  BOOST_TEST(tubeletx::eased(tubeletx::kDecelerating, 0.5f) == 0.75f);
}

BOOST_AUTO_TEST_CASE(downsampling_takes_the_nearest_point) {
  for (int64_t frames = 2; frames < 20; ++frames) {
    for (int64_t points = 1; points < 50; ++points) {
      for (int64_t frame = 0; frame < frames; ++frame) {
        const long double place = static_cast<long double>(frame) * (points - 1) / (frames - 1);
        BOOST_TEST(tubeletx::downsample_index(frame, frames, points) == std::floor(place + 0.5L));
      }
    }
  }
  BOOST_TEST(tubeletx::downsample_index(0, 1, 48) == 0);
}

BOOST_AUTO_TEST_CASE(rescaling_fills_the_extent) {
  Draws draws;
  std::vector<double> values(48);
  for (double& value : values) value = draws.between(-5, 300);
  const tubeletx::Span span = tubeletx::span_of(values.data(), 48);
  float low = INFINITY, high = -INFINITY;
  for (const double value : values) {
    const float got = tubeletx::rescaled(value, span, 50.0f, 7.0f);
    const long double share = (static_cast<long double>(value) - span.low) / span.range;
    BOOST_TEST(units_off(got, share * 50 + 7) < 0.51L);
    low = std::min(low, got);
    high = std::max(high, got);
  }
  BOOST_TEST(low == 7.0f);
  BOOST_TEST(high == 57.0f);
  BOOST_TEST(tubeletx::rescaled(3.0, {3.0, 0.0}, 50.0f, 7.0f) == 7.0f);
}

BOOST_AUTO_TEST_CASE(travel_is_exact_at_rest) {
  BOOST_TEST(tubeletx::travel(3.0f, INFINITY, 0.0f) == 3.0f);
  BOOST_TEST(tubeletx::travel(2.0f, 4.0f, 0.25f) == 2.5f);
}

BOOST_AUTO_TEST_SUITE_END()
