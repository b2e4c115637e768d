#include "core/resize_bytes.h"

#include <boost/test/unit_test.hpp>
#include <vector>

#include "reference.h"

BOOST_AUTO_TEST_SUITE(resize_bytes)

/// The taps of every output pixel, against the triangle itself.
void check(int32_t in, int32_t out) {
  const long double scale = static_cast<long double>(in) / out, reach = scale > 1 ? scale : 1;
  for (int32_t index = 0; index < out; ++index) {
    const tubeletx::ResizeTaps taps = tubeletx::resize_taps(index, in, out);
    BOOST_TEST((taps.first >= 0 && taps.count > 0 && taps.first + taps.count <= in));
    BOOST_TEST(taps.count <= tubeletx::most_resize_taps(in, out));
    std::vector<int16_t> weights(static_cast<size_t>(taps.count));
    tubeletx::resize_weights(index, in, out, taps, weights.data());
    std::vector<long double> wanted(static_cast<size_t>(in));
    long double total = 0;
    for (int32_t k = 0; k < in; ++k) {
      const long double distance = std::fabs(k + 0.5L - (index + 0.5L) * scale) / reach;
      total += wanted[k] = distance < 1 ? 1 - distance : 0;
    }
    int32_t sum = 0;
    long double running = 0;
    for (int32_t k = 0; k < in; ++k) {
      running += wanted[k] / total * (1 << tubeletx::kResizeWeightBits);
      const bool seen = k >= taps.first && k < taps.first + taps.count;
      if (seen) {
        BOOST_TEST(weights[k - taps.first] >= 0);
        sum += weights[k - taps.first];
      }
      BOOST_TEST((std::fabs(sum - running) <= 0.5L + 1e-9L),
                 in << " to " << out << ", pixel " << index << ", tap " << k);
    }
    BOOST_TEST(sum == 1 << tubeletx::kResizeWeightBits);
  }
}

BOOST_AUTO_TEST_CASE(weights_are_those_of_the_triangle) {
  const int32_t sides[] = {1, 2, 3, 7, 16, 20, 33, 112, 171, 340};
  for (const int32_t in : sides) {
    for (const int32_t out : sides) check(in, out);
  }
}

BOOST_AUTO_TEST_CASE(the_longest_sides_fit) {
  constexpr int32_t kMost = static_cast<int32_t>(tubeletx::kMostResizedSide);
  for (const int32_t out : {1, 2, 1000, kMost}) {
    for (const int32_t index : {0, out / 2, out - 1}) {
      const tubeletx::ResizeTaps taps = tubeletx::resize_taps(index, kMost, out);
      std::vector<int16_t> weights(static_cast<size_t>(taps.count));
      tubeletx::resize_weights(index, kMost, out, taps, weights.data());
      int32_t sum = 0;
      for (const int16_t weight : weights) sum += weight;
      BOOST_TEST(sum == 1 << tubeletx::kResizeWeightBits);
    }
  }
}

BOOST_AUTO_TEST_CASE(one_size_is_a_copy) {
  for (int32_t index = 0; index < 9; ++index) {
    const tubeletx::ResizeTaps taps = tubeletx::resize_taps(index, 9, 9);
    BOOST_TEST(taps.first == index);
    BOOST_TEST(taps.count == 1);
  }
  for (int32_t byte = 0; byte < 256; ++byte) {
    const int32_t row = tubeletx::round_resized_row(byte << tubeletx::kResizeWeightBits);
    BOOST_TEST(tubeletx::round_resized_level(row << tubeletx::kResizeWeightBits) == byte);
  }
}

BOOST_AUTO_TEST_SUITE_END()
