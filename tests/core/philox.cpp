#include "core/philox.h"

#include <boost/test/unit_test.hpp>

#include <array>
#include <initializer_list>

BOOST_AUTO_TEST_SUITE(philox)

using Words = std::array<uint32_t, 4>;

Words words(const tubeletx::PhiloxBlock& block) { return {block.word[0], block.word[1], block.word[2], block.word[3]}; }

/// The known answers that Random123, the authors' library, gives for ten rounds of four words.
BOOST_AUTO_TEST_CASE(known_answers) {
  struct Answer {
    Words counter;
    std::array<uint32_t, 2> key;
    Words wanted;
  };
  const std::initializer_list<Answer> answers = {
      {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
      {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
       {0xffffffff, 0xffffffff},
       {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
      {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
       {0xa4093822, 0x299f31d0},
       {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
  };
  for (const Answer& answer : answers) {
    const auto& c = answer.counter;
    const auto got = tubeletx::philox({{c[0], c[1], c[2], c[3]}}, answer.key[0], answer.key[1]);
    BOOST_TEST(words(got) == answer.wanted, boost::test_tools::per_element());
  }
}

BOOST_AUTO_TEST_CASE(a_stream_is_keyed_by_seed_sample_epoch_and_draw) {
  const tubeletx::DrawStream stream{0x299f31d0a4093822, 0x85a308d3243f6a88, 0x13198a2e};
  const Words wanted = {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1};
  BOOST_TEST(words(stream.block(0x03707344)) == wanted, boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(words_become_numbers) {
  BOOST_TEST(tubeletx::unit_interval(0) == 0.0f);
  BOOST_TEST(tubeletx::unit_interval(0x80000000) == 0.5f);
  BOOST_TEST(tubeletx::unit_interval(0xffffffff) == 1.0f - 0x1p-24f);
  BOOST_TEST(tubeletx::uniform(0x80000000, -3.0f, 5.0f) == 1.0f);
  BOOST_TEST(tubeletx::uniform_integer(0xffffffff, 7) == 6);
  BOOST_TEST(tubeletx::uniform_integer(0, 7) == 0);
  BOOST_TEST(tubeletx::uniform_integer(0xffffffff, 0x7fffffff) == 0x7ffffffe);
  BOOST_TEST(tubeletx::uniform_integer(0xffffffff, 0) == 0);
}

BOOST_AUTO_TEST_SUITE_END()
