// Which clips see a tubelet at the same place with the same patch.
#pragma once

#include <cstdint>
#include <cstring>

#include "ops/paste_tubelets_arguments.h"

namespace tubeletx::cpu {

inline bool same_sight(const PasteArguments& arguments, int64_t b, int64_t m, int64_t clip, int64_t other) {
  if (arguments.patches_per_clip) return false;
  if (arguments.offsets == nullptr) return true;
  const int64_t sample = b * arguments.num_clips;
  return memcmp(arguments.offsets + 2 * ((sample + clip) * arguments.num_tubelets + m),
                arguments.offsets + 2 * ((sample + other) * arguments.num_tubelets + m), 2 * sizeof(float)) == 0;
}

/// The first clip after `first` that sees a tubelet otherwise.
inline int64_t end_of_sight(const PasteArguments& arguments, int64_t b, int64_t m, int64_t first) {
  int64_t last = first + 1;
  while (last < arguments.num_clips && same_sight(arguments, b, m, first, last)) ++last;
  return last;
}

}  // namespace tubeletx::cpu
