#include "core/pose.h"

#include <boost/test/unit_test.hpp>

#include "reference.h"

BOOST_AUTO_TEST_SUITE(pose)

using tubeletx::Placement;
using tubeletx::Shape;

/// A patch of a drawn size, turned, sheared and scaled, about a frame of 40 x 60.
struct Drawn {
  explicit Drawn(Draws& draws) : width(draws.integer(1, 40)), height(draws.integer(1, 40)) {
    for (float& axis : linear) axis = static_cast<float>(draws.between(-1.5, 1.5));
    center[0] = static_cast<float>(draws.between(-10, 70));
    center[1] = static_cast<float>(draws.between(-10, 50));
  }
  bool place(Placement& placement) const {
    return tubeletx::place_patch(center, nullptr, linear, width, height, 1.0f, placement);
  }
  int32_t width, height;
  float center[2], linear[4];
};

BOOST_AUTO_TEST_CASE(the_place_in_the_patch_inverts_the_pose) {
  Draws draws;
  for (int trial = 0; trial < 300; ++trial) {
    const Drawn drawn(draws);
    Placement placement;
    if (!drawn.place(placement)) continue;
    const long double xx = drawn.linear[0], xy = drawn.linear[1], yx = drawn.linear[2], yy = drawn.linear[3];
    const long double determinant = xx * yy - xy * yx;
    const auto pose = tubeletx::make_pose<double>(placement, 0.0f, 1.0f);
    for (int32_t row = 0; row < 40; row += 3) {
      for (int32_t column = 0; column < 60; column += 3) {
        const long double dx = column + 0.5L - drawn.center[0], dy = row + 0.5L - drawn.center[1];
        const long double x = (yy * dx - xy * dy) / determinant + (drawn.width - 1) / 2.0L;
        const long double y = (xx * dy - yx * dx) / determinant + (drawn.height - 1) / 2.0L;
        const auto sight = tubeletx::see_patch(Shape::kRectangle, pose, column, row);
        const long double right = sight.weight[1] + sight.weight[3], lower = sight.weight[2] + sight.weight[3];
        const long double scale = 1 + (std::fabs(dx) + std::fabs(dy)) / std::fabs(determinant);
        const auto clamped = [](long double value, int32_t size) {
          return std::min(std::max(value, 0.0L), static_cast<long double>(size - 1));
        };
        BOOST_TEST(std::fabs(sight.column + right - clamped(x, drawn.width)) < 1e-13L * scale);
        BOOST_TEST(std::fabs(sight.row + lower - clamped(y, drawn.height)) < 1e-13L * scale);
      }
    }
  }
}

/// Whatever a pixel sees of a patch, the footprint holds the pixel.
BOOST_AUTO_TEST_CASE(a_footprint_holds_every_pixel_that_sees_the_patch) {
  Draws draws;
  int64_t seen = 0;
  for (const Shape shape : {Shape::kRectangle, Shape::kEllipse, Shape::kRhombus}) {
    for (int trial = 0; trial < 300; ++trial) {
      Placement placement;
      if (!Drawn(draws).place(placement)) continue;
      const tubeletx::Footprint footprint(placement, shape, 40, 60);
      const auto pose = tubeletx::make_pose<float>(placement, trial % 2 ? 0.3f : 0.0f, 1.0f);
      for (int64_t row = 0; row < 40; ++row) {
        int64_t begin, end;
        footprint.span(row, begin, end);
        const bool is_inside = row >= footprint.row_begin && row < footprint.row_end;
        for (int64_t column = 0; column < 60; ++column) {
          if (tubeletx::see_patch(shape, pose, column, row).strength == 0) continue;
          ++seen;
          BOOST_TEST((is_inside && begin <= column && column < end));
        }
      }
    }
  }
  BOOST_TEST(seen > 10000);
}

BOOST_AUTO_TEST_CASE(nothing_to_paint) {
  const float center[] = {5, 5}, linear[] = {1, 0, 0, 1}, singular[] = {1, 2, 2, 4}, lost[] = {NAN, 0};
  Placement placement;
  BOOST_TEST(tubeletx::place_patch(center, nullptr, linear, 4, 4, 1.0f, placement));
  BOOST_TEST(!tubeletx::place_patch(center, nullptr, singular, 4, 4, 1.0f, placement));
  BOOST_TEST(!tubeletx::place_patch(lost, nullptr, linear, 4, 4, 1.0f, placement));
  BOOST_TEST(!tubeletx::place_patch(center, nullptr, linear, 0, 4, 1.0f, placement));
  BOOST_TEST(!tubeletx::place_patch(center, nullptr, linear, 4, 4, 0.0f, placement));
}

BOOST_AUTO_TEST_SUITE_END()
