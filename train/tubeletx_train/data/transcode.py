"""Encodes a video anew, smaller and with many key frames, so that any of its frames are decoded in little time."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from tubeletx_train.common.limits import require_at_least, require_positive, require_share
from tubeletx_train.data.errors import VideoError
from tubeletx_train.data.inspection import Finding, uneven_seconds
from tubeletx_train.data.readers import Media, open_video, tells_rate
from tubeletx_train.data.readers.protocol import ClipReader, scaled_size, usable_rate
from tubeletx_train.data.readers.pyav import FrameResizer, PyAVReader, orientation, upright

EXTENSION = "mp4"
READER = "pyav"  # what decodes such a file fastest: it passes over groups of pictures that are not asked for

_PICTURES_AT_ONCE = 32
_COMPARED = 8  # frames of each video whose quality is measured
_LARGEST_PSNR = 99.0  # dB, where nothing differs
_MOST_TICKS = 1 << 31  # of a frame's duration in MP4


@dataclass(frozen=True)
class TranscodeConfig:
    """How videos are encoded anew.

    Attributes:
        short_side: Short side of the frames, pixels, an even number; smaller videos keep their size. null packs the
            files as they are.
        gop: Frames of a group of pictures: decoding begins at the first of the group. 1 encodes every frame by itself,
            which makes files larger and clips of wide strides faster.
        crf: Constant rate factor of x264, 1 (best) to 51.
        timeout: Seconds without a new frame after which a video counts as unreadable.
        max_bad_share: Share of the videos that may be unreadable before the command stops with the list; up to it they
            are named and left out.
    """

    short_side: int | None = None
    gop: int = 12
    crf: int = 18
    timeout: float = 60.0
    max_bad_share: float = 0.05

    def __post_init__(self) -> None:
        if self.short_side is not None and (self.short_side < 2 or self.short_side % 2):
            raise ValueError(f"short_side: got {self.short_side}, needs an even number of 2 or more")
        require_at_least(self, 1, "gop", "crf")
        if self.crf > 51:
            raise ValueError(f"crf: got {self.crf}, needs one from 1 to 51")
        require_positive(self, "timeout")
        require_share(self, "max_bad_share")


@dataclass(frozen=True)
class Transcoded:
    """A video encoded anew.

    Attributes:
        content: The bytes of an MP4 file with H.264 video and nothing else.
        finding: What a check of it finds, frames and their times being those of the source.
        psnr: Peak signal-to-noise ratio of some of its frames, together, to those of the source at the same size, dB,
            as readers give them: 8-bit red, green, blue.
    """

    content: bytes
    finding: Finding
    psnr: float


@dataclass(frozen=True)
class _Source:
    """A video to encode: FFmpeg's frames, as they are stored, and when each is shown, in ticks of `tick` seconds."""

    frames: Iterator[Any]
    ticks: list[int]
    tick: Fraction
    fps: float
    sample_aspect_ratio: Fraction | None
    seconds: list[float] | None


def transcode(path: str, config: TranscodeConfig, fps: float | None, sign_of_life: Callable[[], None]) -> Transcoded:
    """Encode a video anew, read the result, and compare.

    The frames stay the same in number and order and keep their times, so that whatever counts frames or seconds of the
    source holds; sound is left out. Frames are turned upright; pixels that are not square stay so, and the file says
    it. Sides become even numbers, as the colours of H.264 have half the size.

    Args:
        path: A video file, a folder or zip of pictures, or a shard's member.
        config: How it is encoded, `short_side` given.
        fps: Rate of pictures, where it is known; files tell their own.
        sign_of_life: Called after each frame.

    Raises:
        VideoError: The video cannot be read to its end, or not encoded.
    """
    source = _open(path, fps)
    first = next(source.frames)
    turned = orientation(first)
    resize = FrameResizer()
    width, height = _even_size(first.width, first.height, config.short_side)
    output = io.BytesIO()
    chosen = set(np.linspace(0, len(source.ticks) - 1, _COMPARED).round().astype(int).tolist())
    compared: dict[int, npt.NDArray[np.uint8]] = {}
    try:
        with _Encoder(output, source, config, first, (height, width) if turned[0] else (width, height)) as encoder:
            for number, frame in enumerate(itertools.chain([first], source.frames)):
                if (frame.width, frame.height) != (first.width, first.height):
                    raise VideoError(path, "its frames change their size")
                if number in chosen:
                    compared[number] = upright(resize(frame, width, height, "rgb24").to_ndarray(), turned)
                encoder.add(number, _turned(encoder.resized(frame, width, height), turned))
                sign_of_life()
    except (av.FFmpegError, ValueError, OverflowError) as error:
        raise VideoError(path, f"cannot be encoded ({' '.join(str(error).split())})") from None
    content = output.getvalue()
    finding, psnr = _compare(Media(path, content), source, compared)
    return Transcoded(content, finding, psnr)


def _even_size(width: int, height: int, short_side: int | None) -> tuple[int, int]:
    short = min(width, height)
    width, height = scaled_size(width, height, None if short_side is None or short < short_side else short_side)
    return max(2 * round(width / 2), 2), max(2 * round(height / 2), 2)


def _open(path: str, fps: float | None) -> _Source:
    if not tells_rate(path):
        return _open_pictures(open_video(path, None, READER), usable_rate(fps))
    video = PyAVReader(Media.load(path), None, None)
    ticks, tick = video.ticks
    frames = (frame for _, frame in video.frames())
    return _Source(frames, ticks, tick, video.fps, video.sample_aspect_ratio, uneven_seconds(video))


