"""What every reader is, and what readers share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from tubeletx_train.data.errors import VideoError

# Where a file does not tell its rate, as pictures never do.
DEFAULT_FPS = 25.0


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

    @property
    def seconds(self) -> npt.NDArray[np.float64] | None:
        """(num_frames,) when each frame is shown, from the first on; None where that is not known."""
        ...

    @property
    def decoder(self) -> str | None:
        """Name in `READERS` of what decodes the file, None for pictures."""
        ...

    @property
    def judge(self) -> ClipReader:
        """The reader whose verdict on the file counts: itself, unless its own would be luck."""
        ...

    def read(self, indices: Sequence[int] | npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """Decode frames.

        Args:
            indices: Frame numbers in [0, num_frames), in any order, repeats allowed.

        Returns:
            (T, H, W, 3) uint8 RGB, in the order asked for.

        Raises:
            VideoError: A frame cannot be decoded.
        """
        ...


class BaseReader(ABC):
    """A ClipReader over a decoder that is asked for each frame once, in increasing order."""

    def __init__(self, path: str) -> None:
        self._path = path

    @property
    @abstractmethod
    def num_frames(self) -> int:
        """Frames in the file."""

    @property
    @abstractmethod
    def fps(self) -> float:
        """Average frames per second."""

    @property
    def seconds(self) -> npt.NDArray[np.float64] | None:
        """(num_frames,) when each frame is shown, from the first on; None where that is not known."""
        return None

    @property
    def decoder(self) -> str | None:
        """Name in `READERS` of what decodes the file, None for pictures."""
        return None

    @property
    def judge(self) -> ClipReader:
        """The reader whose verdict on the file counts."""
        return self

    @abstractmethod
    def _decode(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """Frames by number, increasing and without repeats, all of them there: (T, H, W, 3)."""

    def read(self, indices: Sequence[int] | npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """Decode frames; see ClipReader."""
        wanted = np.asarray(indices, dtype=np.int64)
        if not wanted.size:
            raise ValueError("indices: got none, needs at least one frame")
        if not (wanted.min() >= 0 and wanted.max() < self.num_frames):
            raise VideoError(
                self._path, f"frames {wanted.min()} to {wanted.max()} were asked for, it has {self.num_frames}"
            )
        # Sorted and unique: a decoder then runs forward once and decodes no frame twice.
        unique, place = np.unique(wanted, return_inverse=True)
        return self._decode(unique)[place]


def scaled_size(width: int, height: int, short_side: int | None) -> tuple[int, int]:
    """(width, height) with the short side given and the aspect kept; unchanged for None."""
    if short_side is None:
        return width, height
    scale = short_side / min(width, height)
    return max(round(width * scale), 1), max(round(height * scale), 1)


def usable_rate(rate: float | None) -> float:
    """A stated rate, or the default where none or nonsense is stated."""
    return rate if rate is not None and np.isfinite(rate) and rate > 0 else DEFAULT_FPS


def damaged(indices: npt.NDArray[np.int64]) -> str:
    """Why frames cannot be decoded."""
    return f"frames {indices[0]} to {indices[-1]} are damaged"
