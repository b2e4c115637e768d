// The test program; the suites lie in the other files of this folder, one for each header of csrc/core.
#define BOOST_TEST_MODULE core
#include <boost/test/included/unit_test.hpp>
