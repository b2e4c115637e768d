"""From marked repetitions to the distance, at each frame, to the same moment of the next and the previous one."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

UNKNOWN = -1

# Neighbours that differ by more than both say nothing about one another.
_MAX_DIFFERENCE = 2
_MAX_RATIO = 1.3

Offsets = npt.NDArray[np.int64]


def cycle_offsets(boundaries: Sequence[int]) -> tuple[Offsets, Offsets]:
    """Distances to the same phase of the next and of the previous repetition, by linear mapping between the two.

    Gives what the label files of UCFRep hold as `offset_next_estimate` and `offset_pre_estimate`.

    Args:
        boundaries: Frames, increasing, at which repetitions begin or end.

    Returns:
        Two (N,) arrays for the N frames from the first boundary to the last, both included; `UNKNOWN` where there is no
        such repetition or it differs too much in length.

    Raises:
        ValueError: Fewer than two boundaries, or not increasing.
    """
    if len(boundaries) < 2 or any(b <= a for a, b in itertools.pairwise(boundaries)):
        raise ValueError(f"boundaries: got {tuple(boundaries)}, needs two or more increasing frame numbers")
    starts = np.asarray(boundaries, np.int64) - boundaries[0]
    lengths = np.diff(starts)
    following = np.full(starts[-1] + 1, UNKNOWN, np.int64)
    previous = following.copy()
    for index, (first, second) in enumerate(itertools.pairwise(lengths.tolist())):
        if abs(first - second) > _MAX_DIFFERENCE and max(first, second) > _MAX_RATIO * min(first, second):
            continue
        begin, middle, end = starts[index : index + 3]
        following[begin:middle] = _mapped(first, second, np.arange(first) / first)
        previous[middle:end] = _mapped(first, second, np.arange(second) / second)
        if end == starts[-1]:
            previous[end] = second
    return following, previous


def _mapped(first: int, second: int, phase: npt.NDArray[np.float64]) -> Offsets:
    return np.floor(first + phase * (second - first) + 0.5).astype(np.int64)
