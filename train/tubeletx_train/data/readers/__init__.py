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

# Class names; each stands in the module named as the reader, which is imported, with its decoder, when first used.
READERS = {"decord": "DecordReader", "pyav": "PyAVReader", "torchcodec": "TorchCodecReader"}

__all__ = [
    "READERS",
    "ClipReader",
    "Media",
    "ShardMember",
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
        reader: A name in `READERS`: what decodes video files.
        size: (width, height) of the file's frames where known, which saves decord opening it twice.

    Raises:
        VideoError: The video cannot be opened.
        DataError: The reader is not installed.
        ValueError: No such reader.
    """
    if reader not in READERS:
        raise ValueError(f"reader must be one of {', '.join(sorted(READERS))}, not {reader!r}")
    if os.path.isdir(path):
        return FolderReader(path, short_side)
    media = Media.load(path)
    if path.lower().endswith(ZIP_EXTENSION):
        return ZipReader(media, short_side)
    video: ClipReader = require_reader(reader)(media, short_side, size)
    return video


def require_reader(reader: str) -> Any:
    """The class of a reader in `READERS`. Raises DataError where its decoder is not installed."""
    try:
        return getattr(importlib.import_module(f"{__name__}.{reader}"), READERS[reader])
    except (ImportError, RuntimeError, OSError) as error:  # the last two where TorchCodec does not find FFmpeg
        raise DataError(f"reader {reader} cannot be used: {' '.join(str(error).split())[:300]}") from error


def tells_rate(path: str) -> bool:
    """Whether a video is a file that states its frame rate, as pictures do not."""
    return not path.lower().endswith(ZIP_EXTENSION) and not os.path.isdir(path)
