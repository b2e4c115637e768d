#include "core/log_sum_exp.h"

#include <boost/test/unit_test.hpp>

#include <vector>

#include "reference.h"

BOOST_AUTO_TEST_SUITE(log_sum_exp)

using Types = std::tuple<float, double>;

/// The state of a set of scores, merged one by one.
template <typename T>
tubeletx::SoftmaxState<T> state_of(const std::vector<T>& scores) {
  auto state = tubeletx::empty_softmax_state<T>();
  for (const T score : scores) tubeletx::merge(state, {score, T(1)});
  return state;
}

template <typename T>
long double wanted(const std::vector<T>& scores, T score) {
  long double sum = 0, largest = score;
  for (const T s : scores) largest = std::max<long double>(largest, s);
  for (const T s : scores) sum += std::exp(s - largest);
  if (largest == score) return std::log1p(sum);
  return (largest - score) + std::log(sum + std::exp(score - largest));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(accurate_relative_to_the_result, T, Types) {
  Draws draws;
  for (const double scale : {1e-3, 1.0, 5.0, 100.0, 1e5, 1e30}) {
    for (int trial = 0; trial < 100; ++trial) {
      std::vector<T> scores(draws.integer(1, 40));
      for (T& score : scores) score = static_cast<T>(draws.between(-scale, scale));
      const T positive = static_cast<T>(draws.between(-scale, scale));
      const long double right = wanted(scores, positive);
      const T got = tubeletx::log_sum_exp_above(state_of(scores), positive);
      // Scores so far below the positive that their share is no normal number count nothing.
      const long double tolerance = 64 * std::numeric_limits<T>::epsilon() * right + std::numeric_limits<T>::min() * 64;
      BOOST_TEST(std::fabs(got - right) <= tolerance, "scale " << scale << ": got " << got << ", needs " << right);
    }
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(of_no_scores_is_zero, T, Types) {
  for (const T positive : {T(-50), T(0), T(1e30)}) {
    BOOST_TEST(tubeletx::log_sum_exp_above(tubeletx::empty_softmax_state<T>(), positive) == T(0));
  }
}

BOOST_AUTO_TEST_SUITE_END()
