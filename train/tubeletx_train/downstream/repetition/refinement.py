"""Which segments the network is asked about in training: its own estimates, carried along the video."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tubeletx_train.downstream.repetition.offsets import UNKNOWN, cycle_offsets
from tubeletx_train.downstream.repetition.segments import Estimate

# Kinds of first lengths and how often each is drawn, after the released code.
_NEAR_TRUTH, _MULTIPLE, _GRID = 0.25, 0.25, 0.5
_GRID_SHARES = np.geomspace(0.03, 0.35, 31)
_MIN_LENGTH = 2.0
# After an update the middle moves on by a repetition over a number drawn from this range.
_ADVANCE = (5.0, 20.0)


class Refinement:
    """Pairs of segments, one in each window of a batch.

    Attributes:
        middles: (B,) int64 last frames of the left segments.
        lengths: (B, 2) float64 frames.
    """

    def __init__(self, boundaries: Sequence[Sequence[int]], rng: np.random.Generator) -> None:
        """Draw where to begin.

        Args:
            boundaries: Of each window, the first 0 and the last its number of frames less one; two repetitions or more.
            rng: Source of all draws.
        """
        self._rng = rng
        self._offsets = [cycle_offsets(marks) for marks in boundaries]
        self._sizes = [marks[-1] + 1 for marks in boundaries]
        self.middles = torch.zeros(len(boundaries), dtype=torch.int64)
        self.lengths = torch.ones(len(boundaries), 2, dtype=torch.float64)
        for row in range(len(boundaries)):
            self._start(row)

    def true_lengths(self) -> Tensor:
        """(B, 2) true lengths of the repetitions that end and begin there, -1 where unknown."""
        return torch.tensor([self._truth(row) for row in range(len(self.middles))])

    def _truth(self, row: int) -> tuple[int, int]:
        following, previous = self._offsets[row]
        middle = int(self.middles[row])
        return int(previous[middle]), int(following[middle + 1])

    def advance(self, estimate: Estimate) -> None:
        """Take the estimated lengths and move on; where they make no sense, or the window ends, begin anew."""
        self.lengths = estimate.lengths(self.lengths)
        for row, size in enumerate(self._sizes):
            step = float(self.lengths[row].mean()) / self._rng.uniform(*_ADVANCE)
            self.middles[row] += max(round(step), 1)
            shortest, longest = self.lengths[row].min(), self.lengths[row].max()
            if self.middles[row] > size - 2 or shortest < _MIN_LENGTH or longest > size:
                self._start(row)

    def _start(self, row: int) -> None:
        rng, size = self._rng, self._sizes[row]
        self.middles[row] = int(rng.integers(size - 1))
        known = [length for length in self._truth(row) if length != UNKNOWN]
        kind = rng.choice(3, p=(_NEAR_TRUTH, _MULTIPLE, _GRID))
        if kind == 2 or not known:
            first = size * float(rng.choice(_GRID_SHARES))
        elif kind == 0:
            first = known[0] * float(2 ** rng.uniform(-1, 1))
        else:
            first = known[0] * float(rng.choice((0.5, 1.0, 2.0)) + rng.uniform(-0.05, 0.05))
        self.lengths[row] = min(max(first, _MIN_LENGTH), size)
