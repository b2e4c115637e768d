"""Counts repetitions from estimates of their lengths: the test procedure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from tubeletx_train.repetition.segments import UNIT_ANCHOR, LengthEstimate

# First lengths tried, as shares of the video.
_CANDIDATES = 30
_SHORTEST, _LONGEST = 0.03, 0.35
# Frames of the shortest repetition.
MIN_LENGTH = 4
_REFINEMENTS = 4
# Share of a new estimate in the length that is kept.
_MERGE = 0.5
# How often the lengths at 2, 4, 8 and 16 places are refined, each place starting from its neighbour's.
_TREE = (4, 2, 1, 1)


class Estimator(Protocol):
    """Estimates the lengths of neighbouring repetitions; `model.NetworkEstimator` is one."""

    def __call__(self, videos: Tensor, middles: Tensor, lengths: Tensor) -> LengthEstimate:
        """Judge K pairs of segments.

        Args:
            videos: (K,) which video each is of.
            middles: (K,) last frame of its left segment.
            lengths: (K, 2) frames of the two segments.
        """
        ...


@dataclass(frozen=True)
class Count:
    """What was found in a video.

    Attributes:
        count: Repetitions.
        num_frames: Frames of the video.
        middles: (31,) frames at which the lengths were estimated, in order of time.
        lengths: (31, 2) frames of the repetitions that end and begin there.
        inside: (31, 2) which of them lie inside the video, and so count.
    """

    count: int
    num_frames: int
    middles: Tensor
    lengths: Tensor
    inside: Tensor


def count_repetitions(estimator: Estimator, num_frames: Sequence[int], unit_refinement: bool = False) -> list[Count]:
    """Count the repetitions in videos.

    A length is found in the middle of each video among thirty candidates, refined, and carried outwards along a tree
    of 31 evenly spaced places where it is refined further. The count is the number of frames over the (harmonic) mean
    length of those repetitions that lie inside the video.

    All candidates are judged together, and so are all places of a level: 13 calls of the estimator whatever the number
    of videos, where asking about one segment at a time takes 74.

    Args:
        estimator: Knows the videos.
        num_frames: Frames of each.
        unit_refinement: Correct the first length by the left side's anchor 1 alone, as the original code does.

    Returns:
        A count for each video.

    Raises:
        ValueError: A video without frames.
    """
    if not len(num_frames):
        return []
    if min(num_frames) < 1:
        raise ValueError(f"every video needs a frame, got {list(num_frames)}")
    sizes = torch.tensor(num_frames, dtype=torch.float64)
    centers = ((sizes - 1) / 2).floor().long()
    first = _first_lengths(estimator, sizes, centers, unit_refinement)
    if unit_refinement:
        first = _refine_unit(estimator, sizes, centers, first)
        lengths = first[:, None, None].expand(-1, 1, 2)
    else:
        lengths = _refine(estimator, sizes, centers[:, None], first[:, None, None].expand(-1, 1, 2), _REFINEMENTS)
    middles = centers[:, None]
    for level, times in enumerate(_TREE):
        nodes = 2 << level
        shares = (2 * torch.arange(nodes) + 1) / (2 * nodes)
        places = ((sizes[:, None] - 1) * shares).floor().long()
        nearest = (places[:, :, None] - middles[:, None, :]).abs().argmin(2)
        start = lengths.gather(1, nearest[..., None].expand(-1, -1, 2))
        refined = _refine(estimator, sizes, places, start, times)
        order = torch.cat([middles, places], 1).argsort(1)
        middles = torch.cat([middles, places], 1).gather(1, order)
        lengths = torch.cat([lengths, refined], 1).gather(1, order[..., None].expand(-1, -1, 2))
    return [_count(size, *state) for size, *state in zip(num_frames, middles, lengths, strict=True)]


def _first_lengths(estimator: Estimator, sizes: Tensor, centers: Tensor, corrected: bool) -> Tensor:
    """(V,) the candidate whose left segment fits best as it is, or that one as it is corrected."""
    shares = torch.from_numpy(np.geomspace(_SHORTEST, _LONGEST, _CANDIDATES))
    candidates = sizes[:, None] * shares
    usable = (candidates >= MIN_LENGTH) & (candidates < sizes[:, None] / 2)
    # A video too short for any of them is one repetition or two.
    usable[~usable.any(1), -1] = True
    videos, _ = usable.nonzero(as_tuple=True)
    tried = candidates[usable].clamp(min=1)
    estimate = estimator(videos, centers[videos], tried[:, None].expand(-1, 2))
    scores = torch.full(candidates.shape, -1.0)
    scores[usable] = estimate.scores[:, 0, UNIT_ANCHOR]
    if corrected:
        candidates[usable] = tried * estimate.unit_scales()
        fits = _makes_sense(candidates, sizes[:, None])
        scores = scores.where(fits | ~fits.any(1, keepdim=True), -1.0)
    best: Tensor = candidates.clamp(min=1).gather(1, scores.argmax(1, keepdim=True))[:, 0]
    return best


def _refine_unit(estimator: Estimator, sizes: Tensor, centers: Tensor, lengths: Tensor) -> Tensor:
    """(V,) lengths in the middle, drawn several times towards the left side's correction where that makes sense."""
    videos = torch.arange(len(sizes))
    for _ in range(_REFINEMENTS):
        estimated = lengths * estimator(videos, centers, lengths[:, None].expand(-1, 2)).unit_scales()
        merged = (1 - _MERGE) * lengths + _MERGE * estimated
        lengths = merged.where(_makes_sense(estimated, sizes), lengths)
    return lengths


