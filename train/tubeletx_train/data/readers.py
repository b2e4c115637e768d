"""Video decoders behind one small protocol."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from tubeletx_train.data.errors import VideoError


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


def open_video(
    path: str, short_side: int | None = None, reader: str = "decord", size: tuple[int, int] | None = None
) -> ClipReader:
    """Open a video.

    Args:
        path: File.
        short_side: Resize frames so that their short side is this many pixels, as they are decoded, the aspect kept
            (a few sizes that the decoder cannot produce become a little larger); None keeps the file's size.
        reader: A name in `READERS`.
        size: (width, height) of the file's frames where known, which saves opening it twice.

    Raises:
        VideoError: The file cannot be opened.
        ValueError: No such reader.
    """
    if reader not in READERS:
        raise ValueError(f"reader must be one of {', '.join(sorted(READERS))}, not {reader!r}")
    return READERS[reader](path, short_side, size)


class DecordReader:
    """decord, single-threaded: workers are the parallelism.

    Seeking is exact for MP4, Matroska, WebM and AVI. In MPEG transport streams decord misses by up to some thirty
    frames; that moves a clip, and does no other harm.
    """

    def __init__(self, path: str, short_side: int | None, size: tuple[int, int] | None) -> None:
        self._path = path
        if not os.path.isfile(path):
            raise VideoError(path, "no such file")
        if os.path.getsize(path) == 0:
            raise VideoError(path, "the file is empty")
        if short_side is None:
            self._video = self._open(-1, -1)
            return
        if size is None:
            height, width = self._frame_shape(self._open(-1, -1))
            size = (width, height)
        self._video = self._open(*decord_size(*size, short_side))

    def _open(self, width: int, height: int) -> Any:
        import decord

        decord.logging.set_level(decord.logging.QUIET)
        try:
            video = decord.VideoReader(self._path, num_threads=1, width=width, height=height)
            frames = len(video)
        except (RuntimeError, decord.DECORDError) as error:
            raise VideoError(self._path, _reason(error, "cannot be opened as a video")) from None
        if frames < 1:
            raise VideoError(self._path, "holds no frames")
        return video

    def _frame_shape(self, video: Any) -> tuple[int, int]:
        self._video = video
        height, width = self.read([0]).shape[1:3]
        return height, width

    @property
    def num_frames(self) -> int:
        """Frames in the file."""
        return len(self._video)

    @property
    def fps(self) -> float:
        """Average frames per second."""
        rate = float(self._video.get_avg_fps())
        return rate if np.isfinite(rate) and rate > 0 else 25.0

    def read(self, indices: Sequence[int] | npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """Decode frames; see ClipReader."""
        import decord

        wanted = np.asarray(indices, dtype=np.int64)
        if wanted.size and not (wanted.min() >= 0 and wanted.max() < self.num_frames):
            raise VideoError(
                self._path, f"frames {wanted.min()} to {wanted.max()} were asked for, it has {self.num_frames}"
            )
        # Sorted and unique: the decoder then runs forward once and decodes no frame twice.
        unique, place = np.unique(wanted, return_inverse=True)
        try:
            frames: npt.NDArray[np.uint8] = self._video.get_batch(unique.tolist()).asnumpy()
        except (RuntimeError, decord.DECORDError) as error:
            raise VideoError(self._path, _reason(error, f"frames {unique[0]} to {unique[-1]} are damaged")) from None
        return frames[place]


def decord_size(width: int, height: int, short_side: int) -> tuple[int, int]:
    """The (width, height) to have decord decode at.

    decord 0.6 pads rows to a multiple of 32 pixels and takes the padded row for one of more channels where its length
    is a multiple of the width (widths such as 16, 24, 48 and 72 fail with "The size must exactly match"). The next
    larger short side that avoids this is used instead.
    """
    while True:
        scale = short_side / min(width, height)
        new_width, new_height = max(round(width * scale), 1), max(round(height * scale), 1)
        if new_width % 32 == 0 or (3 * 32 * -(-new_width // 32)) % new_width:
            return new_width, new_height
        short_side += 1


def _reason(error: Exception, summary: str) -> str:
    """One line in place of decord's C++ back trace."""
    text = str(error)
    if "The size must exactly match" in text:
        return (
            "decord cannot decode frames of this width (a fault it has at 16, 24, 48 and 72 pixels); resize the video"
        )
    if "st_nb >= 0" in text:
        return "holds no video stream"
    if "av_read_frame failed" in text:
        return f"{summary} (the file is cut off or damaged)"
    if "duration/frame-count" in text:
        return f"{summary} (no duration: a picture, or not a video)"
    return summary


READERS: dict[str, Callable[[str, int | None, tuple[int, int] | None], ClipReader]] = {"decord": DecordReader}
