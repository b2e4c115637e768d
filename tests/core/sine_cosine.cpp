#include "core/sine_cosine.h"

#include <boost/test/unit_test.hpp>

#include "reference.h"

BOOST_AUTO_TEST_SUITE(sine_cosine)

void check(float degrees) {
  const tubeletx::SineCosine got = tubeletx::sine_cosine_degrees(degrees);
  const long double angle = std::fmod(static_cast<long double>(degrees), 360.0L) * (kPi / 180);
  // Near its zeros the reference itself is off by the rounding of pi.
  const auto is_close = [](float value, long double wanted) {
    return units_off(value, wanted) < 0.501L || std::fabs(value - wanted) < 1e-17L;
  };
  BOOST_TEST(is_close(got.sine, std::sin(angle)), "sine of " << degrees << " is " << got.sine);
  BOOST_TEST(is_close(got.cosine, std::cos(angle)), "cosine of " << degrees << " is " << got.cosine);
}

BOOST_AUTO_TEST_CASE(within_half_a_unit_in_the_last_place) {
  Draws draws;
  for (const double reach : {1e-6, 1.0, 45.0, 360.0, 1e4, 1e6}) {
    for (int i = 0; i < 20000; ++i) check(static_cast<float>(draws.between(-reach, reach)));
  }
}

BOOST_AUTO_TEST_CASE(exact_at_multiples_of_ninety) {
  const float sines[] = {0, 1, 0, -1};
  for (int quarter = -40; quarter <= 40; ++quarter) {
    const tubeletx::SineCosine got = tubeletx::sine_cosine_degrees(90.0f * quarter);
    BOOST_TEST(got.sine == sines[(quarter + 40) % 4]);
    BOOST_TEST(got.cosine == sines[(quarter + 41) % 4]);
  }
}

BOOST_AUTO_TEST_SUITE_END()
