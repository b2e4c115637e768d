#include "core/gaussian.h"

#include <boost/test/unit_test.hpp>

#include <vector>

#include "reference.h"

BOOST_AUTO_TEST_SUITE(gaussian)

const double kSigmas[] = {0.3, 1, 2.5, 6, 8, 33.3, 1000};

/// The square is rounded on its way into the exponential, whose argument reaches -8: some units in the last place.
BOOST_AUTO_TEST_CASE(weights) {
  for (const double sigma : kSigmas) {
    for (int64_t k = 0; k <= tubeletx::gaussian_radius(sigma); ++k) {
      const long double share = k / static_cast<long double>(sigma);
      const long double wanted = std::exp(-share * share / 2);
      BOOST_TEST(units_off(tubeletx::gaussian_weight(sigma, k), wanted) < 16.0L, "sigma " << sigma << ", k " << k);
    }
  }
}

BOOST_AUTO_TEST_CASE(taps_sum_to_one) {
  for (const double sigma : kSigmas) {
    const int64_t radius = tubeletx::gaussian_radius(sigma);
    std::vector<double> taps(radius + 1);
    tubeletx::gaussian_taps(sigma, radius, taps.data());
    long double sum = taps[0], total = 1;
    for (int64_t k = 1; k <= radius; ++k) {
      sum += 2 * static_cast<long double>(taps[k]);
      total += 2 * static_cast<long double>(tubeletx::gaussian_weight(sigma, k));
    }
    BOOST_TEST(std::fabs(sum - 1) < 1e-15L);
    BOOST_TEST(units_off(tubeletx::gaussian_total(sigma, radius), total) < radius + 1);
  }
}

/// Mirrors as often as it takes, as the padding of SciPy's mode "reflect" (d c b a | a b c d | d c b a).
BOOST_AUTO_TEST_CASE(padding_and_walks_mirror_alike) {
  for (int64_t count : {1, 2, 3, 7}) {
    for (int64_t radius : {0, 1, 6, 7, 20}) {
      std::vector<double> padded(count + 2 * radius);
      for (int64_t i = 0; i < count; ++i) padded[radius + i] = static_cast<double>(i);
      tubeletx::reflect_into_padding(padded.data(), count, radius);
      tubeletx::MirroredWalk<int64_t> up = {count - 1, 1}, down = {0, -1};
      for (int64_t k = 1; k <= radius; ++k) {
        up.go_on(count);
        down.go_on(count);
        BOOST_TEST(padded[radius + count - 1 + k] == up.place);
        BOOST_TEST(padded[radius - k] == down.place);
      }
      for (int64_t i = -radius; i < count + radius; ++i) {
        const int64_t period = 2 * count;
        const int64_t place = ((i % period) + period) % period;
        const int64_t wanted = place < count ? place : period - 1 - place;
        BOOST_TEST(padded[radius + i] == wanted);
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(both_ways_to_smooth_give_the_same_bits) {
  Draws draws;
  const int64_t count = 48, radius = tubeletx::gaussian_radius(6);
  std::vector<double> taps(radius + 1), padded(count + 2 * radius);
  tubeletx::gaussian_taps(6, radius, taps.data());
  for (int64_t i = 0; i < count; ++i) padded[radius + i] = draws.between(0, 112);
  const std::vector<double> points(padded.begin() + radius, padded.begin() + radius + count);
  tubeletx::reflect_into_padding(padded.data(), count, radius);
  for (int64_t i = 0; i < count; ++i) {
    long double wanted = taps[0] * static_cast<long double>(points[i]);
    for (int64_t k = 1; k <= radius; ++k) {
      wanted += static_cast<long double>(taps[k]) * (padded[radius + i - k] + padded[radius + i + k]);
    }
    const double got = tubeletx::smoothed_point(padded.data(), taps.data(), radius, i);
    BOOST_TEST(units_off(got, wanted) < radius);
    BOOST_TEST(got == tubeletx::smoothed_point([&](int64_t at) { return points[at]; },
                                               [&](int64_t k) { return taps[k]; }, radius, count, i));
  }
}

BOOST_AUTO_TEST_SUITE_END()
