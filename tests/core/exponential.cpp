#include "core/exponential.h"

#include <boost/test/unit_test.hpp>

#include "reference.h"

BOOST_AUTO_TEST_SUITE(exponential)

using Types = std::tuple<float, double>;

template <typename T>
long double worst_between(double low, double high) {
  Draws draws;
  long double worst = 0;
  for (int i = 0; i < 200000; ++i) {
    const T x = static_cast<T>(draws.between(low, high));
    worst = std::max(worst, units_off(tubeletx::exponential(x), std::exp(static_cast<long double>(x))));
  }
  return worst;
}

BOOST_AUTO_TEST_CASE_TEMPLATE(about_one_unit_in_the_last_place, T, Types) {
  const bool is_double = sizeof(T) == sizeof(double);
  BOOST_TEST(worst_between<T>(-1, 1) < 1.5L);
  BOOST_TEST(worst_between<T>(-10, 0) < 1.5L);
  BOOST_TEST(worst_between<T>(is_double ? -708 : -87, is_double ? 709 : 88) < 1.5L);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(at_the_ends, T, Types) {
  const T lowest = tubeletx::ExponentialConstants<T>::kLowest;
  BOOST_TEST(tubeletx::exponential(T(0)) == T(1));
  BOOST_TEST(tubeletx::exponential(lowest) >= std::numeric_limits<T>::min());
  BOOST_TEST(tubeletx::exponential(std::nextafter(lowest, T(-1000))) == T(0));
  BOOST_TEST(tubeletx::exponential(-std::numeric_limits<T>::infinity()) == T(0));
  BOOST_TEST(std::isnan(tubeletx::exponential(std::numeric_limits<T>::quiet_NaN())));
}

BOOST_AUTO_TEST_SUITE_END()
