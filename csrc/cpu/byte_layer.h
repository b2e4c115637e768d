// What the loops that paste bytes are given.
#pragma once

#include <cstdint>

#include "core/paste_bytes.h"
#include "core/shapes.h"
#include "ops/paste_tubelets_arguments.h"

namespace tubeletx::cpu {

/// Bytes of a record: what a pixel can see of a patch at one place, for each of three colours and the alpha the texel
/// itself and its lower, right and diagonal neighbours, as signed differences from 128, premultiplied. With the border
/// repeated there is one for every place, (height + 1, width + 1): nothing is clamped, and one load fetches all.
inline constexpr int64_t kRecord = 16;

/// Records that are written at a time at most, past the end of a row too.
inline constexpr int64_t kRecordsAtOnce = 8;

/// Colours of a record; more channels are pasted in groups.
inline constexpr int64_t kColours = 3;

/// One frame of the clips that see a layer at the same place, and a group of its channels.
struct ByteFrame {
  int64_t num_clips;
  ClipView clips[kMaxClips];  ///< the data start at the frame and the group
  int64_t channels;           ///< of the group, 1 to kColours
  int64_t height, width;
};

/// One tubelet in one frame.
struct ByteLayer {
  BytePose pose;
  Shape shape;
  const uint8_t* records;
};

/// The pixels of a row from one on, as many as a vector has lanes or as the row's span has left.
struct alignas(16) Piece {
  int32_t place_x, place_y;  ///< of the first one, modulo 2^32
  uint32_t offset;           ///< of the first one in the frame
  int32_t left;
};

/// How many pieces ahead the frame is fetched.
inline constexpr int32_t kAhead = 16;

/// Where pieces count their offsets.
struct Pitch {
  int32_t row, pixel;
};

}  // namespace tubeletx::cpu
