"""Which frames, and which windows of them, make a clip: pure functions of their arguments and a random generator."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from tubeletx_train.config.data import DataConfig

# The released code stretches frames to these sizes and cuts 112 x 112 windows: here as multiples of the window.
_RELEASED_SIZES = ((149 / 112, 1.0), (171 / 112, 128 / 112), (192 / 112, 144 / 112))


class CropBox(NamedTuple):
    """A window in pixels, half-open."""

    x0: int
    y0: int
    x1: int
    y1: int


def clip_generator(seed: int, epoch: int, sample_id: int, attempt: int, stream: int) -> np.random.Generator:
    """A generator keyed by exactly these numbers, independent for different keys.

    Counter-based (Philox): nothing carries over from one call to the next, so a draw depends on neither worker, rank
    nor order.

    Args:
        seed: Seed of the run.
        epoch: Epoch.
        sample_id: Sample.
        attempt: How many unreadable videos the sample has met so far.
        stream: What is drawn: 0 the sources, 1 and 2 the clips.
    """
    return np.random.Generator(
        np.random.Philox(
            key=np.array([seed, epoch], np.uint64), counter=np.array([0, sample_id, attempt, stream], np.uint64)
        )
    )


def draw_frame_indices(
    rng: np.random.Generator, available: int, num_frames: int, strides: Sequence[int]
) -> npt.NDArray[np.int64]:
    """Draw the frames of a clip.

    One stride for the clip; its span is (num_frames - 1) * stride + 1 frames and starts anywhere it fits, at 0 where
    the video is shorter; each index then moves by up to stride - 1 frames. Past the end the last frame repeats.

    Args:
        rng: Source of the draws.
        available: Frames there are.
        num_frames: Frames of a clip, T.
        strides: Strides to choose from.

    Returns:
        (T,) frame numbers in [0, available), not decreasing.
    """
    stride = int(rng.choice(np.asarray(strides)))
    span = (num_frames - 1) * stride + 1
    start = int(rng.integers(0, max(available - span, 0) + 1))
    indices = start + stride * np.arange(num_frames) + rng.integers(0, stride, num_frames)
    clamped: npt.NDArray[np.int64] = np.minimum(indices, available - 1)
    return clamped


def draw_crop(rng: np.random.Generator, width: int, height: int, config: DataConfig) -> CropBox:
    """Draw a window by the law that the settings name."""
    if config.crop == "released":
        return draw_released_crop(rng, width, height)
    return draw_random_resized_crop(rng, width, height, config.crop_area, config.crop_ratio)


def draw_random_resized_crop(
    rng: np.random.Generator, width: int, height: int, area: tuple[float, float], ratio: tuple[float, float]
) -> CropBox:
    """Draw a window by its share of the frame's area and its width/height, as torchvision's RandomResizedCrop does.

    Ten tries; then the largest central window whose ratio is allowed.
    """
    low, high = math.log(ratio[0]), math.log(ratio[1])
    for _ in range(10):
        target = width * height * rng.uniform(*area)
        aspect = math.exp(rng.uniform(low, high))
        w, h = round(math.sqrt(target * aspect)), round(math.sqrt(target / aspect))
        if 0 < w <= width and 0 < h <= height:
            x0, y0 = int(rng.integers(0, width - w + 1)), int(rng.integers(0, height - h + 1))
            return CropBox(x0, y0, x0 + w, y0 + h)
    w = max(min(width, round(height * ratio[1])), 1)
    h = max(min(height, round(width / ratio[0])), 1)
    x0, y0 = (width - w) // 2, (height - h) // 2
    return CropBox(x0, y0, x0 + w, y0 + h)


def draw_released_crop(rng: np.random.Generator, width: int, height: int) -> CropBox:
    """Draw the window that the released code shows.

    Stretching a frame to one of three sizes and cutting a square is the same as cutting a window of the frame and
    stretching that, which reads fewer pixels.
    """
    long, short = _RELEASED_SIZES[int(rng.integers(len(_RELEASED_SIZES)))]
    across, down = (long, short) if width >= height else (short, long)
    w, h = max(round(width / across), 1), max(round(height / down), 1)
    x0, y0 = int(rng.integers(0, width - w + 1)), int(rng.integers(0, height - h + 1))
    return CropBox(x0, y0, x0 + w, y0 + h)


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
