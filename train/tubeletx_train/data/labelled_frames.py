"""Which frames and which windows of them a labelled clip shows: pure functions."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from tubeletx_train.data.clips import CropBox


def last_start(available: int, num_frames: int, step: float) -> float:
    """The last position, in frames, that a clip can start at; 0 where the video is no longer than a clip.

    Args:
        available: Frames there are.
        num_frames: Frames of a clip, T.
        step: Frames of the video from one frame of the clip to the next; need not be whole.
    """
    return max(available - num_frames * step, 0.0)


def frame_indices(
    start: float, available: int, num_frames: int, step: float, short: Literal["loop", "hold"]
) -> npt.NDArray[np.int64]:
    """The frames of a clip, (T,) in [0, available): past the end it begins again ("loop") or stands still ("hold")."""
    positions = np.floor(start + step * np.arange(num_frames)).astype(np.int64)
    indices: npt.NDArray[np.int64] = positions % available if short == "loop" else np.minimum(positions, available - 1)
    return indices


def linear_starts(available: int, num_frames: int, step: float, count: int) -> list[float]:
    """Linearly spaced starts, from the first to the last; one where the video leaves no choice."""
    last = last_start(available, num_frames, step)
    if last == 0:
        return [0.0]
    # One clip is the middle one; more reach from end to end.
    starts: list[float] = np.linspace(0.0, last, count).tolist() if count > 1 else [last / 2]
    return starts


def draw_short_side_crop(
    rng: np.random.Generator, width: int, height: int, crop_size: int, short_sides: tuple[int, int]
) -> CropBox:
    """A window that, resized to crop_size, shows the frame as if its short side had a drawn length.

    1 / length is uniform between those of the two `short_sides` (the scale jitter of SlowFast, which the Charades
    protocol of section 4.1 follows).
    """
    low, high = 1 / short_sides[1], 1 / short_sides[0]
    side = max(round(min(width, height) * crop_size * rng.uniform(low, high)), 1)
    side = min(side, width, height)
    x0, y0 = int(rng.integers(0, width - side + 1)), int(rng.integers(0, height - side + 1))
    return CropBox(x0, y0, x0 + side, y0 + side)


def view_windows(width: int, height: int, count: Literal[1, 3], share: float) -> list[CropBox]:
    """Square windows of `share` of the short side: the centre, or three along the long side from end to end."""
    side = max(round(min(width, height) * share), 1)
    slack_x, slack_y = width - side, height - side
    places = (0.5,) if count == 1 else (0.0, 0.5, 1.0)
    boxes = []
    for place in places:
        x0 = int(slack_x * (place if width >= height else 0.5))
        y0 = int(slack_y * (place if height > width else 0.5))
        boxes.append(CropBox(x0, y0, x0 + side, y0 + side))
    return boxes