def _open_pictures(video: ClipReader, fps: float) -> _Source:
    def frames() -> Iterator[Any]:
        for first in range(0, video.num_frames, _PICTURES_AT_ONCE):
            pictures = video.read(range(first, min(first + _PICTURES_AT_ONCE, video.num_frames)))
            yield from (av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), "rgb24") for picture in pictures)

    step = 1 / Fraction(fps).limit_denominator(1001)
    return _Source(frames(), list(range(video.num_frames)), step, fps, None, None)


class _Encoder:
    """H.264 in MP4: key frames at fixed places, no frame before one that it needs, no deblocking, one thread."""

    def __init__(
        self, output: io.BytesIO, source: _Source, config: TranscodeConfig, first: Any, size: tuple[int, int]
    ) -> None:
        self._source = source
        self._resize = FrameResizer()
        self._colors = _color_options(first)
        self._container = av.open(output, "w", format=EXTENSION, options={"fflags": "+bitexact"})
        rate = Fraction(source.fps).limit_denominator(1001)
        groups = f"keyint={config.gop}:min-keyint={config.gop}:scenecut=0:bframes=0"
        options = {
            "preset": "veryfast",
            "tune": "fastdecode",
            "crf": str(config.crf),
            # Looking ahead gave other bytes about once in a hundred videos.
            "x264-params": f"{groups}:threads=1:mbtree=0:rc-lookahead=0",
        }
        stream: Any = self._container.add_stream("libx264", rate=rate, options=options)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.thread_count = 1
        stream.time_base = context.time_base = source.tick
        if source.sample_aspect_ratio:
            ratio = source.sample_aspect_ratio
            context.sample_aspect_ratio = 1 / ratio if orientation(first)[0] else ratio
        for name, value in _color_tags(first).items():
            setattr(context, name, value)
        self._stream = stream

    def __enter__(self) -> _Encoder:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._write(self._stream.encode(None))
        self._container.close()

    def resized(self, frame: Any, width: int, height: int) -> Any:
        """A frame as H.264 takes it."""
        return self._resize(frame, width, height, "yuv420p", **self._colors)

    def add(self, number: int, frame: Any) -> None:
        """Encode the next frame."""
        frame.pts, frame.time_base = self._source.ticks[number], self._source.tick
        frame.pict_type = 0  # the encoder's to choose, not that of the source
        self._write(self._stream.encode(frame))

    def _write(self, packets: Iterable[Any]) -> None:
        for packet in packets:
            packet.duration = self._duration(packet.pts)
            self._container.mux(packet)

    def _duration(self, tick: int) -> int:
        """Ticks to the next frame; the last one lasts until the average rate is that of the source."""
        ticks = self._source.ticks
        place = int(np.searchsorted(ticks, tick))
        if place + 1 < len(ticks):
            return ticks[place + 1] - tick
        end = round(len(ticks) / Fraction(self._source.fps) / self._source.tick)
        return max(end - tick, 1)


def _color_options(frame: Any) -> dict[str, str]:
    """The range of colours that a frame has, and of what is encoded, which is the usual narrow one."""
    return {"src_color_range": "JPEG", "dst_color_range": "MPEG"} if frame.color_range == _FULL else {}


_FULL = 2  # FFmpeg's name is JPEG


def _color_tags(frame: Any) -> dict[str, int]:
    """What tells decoders how to make red, green, blue; pictures in those colours become BT.601, as without a word."""
    if frame.format.is_rgb:
        return {}
    names = ("colorspace", "color_primaries", "color_trc")
    return {name: int(getattr(frame, name)) for name in names} | {"color_range": 1}


def _turned(frame: Any, turned: tuple[bool, bool, bool]) -> Any:
    """A planar frame upright."""
    if turned == (False, False, False):
        return frame
    planes = []
    for plane in frame.planes:
        rows = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]
        planes.append(np.ascontiguousarray(upright(rows, turned)))
    height, width = planes[0].shape
    joined = np.concatenate([plane.reshape(-1) for plane in planes]).reshape(height * 3 // 2, width)
    return av.VideoFrame.from_ndarray(joined, "yuv420p")


def _compare(media: Media, source: _Source, compared: dict[int, npt.NDArray[np.uint8]]) -> tuple[Finding, float]:
    """What a check of the result finds; and its quality. Raises VideoError where it is not what it should be."""
    video = PyAVReader(media, None, None)
    ticks, tick = video.ticks
    times, expected = (
        np.array(values, np.float64) * float(unit) for values, unit in ((ticks, tick), (source.ticks, source.tick))
    )
    if len(times) != len(expected) or np.abs(times - expected).max() > 1e-3:
        raise VideoError(media.path, "cannot be encoded (its frames do not come out at their times)")
    numbers = sorted(compared)
    frames = video.read(numbers)
    error = np.mean(
        [
            (np.subtract(frame, compared[n], dtype=np.float64) ** 2).mean()
            for n, frame in zip(numbers, frames, strict=True)
        ]
    )
    psnr = min(10 * np.log10(255**2 / error), _LARGEST_PSNR) if error else _LARGEST_PSNR
    height, width = frames.shape[1:3]
    finding = Finding(video.num_frames, source.fps, int(width), int(height), READER, source.seconds)
    return finding, round(float(psnr), 3)
