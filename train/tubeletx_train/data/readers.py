"""Video decoders behind one small protocol."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt


class ClipReader(Protocol):
    """An open video."""

    @property
    def num_frames(self) -> int:
        """Frames in the file."""
        ...

    @property
    def fps(self) -> float:
        """Average frames per second."""
        ...

    def read(self, indices: Sequence[int]) -> npt.NDArray[np.uint8]:
        """Decode frames, in the order asked for (repeats allowed): uint8 (T, H, W, 3) RGB. Raises VideoError."""
        ...


def open_video(path: str, short_side: int | None = None, reader: str = "decord") -> ClipReader:
    """Open a video, its frames resized to `short_side` as they are decoded. Raises VideoError."""
    raise NotImplementedError
