"""Videos through decord, and through PyAV where decord does not do."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tubeletx_train.data.errors import VideoError
from tubeletx_train.data.readers.media import Media
from tubeletx_train.data.readers.protocol import ClipReader
from tubeletx_train.data.readers.pyav import PyAVReader

if TYPE_CHECKING:
    from tubeletx_train.data.readers.decord import DecordReader

# It has wheels for x86-64 alone.
HAS_DECORD = importlib.util.find_spec("decord") is not None

_logger = logging.getLogger(__name__)
_warned: set[str] = set()  # files, by this process


class DecordOrPyAVReader(ClipReader):
    """decord, the faster, for the files that it reads exactly; PyAV for the others, and where decord fails.

    PyAV judges: a file is unreadable where PyAV cannot read it, so that the verdict is the same every time. A file
    whose size is given was checked before and is not judged again; where decord fails at it all the same, a warning
    says so, as a run that is repeated may then see other pixels.
    """

    def __init__(self, media: Media, short_side: int | None, size: tuple[int, int] | None) -> None:
        self._media = media
        self._short_side = short_side
        self._judge = PyAVReader(media, short_side, None) if size is None else None
        self._video = self._choose(size)

    def _choose(self, size: tuple[int, int] | None) -> DecordReader | PyAVReader:
        if not HAS_DECORD:
            return self.judge
        from tubeletx_train.data.readers.decord import DecordReader

        judge = self._judge
        if judge is not None and not judge.is_plain():
            return judge
        try:
            video = DecordReader(self._media, self._short_side, size)
        except VideoError as error:
            return self.judge if size is None else self._instead_of_decord(error)
        if judge is not None and judge.num_frames != video.num_frames:
            return judge
        # A frame is of the same size whichever of the two decodes it.
        self._short_side = video.short_side
        self._judge = None
        return video

    def _instead_of_decord(self, error: VideoError) -> PyAVReader:
        """PyAV, for a file that was left to decord."""
        judge = self.judge
        if error.path not in _warned:
            _warned.add(error.path)
            _logger.warning(
                "%s: decord failed (%s), which it does where memory runs short, and now and then at a damaged file; "
                "PyAV reads it, whose pixels are not quite the same",
                error.path,
                error.reason,
            )
        return judge

    @property
    def judge(self) -> PyAVReader:
        """The file through PyAV."""
        if self._judge is None:
            self._judge = PyAVReader(self._media, self._short_side, None)
        return self._judge

    @property
    def decoder(self) -> str:
        """What decodes the file."""
        return "pyav" if isinstance(self._video, PyAVReader) else "decord"

    @property
    def num_frames(self) -> int:
        """Frames in the file."""
        return self._video.num_frames

    @property
    def fps(self) -> float:
        """Average frames per second."""
        return self._video.fps

    @property
    def seconds(self) -> npt.NDArray[np.float64] | None:
        """(num_frames,) when each frame is shown, from the first on; None where that is not known."""
        return self._video.seconds

    def read(self, indices: Sequence[int] | npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """Decode frames; see ClipReader."""
        if not isinstance(self._video, PyAVReader):
            try:
                return self._video.read(indices)
            except VideoError as error:
                self._video = self._instead_of_decord(error)
        return self._video.read(indices)
