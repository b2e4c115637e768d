"""Videos through PyAV."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from tubeletx_train.data.errors import VideoError
from tubeletx_train.data.readers.media import Media
from tubeletx_train.data.readers.protocol import BaseReader, damaged, scaled_size, usable_rate


class PyAVReader(BaseReader):
    """PyAV, single-threaded. Slower than decord, but exact in every container, also where frames come at no fixed rate.

    Opening reads the file once without decoding it: the time stamps of its packets number the frames, and tell from
    which key frame to decode.
    """

    def __init__(self, media: Media, short_side: int | None, size: tuple[int, int] | None) -> None:
        super().__init__(media.path)
        del size  # found in the file's head at no cost
        self._media = media
        self._short_side = short_side
        self._container = self._open()
        self._index_packets()

    def _open(self) -> Any:
        try:
            container = av.open(self._media.source(), "r", metadata_errors="ignore")
        except (av.FFmpegError, ValueError, OSError):
            raise VideoError(self._path, "cannot be opened as a video") from None
        if not container.streams.video:
            raise VideoError(self._path, "holds no video stream")
        self._stream = container.streams.video[0]
        if self._stream.codec_context is None:
            raise VideoError(self._path, "cannot be opened as a video (no decoder for it)")
        self._stream.codec_context.thread_count = 1
        return container

    def _index_packets(self) -> None:
        """Number the frames in the order in which they are shown."""
        times: list[int | None] = []
        keys: list[int | None] = []
        stated = self._stream.frames
        packets = 0
        try:
            for packet in self._container.demux(self._stream):
                if not packet.size:
                    continue  # what ends the stream
                if packet.is_corrupt:
                    raise VideoError(self._path, "cannot be opened as a video (the file is cut off or damaged)")
                packets += 1
                if packet.is_discard:
                    continue  # cut away by an edit list
                times.append(packet.pts)
                if packet.is_keyframe:
                    keys.append(packet.pts)
        except (av.FFmpegError, ValueError, OSError):
            raise VideoError(self._path, "cannot be opened as a video (the file is cut off or damaged)") from None
        if packets < stated:
            raise VideoError(self._path, "cannot be opened as a video (the file is cut off or damaged)")
        if not times:
            raise VideoError(self._path, "holds no frames")
        self._num_frames = len(times)
        known = [time for time in times if time is not None]
        # Without time stamps of their own frames can only be counted from the first on.
        self._number = {time: i for i, time in enumerate(sorted(known))} if len(set(known)) == len(times) else None
        self._keys = sorted(self._number[time] for time in keys if time is not None) if self._number else []
        self._times = sorted(known)

    @property
    def num_frames(self) -> int:
        """Frames in the file."""
        return self._num_frames

    @property
    def fps(self) -> float:
        """Average frames per second."""
        rate = self._stream.average_rate
        return usable_rate(None if rate is None else float(rate))

    def _decode(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        found: dict[int, npt.NDArray[np.uint8]] = {}
        try:
            for run in self._runs(indices.tolist()):
                self._collect(run, self._frames_from(run[0]), found)
                missed = [index for index in run if index not in found]
                if missed:  # the seek came out behind them
                    self._collect(missed, self._frames_from(None), found)
        except (av.FFmpegError, ValueError, OSError):
            raise VideoError(self._path, damaged(indices)) from None
        if len(found) < len(indices):
            raise VideoError(self._path, damaged(indices))
        frames = [found[index] for index in indices.tolist()]
        if len({frame.shape for frame in frames}) > 1:
            raise VideoError(self._path, "its frames change their size")
        return np.stack(frames)

    def _runs(self, indices: list[int]) -> Iterator[list[int]]:
        """Split frames where decoding on takes longer than a seek: where a key frame lies between two of them."""
        segments = np.searchsorted(self._keys, indices, side="right") if self._keys else np.zeros(len(indices))
        for _, run in itertools.groupby(zip(segments.tolist(), indices, strict=True), key=lambda pair: pair[0]):
            yield [index for _, index in run]

    def _frames_from(self, index: int | None) -> Iterator[tuple[int, Any]]:
        """Frames with their numbers from a key frame at or before `index` on; from the first for None."""
        if index is None or self._number is None:
            self._container.close()
            self._container = self._open()
        else:
            self._container.seek(self._times[index], stream=self._stream, backward=True)
        for count, frame in enumerate(self._container.decode(self._stream)):
            number = count if self._number is None else self._number.get(frame.pts)
            if number is not None:
                yield number, frame

    def _collect(
        self, wanted: list[int], frames: Iterator[tuple[int, Any]], found: dict[int, npt.NDArray[np.uint8]]
    ) -> None:
        remaining = set(wanted)
        for number, frame in frames:
            if number in remaining:
                found[number] = self._pixels(frame)
                remaining.discard(number)
            if not remaining or number > wanted[-1]:
                return

    def _pixels(self, frame: Any) -> npt.NDArray[np.uint8]:
        """(H, W, 3) RGB, upright, resized."""
        width, height = scaled_size(frame.width, frame.height, self._short_side)
        pixels: npt.NDArray[np.uint8] = frame.to_ndarray(
            format="rgb24", width=width, height=height, interpolation="BICUBIC"
        )
        return np.rot90(pixels, frame.rotation // 90) if frame.rotation % 360 else pixels
