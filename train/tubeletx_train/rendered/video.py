"""Writes rendered frames as a video."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

from tubeletx_train.common.files import replaced_file

FPS = 8
_CODEC = "libx264"
# Close to the original, and the same bytes each time: threads share the work by chance, and the macroblock tree of x264
# reads memory that nothing was written to.
_OPTIONS = {"crf": "18", "preset": "medium", "threads": "1", "x264-params": "mbtree=0"}
_LONGEST_GROUP = 8  # frames that may hang on one key frame


def write_video(path: Path, frames: npt.NDArray[np.uint8]) -> None:
    """Write frames as H.264 in MP4, which any player and reader opens; the file is whole or absent.

    Args:
        path: File to write.
        frames: (T, H, W, 3), RGB, even sides.

    Raises:
        CommandError, UsageError: It cannot be written; see `replaced_file`.
    """
    _, height, width, _ = frames.shape
    with replaced_file(path, binary=True) as file, av.open(file, "w", format="mp4") as container:
        stream = container.add_stream(_CODEC, rate=Fraction(FPS), options=_OPTIONS)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.gop_size = _LONGEST_GROUP
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
