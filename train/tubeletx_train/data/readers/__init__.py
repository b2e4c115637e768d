"""Videos of every kind behind one small protocol.

A path is read by what it is: a folder as a folder of pictures, a `.zip` as a zip of pictures, anything else by the
decoder that `reader` names. A member of a tar shard (`SHARD.tar#OFFSET:SIZE:NAME`) is read as the file it holds.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

from tubeletx_train.data.errors import DataError
from tubeletx_train.data.find import ZIP_EXTENSION
from tubeletx_train.data.readers.media import Media, ShardMember, storage_path
from tubeletx_train.data.readers.pictures import FolderReader, ZipReader
from tubeletx_train.data.readers.protocol import ClipReader
from tubeletx_train.data.record import VideoRecord

# Modules and classes; a module is imported, with its decoder, when first used.
READERS = {
    "decord": ("decord_or_pyav", "DecordOrPyAVReader"),
    "decord_only": ("decord", "DecordReader"),
    "pyav": ("pyav", "PyAVReader"),
    "torchcodec": ("torchcodec", "TorchCodecReader"),
}

__all__ = [
    "READERS",
    "ClipReader",
    "Media",
    "ShardMember",
    "open_record",
    "open_video",
    "require_reader",
    "storage_path",
    "tells_rate",
]


def open_video(
    path: str, short_side: int | None = None, reader: str = "decord", size: tuple[int, int] | None = None
) -> ClipReader:
    """Open a video.

    Args:
        path: A video file, a folder or zip of numbered pictures, or a shard's member.
        short_side: Resize frames so that their short side is this many pixels, as they are decoded, the aspect kept
            (a few sizes that decord cannot produce become a little larger); None keeps the file's size.
        reader: A name in `READERS`: what decodes video files. "decord" leaves to PyAV what it does not read, or not
            exactly; "decord_only" does not.
        size: (width, height) of the frames of a file that was checked, which saves looking at it again.

    Raises:
        VideoError: The video cannot be opened.
        DataError: The reader is not installed.
        ValueError: No such reader.
    """
    if reader not in READERS:
        raise ValueError(f"reader: got {reader!r}, needs one of {', '.join(sorted(READERS))}")
    if os.path.isdir(path):
        return FolderReader(path, short_side)
    media = Media.load(path)
    if path.lower().endswith(ZIP_EXTENSION):
        return ZipReader(media, short_side)
    video: ClipReader = require_reader(reader)(media, short_side, size)
    return video


def open_record(record: VideoRecord, short_side: int | None, reader: str) -> ClipReader:
    """Open the video of a record, by what a check found out about it; see `open_video`."""
    size = (record.width, record.height) if record.width and record.height else None
    return open_video(record.path, short_side, record.reader or reader, size)


def require_reader(reader: str) -> Any:
    """The class of a reader in `READERS`. Raises DataError where its decoder is not installed."""
    try:
        module, name = READERS[reader]
        return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    except (ImportError, RuntimeError, OSError) as error:  # the last two where TorchCodec does not find FFmpeg
        advice = ""
        if reader == "decord" and isinstance(error, ModuleNotFoundError) and error.name == "av":
            advice = "; pip install av, which reads what decord does not, or take reader decord_only"
        if reader == "decord_only" and isinstance(error, ModuleNotFoundError):
            advice = "; take reader decord, which leaves to PyAV what decord cannot read here, or pyav"
        raise DataError(f"reader {reader} cannot be used: {' '.join(str(error).split())[:300]}{advice}") from error


def tells_rate(path: str) -> bool:
    """Whether a video is a file that states its frame rate, as pictures do not."""
    return not path.lower().endswith(ZIP_EXTENSION) and not os.path.isdir(path)
