"""Which segments the network is asked about in training: its own estimates, carried along the video."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tubeletx_train.repetition.dataset import Window
from tubeletx_train.repetition.offsets import UNKNOWN, Offsets, cycle_offsets
from tubeletx_train.repetition.procedure import Procedure
from tubeletx_train.repetition.segments import LengthEstimate

# Kinds of first lengths and how often each is drawn, after the released code.
_NEAR_TRUTH, _MULTIPLE, _GRID = 0.25, 0.25, 0.5
_GRID_SHARES = np.geomspace(0.03, 0.35, 31)
_MIN_LENGTH = 2.0
# Frames of the shortest segment that the original procedure goes on with.
_ORIGINAL_MIN_LENGTH = 4.0
# After an update the middle moves on by a repetition, or a window, over a number drawn from this range.
_ADVANCE = (5.0, 20.0)


class Refinement:
    """Pairs of segments, one in each window of a batch.

    Attributes:
        middles: (B,) int64 last frames of the left segments.
        lengths: (B, 2) float64 frames.
    """

    def __init__(self, windows: Sequence[Window], procedure: Procedure, rng: np.random.Generator) -> None:
        """Draw where to begin.

        Args:
            windows: Each with two repetitions or more.
            procedure: How walks begin and move on.
            rng: Source of all draws.
        """
        self._procedure = procedure
        self._rng = rng
        self._offsets = [_offsets_in(window) for window in windows]
        self._sizes = [len(window.frames) for window in windows]
        self._repetitions = [window.repetitions for window in windows]
        self.middles = torch.zeros(len(windows), dtype=torch.int64)
        self.lengths = torch.ones(len(windows), 2, dtype=torch.float64)
        for row in range(len(windows)):
            self._start(row)

    def true_lengths(self) -> Tensor:
        """(B, 2) true lengths of the repetitions that end and begin there, -1 where unknown."""
        return torch.tensor([self._truth(row) for row in range(len(self.middles))])

    def _truth(self, row: int) -> tuple[int, int]:
        following, previous = self._offsets[row]
        middle = int(self.middles[row])
        after = int(following[middle + 1]) if middle + 1 < len(following) else UNKNOWN
        return self._length(int(previous[middle])), self._length(after)

    def _length(self, distance: int) -> int:
        return distance if distance == UNKNOWN else distance + self._procedure.extra_frames

    def advance(self, estimate: LengthEstimate) -> None:
        """Take the estimated lengths and move on; where they make no sense, or the window ends, begin anew."""
        self.lengths = estimate.lengths(self.lengths, self._procedure.max_log_scale)
        for row, size in enumerate(self._sizes):
            stride = size if self._procedure.advance_by_window else float(self.lengths[row].mean())
            step = stride / self._rng.uniform(*_ADVANCE)
            self.middles[row] += max(int(step) if self._procedure.advance_by_window else round(step), 1)
            if self._is_over(row, size):
                self._start(row)

    def _is_over(self, row: int, size: int) -> bool:
        shortest, longest = self.lengths[row].min(), self.lengths[row].max()
        if self._procedure.start_in_first:
            return bool(self.middles[row] >= size or shortest < _ORIGINAL_MIN_LENGTH)
        return bool(self.middles[row] > size - 2 or shortest < _MIN_LENGTH or longest > size)

    def _start(self, row: int) -> None:
        if self._procedure.start_in_first:
            self._start_in_first(row)
        else:
            self._start_anywhere(row)

    def _start_in_first(self, row: int) -> None:
        """A left segment from within the first repetition, and a right one as long, both inside the window."""
        size = self._sizes[row]
        known = int(self._offsets[row][0][0])
        first = float(known) if known != UNKNOWN else size / self._repetitions[row]
        begin = int(self._rng.random() * first)
        end = max(begin + int(self._first_length(first, size) - 1), begin)
        if 2 * end + 1 >= size:  # the right segment might not fit
            begin, end = 0, max(size // 2 - 1, 0)
        self.middles[row] = end
        self.lengths[row] = float(end - begin + 1)

    def _start_anywhere(self, row: int) -> None:
        size = self._sizes[row]
        self.middles[row] = int(self._rng.integers(size - 1))
        known = [length for length in self._truth(row) if length != UNKNOWN]
        first = self._first_length(known[0] if known else None, size)
        self.lengths[row] = min(max(first, _MIN_LENGTH), size)

    def _first_length(self, truth: float | None, size: int) -> float:
        rng = self._rng
        kind = rng.choice(3, p=(_NEAR_TRUTH, _MULTIPLE, _GRID))
        if kind == 2 or truth is None:
            return size * float(rng.choice(_GRID_SHARES))
        if kind == 0:
            return truth * float(2 ** rng.uniform(-1, 1))
        return truth * float(rng.choice((0.5, 1.0, 2.0)) + rng.uniform(-0.05, 0.05))


def _offsets_in(window: Window) -> tuple[Offsets, Offsets]:
    """The offsets of a window's frames, unknown at those before its first mark and after its last."""
    begin, size = window.boundaries[0], len(window.frames)
    found = []
    for offsets in cycle_offsets(window.boundaries):
        inside = np.full(size, UNKNOWN, np.int64)
        start, stop = max(begin, 0), min(begin + len(offsets), size)
        inside[start:stop] = offsets[start - begin : stop - begin]
        found.append(inside)
    following, previous = found
    return following, previous
