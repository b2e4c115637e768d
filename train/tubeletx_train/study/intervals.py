"""Means over seeds and how sure they are."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy import stats

_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval.

    Attributes:
        mean: The mean.
        half_width: Half of the interval, by Student's t; None of a single value.
        count: Values.
    """

    mean: float
    half_width: float | None
    count: int

    @property
    def leaves_out_zero(self) -> bool:
        """Whether there is an interval and zero is not in it."""
        return self.half_width is not None and abs(self.mean) > self.half_width

    def __str__(self) -> str:
        spread = "" if self.half_width is None else f" ± {100 * self.half_width:.1f}"
        return f"{100 * self.mean:.1f}{spread}"


def estimate(values: Sequence[float]) -> Estimate:
    """Mean and interval of at least one value."""
    count = len(values)
    mean = statistics.fmean(values)
    if count < 2:
        return Estimate(mean, None, count)
    deviation = statistics.stdev(values)
    quantile = float(stats.t.ppf((1 + _CONFIDENCE) / 2, count - 1))
    return Estimate(mean, quantile * deviation / math.sqrt(count), count)


def difference(first: Mapping[int, float], second: Mapping[int, float]) -> Estimate | None:
    """Mean of first - second and its interval, over the seeds that both have; None where they have none in common.

    Taken seed by seed: runs of one seed share first weights and the order of videos, and what that brings cancels.

    Args:
        first: Values by seed.
        second: Likewise.
    """
    shared = first.keys() & second.keys()
    return estimate([first[seed] - second[seed] for seed in sorted(shared)]) if shared else None
