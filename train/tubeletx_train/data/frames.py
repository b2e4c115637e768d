"""Where the frames of a video (segment) come from: the file, or memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from tqdm import tqdm

from tubeletx_train.config.data import DataConfig
from tubeletx_train.data.errors import DataError, VideoError
from tubeletx_train.data.readers import open_record
from tubeletx_train.data.record import VideoRecord
from tubeletx_train.data.table import ArrayWriter, as_table

# Frames decoded at once while the cache is filled: bounds what one long video holds besides the cache itself.
_CHUNK = 256

_PART = 1 << 16  # records that are cut together, so that what is made on the way stays small


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


class Sources(Sequence[Source]):
    """Videos, or their segments of about equal length, those of a file next to each other."""

    def __init__(self, records: Sequence[VideoRecord], segment_seconds: float | None) -> None:
        """Cuts videos into segments, as near to `segment_seconds` as whole segments allow.

        Args:
            records: Checked records.
            segment_seconds: Length aimed at; None makes one source of each record.
        """
        table = as_table(records)
        order, files = table.by_path()
        writer = ArrayWriter()
        of_file = np.zeros(table.num_files() + 1, np.int64)  # sources, after an empty place
        for start in range(0, max(len(table), 1), _PART):
            rows = order[start : start + _PART]
            chosen = table.select(rows)
            first, stop = chosen.frame_ranges()
            frames = stop - first
            counts = np.ones(len(rows), np.int32)
            if segment_seconds is not None:
                counts = np.round(frames / (segment_seconds * chosen.numbers("fps"))).astype(np.int32)
                counts = np.minimum(np.maximum(counts, 1), frames)
            of_row = np.repeat(np.arange(len(rows)), counts)
            place = np.arange(len(of_row)) - np.repeat(np.cumsum(counts) - counts, counts)
            length, first = (frames / counts)[of_row], first[of_row]
            edges = [np.round(first + step * length).astype(np.int32) for step in (place, place + 1)]
            file = files[start : start + _PART][of_row]
            writer.append("rows", rows[of_row])
            writer.append("first", edges[0])
            writer.append("frames", edges[1] - edges[0])
            writer.append("file", file)
            if len(file):
                of_file[file[0] + 1 : file[-1] + 2] += np.bincount(file - file[0])
        starts = np.cumsum(of_file, out=of_file)
        # Of millions of files each number counts.
        writer.append("file.starts", starts if starts[-1] >= 1 << 31 else starts.astype(np.int32))
        self._records = table
        self._arrays = writer.close()

    def file_of(self, index: int) -> tuple[int, int]:
        """The range of sources, half open, that are of the same file as this one."""
        file = int(self._arrays["file"][index])
        return int(self._arrays["file.starts"][file]), int(self._arrays["file.starts"][file + 1])

    def __len__(self) -> int:
        return len(self._arrays["rows"])

    @overload
    def __getitem__(self, index: int) -> Source: ...
    @overload
    def __getitem__(self, index: slice) -> list[Source]: ...
    def __getitem__(self, index: int | slice) -> Source | list[Source]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        row, first, frames = (int(self._arrays[name][index]) for name in ("rows", "first", "frames"))
        return Source(self._records[row], first, frames)


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


def make_frames(records: Sequence[VideoRecord], config: DataConfig) -> FileFrames | CachedFrames:
    """Where the settings say that frames come from.

    Raises:
        DataError: All frames are to be kept, and need more memory than allowed.
    """
    if config.cache_frames:
        return CachedFrames(records, config.reader, config.decode_size, config.cache_limit_gb)
    return FileFrames(config.reader, config.decode_size)


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
