"""Videos through decord."""

from __future__ import annotations

from typing import Any

import decord
import numpy as np
import numpy.typing as npt

from tubeletx_train.data.errors import VideoError
from tubeletx_train.data.readers.media import Media
from tubeletx_train.data.readers.protocol import BaseReader, damaged, scaled_size, usable_rate

decord.logging.set_level(decord.logging.QUIET)


class DecordReader(BaseReader):
    """decord, single-threaded: workers are the parallelism.

    Seeking is exact in most MP4, Matroska, WebM, FLV and AVI files. In AVI with B-frames or H.264, open groups of
    pictures, intra refresh, MP4 cut by an edit list, ASF and MPEG transport streams decord misses by up to some thirty
    frames, or repeats the last one; elsewhere `PyAVReader.is_plain` tells.
    Whether it reads a damaged file may differ from one time to the next, as its decoder runs ahead in a thread.
    """

    def __init__(self, media: Media, short_side: int | None, size: tuple[int, int] | None) -> None:
        super().__init__(media.path)
        self._media = media
        self.short_side = short_side
        if short_side is None:
            self._video = self._open(-1, -1)
            return
        if size is None:
            self._video = self._open(-1, -1)
            height, width = self.read([0]).shape[1:3]
            size = (width, height)
        decoded_at = decord_size(*size, short_side)
        self.short_side = min(decoded_at)
        self._video = self._open(*decoded_at)

    def _open(self, width: int, height: int) -> Any:
        try:
            video = decord.VideoReader(self._media.source(), num_threads=1, width=width, height=height)
            frames = len(video)
        except (RuntimeError, decord.DECORDError) as error:
            raise VideoError(self._path, _reason(error, "cannot be opened as a video")) from None
        if frames < 1:
            raise VideoError(self._path, "holds no frames")
        return video

    @property
    def num_frames(self) -> int:
        """Frames in the file."""
        return len(self._video)

    @property
    def fps(self) -> float:
        """Average frames per second."""
        return usable_rate(float(self._video.get_avg_fps()))

    @property
    def seconds(self) -> npt.NDArray[np.float64]:
        """(num_frames,) when each frame is shown, from the first on."""
        starts = self._video.get_frame_timestamp(range(len(self._video)))[:, 0]
        times: npt.NDArray[np.float64] = np.asarray(starts, np.float64) - float(starts[0])
        return times

    @property
    def decoder(self) -> str:
        """This one."""
        return "decord_only"

    def _decode(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        try:
            frames: npt.NDArray[np.uint8] = self._video.get_batch(indices.tolist()).asnumpy()
        except (RuntimeError, decord.DECORDError) as error:
            raise VideoError(self._path, _reason(error, damaged(indices))) from None
        return frames


def decord_size(width: int, height: int, short_side: int) -> tuple[int, int]:
    """The (width, height) to have decord decode at.

    decord 0.6 pads rows to a multiple of 32 pixels and takes the padded row for one of more channels where its length
    is a multiple of the width (widths such as 16, 24, 48 and 72 fail with "The size must exactly match"). The next
    larger short side that avoids this is used instead.
    """
    while True:
        new_width, new_height = scaled_size(width, height, short_side)
        if new_width % 32 == 0 or (3 * 32 * -(-new_width // 32)) % new_width:
            return new_width, new_height
        short_side += 1


def _reason(error: Exception, summary: str) -> str:
    """One line in place of decord's C++ back trace."""
    text = str(error)
    if "The size must exactly match" in text:
        return (
            "decord cannot decode frames of this width (a fault it has at 16, 24, 48 and 72 pixels); "
            "resize the video, or use reader pyav"
        )
    if "st_nb >= 0" in text:
        return "holds no video stream"
    if "av_read_frame failed" in text:
        return f"{summary} (the file is cut off or damaged)"
    if "duration/frame-count" in text:
        return f"{summary} (no duration: a picture, or not a video)"
    return summary
