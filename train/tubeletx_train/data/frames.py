"""Where the frames of a video (segment) come from: the file, or memory."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from tqdm import tqdm

from tubeletx_train.data.errors import DataError, VideoError
from tubeletx_train.data.manifest import VideoRecord
from tubeletx_train.data.readers import open_record

# Frames decoded at once while the cache is filled: bounds what one long video holds besides the cache itself.
_CHUNK = 256


@dataclass(frozen=True)
class Source:
    """A video, or a segment of one, that clips are drawn from.

    Attributes:
        record: The (checked) file.
        first: First frame.
        num_frames: Frames from there.
    """

    record: VideoRecord
    first: int
    num_frames: int


def make_sources(records: Sequence[VideoRecord], segment_seconds: float | None) -> list[Source]:
    """Cut videos into segments of about equal length, as near to `segment_seconds` as whole segments allow.

    Args:
        records: Checked records.
        segment_seconds: Length aimed at; None makes one source of each record.

    Returns:
        The sources, those of a file next to each other.
    """
    sources = []
    for record in sorted(records, key=lambda r: r.path):
        first, stop = record.frame_range
        count = 1
        if segment_seconds is not None:
            assert record.fps is not None
            count = max(round((stop - first) / (segment_seconds * record.fps)), 1)
        edges = np.linspace(first, stop, min(count, stop - first) + 1).round().astype(int).tolist()
        sources += [Source(record, a, b - a) for a, b in itertools.pairwise(edges)]
    return sources


class FileFrames:
    """Reads from the file each time."""

    def __init__(self, reader: str, short_side: int | None) -> None:
        self._reader = reader
        self._short_side = short_side
        self._bad: dict[str, str] = {}

    def read(self, source: Source, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """Frames of a source, counted from its first: (T, H, W, 3) uint8. Raises VideoError, at once the second time.

        A file that failed is not tried again, so that it costs its decoding time once.
        """
        record = source.record
        if record.path in self._bad:
            raise VideoError(record.path, self._bad[record.path])
        try:
            return open_record(record, self._short_side, self._reader).read(source.first + indices)
        except VideoError as error:
            self._bad[record.path] = error.reason
            raise


class CachedFrames:
    """Holds every frame of every source in shared memory, which worker processes see without a copy."""

    def __init__(self, records: Sequence[VideoRecord], reader: str, short_side: int | None, limit_gb: float) -> None:
        """Decode everything.

        Raises:
            DataError: The frames would need more than `limit_gb`.
        """
        stretches = {record.path: record for record in records}
        size = sum(_cache_bytes(record, short_side) for record in stretches.values())
        if size > limit_gb * 1e9:
            raise DataError(
                f"cache_frames would hold {size / 1e9:.2f} GB of frames, more than cache_limit_gb={limit_gb:g}; "
                "lower decode_size, raise the limit or turn cache_frames off"
            )
        self._frames: dict[str, Tensor] = {}
        self._bad: dict[str, str] = {}
        for path, record in tqdm(stretches.items(), "decoding videos", unit="video", leave=False, disable=None):
            try:
                self._frames[path] = _decode(record, reader, short_side)
            except VideoError as error:
                self._bad[path] = error.reason

    def read(self, source: Source, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """See FileFrames."""
        path = source.record.path
        if path in self._bad:
            raise VideoError(path, self._bad[path])
        frames: npt.NDArray[np.uint8] = self._frames[path].numpy()
        return frames[source.first + indices]


def _cache_bytes(record: VideoRecord, short_side: int | None) -> float:
    if record.num_frames is None or record.width is None or record.height is None:
        raise ValueError(f"{record.path}: its size is unknown; run check_videos first")
    scale = 1.0 if short_side is None else short_side / min(record.width, record.height)
    return 3.0 * record.num_frames * round(record.width * scale) * round(record.height * scale)


def _decode(record: VideoRecord, reader: str, short_side: int | None) -> Tensor:
    """All frames of a file, (N, H, W, 3) uint8 in shared memory."""
    video = open_record(record, short_side, reader)
    chunks = [
        torch.from_numpy(video.read(range(start, min(start + _CHUNK, video.num_frames))))
        for start in range(0, video.num_frames, _CHUNK)
    ]
    frames = torch.cat(chunks)
    frames.share_memory_()  # type: ignore[no-untyped-call]
    return frames
