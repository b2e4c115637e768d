"""Which frames and which window of them make a clip: pure functions of a random generator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class CropBox(NamedTuple):
    """A window in pixels, half-open."""

    x0: int
    y0: int
    x1: int
    y1: int


def clip_generator(seed: int, epoch: int, sample_id: int, attempt: int, stream: int) -> np.random.Generator:
    """A generator keyed by exactly these numbers (counter-based Philox), independent for different keys."""
    raise NotImplementedError


def draw_frame_indices(
    rng: np.random.Generator, available: int, num_frames: int, strides: Sequence[int]
) -> npt.NDArray[np.int64]:
    """Draw the frames of a clip: stride, start, jitter of [0, stride - 1] each; clamped at the last frame."""
    raise NotImplementedError