def _makes_sense(lengths: Tensor, sizes: Tensor) -> Tensor:
    return (lengths >= MIN_LENGTH) & (lengths < sizes / 2)


def _refine(estimator: Estimator, sizes: Tensor, middles: Tensor, lengths: Tensor, times: int) -> Tensor:
    """Lengths (V, P, 2) at places (V, P), drawn towards what the estimator makes of them, several times."""
    videos = torch.arange(len(sizes))[:, None].expand_as(middles).flatten()
    # No repetition is longer than its video, or shorter than the shortest one.
    longest = sizes[videos, None].clamp(min=1)
    shortest = longest.clamp(max=MIN_LENGTH)
    flat = lengths.flatten(0, 1)
    for _ in range(times):
        estimated = estimator(videos, middles.flatten(), flat).lengths(flat)
        flat = ((1 - _MERGE) * flat + _MERGE * estimated).maximum(shortest).minimum(longest)
    return flat.view_as(lengths)


def _count(num_frames: int, middles: Tensor, lengths: Tensor) -> Count:
    left = middles - lengths[:, 0] + 1 > -0.5
    right = middles + lengths[:, 1] < num_frames - 0.5
    inside = torch.stack([left, right], 1)
    # The middle's lengths stand in where no repetition lies inside the video as a whole.
    counted = lengths[inside] if inside.any() else lengths[len(lengths) // 2]
    return Count(round(num_frames * float((1 / counted).mean())), num_frames, middles, lengths, inside)


def cycle_marks(count: Count) -> list[float]:
    """Frames, in order, at which repetitions begin or end: stepped off by the lengths around from the middle outwards.

    For pictures; where the steps start is arbitrary, as lengths do not tell where in its course a repetition is.
    """
    start = float(count.middles[len(count.middles) // 2])
    return [*reversed(_step_off(count, start, 0)), start, *_step_off(count, start, 1)]


def _step_off(count: Count, start: float, side: int) -> list[float]:
    usable = count.inside[:, side] if count.inside[:, side].any() else torch.ones_like(count.inside[:, side])
    middles, lengths = count.middles[usable], count.lengths[usable, side]
    marks: list[float] = []
    position = start
    while True:
        step = float(lengths[(middles - position).abs().argmin()])
        position += step if side else -step
        if not -0.5 <= position <= count.num_frames - 0.5:
            return marks
        marks.append(position)
