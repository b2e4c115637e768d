"""Videos through PyAV."""

from __future__ import annotations

import bisect
import itertools
import struct
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.stream import Disposition
from av.video.reformatter import VideoReformatter

from tubeletx_train.data.errors import VideoError
from tubeletx_train.data.readers.media import Media
from tubeletx_train.data.readers.protocol import BaseReader, damaged, scaled_size, usable_rate

_FINEST = 1 << 20  # of frames a second, their denominator

# Containers in which seeks find key frames by their times; AVI is another such, but for H.264 and HEVC.
_SOUGHT_EXACTLY = frozenset({"mov", "matroska", "flv"})

# Bytes that a frame takes of an AVI file at least, also an empty one.
_LEAST_CHUNK = 8

# Packets up to which passing over them is quicker than a seek.
_NEAR = 64


class FrameResizer:
    """Brings FFmpeg's frames to a size and a pixel format, by one thread, and one set of tables for all frames."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()

    def __call__(self, frame: Any, width: int, height: int, pixel_format: str, **colors: str) -> Any:
        """The frame in another size and format; `colors` are those of PyAV's `reformat`."""
        options: dict[str, Any] = {"interpolation": "BICUBIC", "threads": 1, **colors}
        return self._reformatter.reformat(frame, width, height, pixel_format, **options)


# Text in a file that is not UTF-8 is no reason to refuse its pictures. From 19 on PyAV never does.
_ANY_METADATA: dict[str, Any] = {"metadata_errors": "ignore"} if int(av.__version__.split(".")[0]) < 19 else {}


class PyAVReader(BaseReader):
    """PyAV, single-threaded. Slower than decord, but exact in every container, also where frames come at no fixed rate.

    Opening reads the file once without decoding it: the time stamps of its packets number the frames, and tell from
    which key frame to decode. Where a shard's member is an MP4 file whose frames are stored in the order in which they
    are shown, as `shards` transcodes them, its own index tells both, and packets are checked against that as they are
    read.
    """

    def __init__(self, media: Media, short_side: int | None, size: tuple[int, int] | None) -> None:
        super().__init__(media.path)
        del size  # found in the file's head at no cost
        self._media = media
        self._short_side = short_side
        self._container: Any = None
        self._times: list[int] = []
        self._keys: list[int] = []
        self._number: dict[int, int] | None = None
        self._resizer = FrameResizer()
        self._open()
        self._is_checked = False  # every packet, not those alone that were read
        if not self._take_index():
            self._index_packets()

    def __del__(self) -> None:
        # Container and streams hold each other: left alone they would stay until a garbage collection.
        self._close()

    def _close(self) -> None:
        if self._container is not None:
            self._container.close()
            self._container = None

    def _open(self) -> None:
        self._close()
        try:
            self._container = av.open(self._media.source(), "r", **_ANY_METADATA)
        except (av.FFmpegError, ValueError, OSError) as error:
            raise VideoError(self._path, f"cannot be opened as a video ({_cause(error)})") from None
        stream = _video_stream(self._container)
        if stream is None:
            raise VideoError(self._path, "holds no video stream")
        self._stream: Any = stream
        if self._stream.codec_context is None:
            raise VideoError(self._path, "cannot be opened as a video (no decoder for it)")
        self._stream.codec_context.thread_count = 1

    def _take_index(self) -> bool:
        """Number the frames by the index of an MP4 file in memory; returns whether it tells all that packets would.

        That is so where each packet is listed and lies within the file, none is cut out by an edit list, and none is
        shown out of its order. What the index cannot tell `_packets` checks.
        """
        content, stream = self._media.content, self._stream
        if content is None or "mp4" not in self._formats() or _has_fragments(content):
            return False
        entries = stream.index_entries
        if not len(entries) or len(entries) != stream.frames or stream.codec_context.has_b_frames:
            return False
        listed = [(entry.timestamp, entry.is_keyframe, entry.is_discard, entry.pos + entry.size) for entry in entries]
        times, are_keys, are_cut, ends = map(list, zip(*listed, strict=True))
        if not are_keys[0] or any(are_cut) or max(ends) > len(content):
            return False
        if any(before >= time for before, time in itertools.pairwise(times)):
            return False
        keys = [number for number, is_key in enumerate(are_keys) if is_key]
        self._num_frames, self._times, self._keys = len(times), times, keys
        self._number = {time: number for number, time in enumerate(times)}
        self._found_by_key_frames = self._begins_at_each_key = True
        return True

    def _index_packets(self) -> None:
        """Number the frames in the order in which they are shown."""
        times: list[int | None] = []
        keys: list[int | None] = []
        packets = 0
        reached = 0  # AVI numbers its frames, those that were dropped while it was recorded too
        cut = False
        self._keys_apart = True
        closed = True
        self._begins_at_each_key = True
        key: int | None = None
        try:
            for packet in self._container.demux(self._stream):
                if not packet.size:
                    continue  # what ends the stream
                if packet.is_corrupt:
                    raise VideoError(self._path, "cannot be opened as a video (the file is cut off or damaged)")
                packets += 1
                reached = packets if packet.dts is None else packet.dts + 1
                if packet.is_discard:
                    cut = True  # by an edit list
                    continue
                times.append(packet.pts)
                if packet.is_keyframe:
                    begins = _starts_anew(packet)
                    closed = closed and begins
                    if key is not None and packet.dts is not None and packet.dts <= key:
                        self._keys_apart = False
                    key = packet.pts
                    if begins or _is_intra(packet):
                        keys.append(packet.pts)
                    else:
                        self._begins_at_each_key = False
                elif key is not None and packet.pts is not None and packet.pts < key:
                    closed = False  # shown before the key frame that it follows: it needs the group before, too
        except (av.FFmpegError, ValueError, OSError):
            raise VideoError(self._path, "cannot be opened as a video (the file is cut off or damaged)") from None
        is_avi = "avi" in self._formats()
        if max(packets, reached if is_avi else 0) < self._stated_frames():
            raise VideoError(self._path, "cannot be opened as a video (the file is cut off or damaged)")
        if not times:
            raise VideoError(self._path, "holds no frames")
        self._num_frames = len(times)
        known = [time for time in times if time is not None]
        # AVI and ASF files have no time stamps of showing: where none is earlier than that of the packet before, though
        # frames change places, those made up are of the order of decoding.
        made_up = (
            (is_avi or "asf" in self._formats()) and self._stream.codec_context.has_b_frames and known == sorted(known)
        )
        # Without time stamps of their own frames can only be counted from the first on.
        stamped = len(set(known)) == len(times) and not made_up
        self._number = {time: i for i, time in enumerate(sorted(known))} if stamped else None
        self._keys = sorted(self._number[time] for time in keys if time is not None) if self._number else []
        self._times = sorted(known)
        self._found_by_key_frames = self._number is not None and closed and not cut and "mpegts" not in self._formats()
        self._is_checked = True

    def _formats(self) -> list[str]:
        """The container's, by FFmpeg's names."""
        names: list[str] = self._container.format.name.split(",")
        return names

    def _stated_frames(self) -> int:
        """Frames that there must be by the header; 0 where it does not tell."""
        stated: int = self._stream.frames
        if "avi" not in self._formats():
            return stated
        # Files are written whose header counts one frame more than there are, and, by programs that cannot go back to
        # it, files that count more than they can hold.
        return stated - 1 if stated * _LEAST_CHUNK <= self._container.size else 0

    @property
    def num_frames(self) -> int:
        """Frames in the file."""
        return self._num_frames

    @property
    def fps(self) -> float:
        """Average frames per second."""
        rate = self._stream.average_rate
        return usable_rate(None if rate is None else float(rate))

    @property
    def seconds(self) -> npt.NDArray[np.float64] | None:
        """(num_frames,) when each frame is shown, from the first on; None where the file has no time stamps."""
        self._check_packets()
        if self._number is None or self._stream.time_base is None:
            return None
        return (np.asarray(self._times, np.float64) - self._times[0]) * float(self._stream.time_base)

    @property
    def decoder(self) -> str:
        """This one."""
        return "pyav"

    def is_plain(self) -> bool:
        """Whether a decoder that seeks to key frames and turns frames by right angles reads the file exactly.

        A container in which a seek finds the key frame asked for, no edit list, no open group of pictures, a time stamp
        for each frame, no mirrored frames.
        """
        self._check_packets()
        if not (self._found_by_key_frames and self._is_found_exactly()):
            return False
        try:
            _, frame = next(self._frames_from(None))
        except (StopIteration, av.FFmpegError, ValueError, OSError):
            return False
        transposed, left_right, upside_down = orientation(frame)
        return (left_right != upside_down) == transposed

    def _is_found_exactly(self) -> bool:
        """Whether a seek to the time at which a key frame is shown comes out there: of what was tried, see the tests.

        Where frames are sought by when they are decoded, it comes out at the next key frame if that is decoded by then.
        """
        if "avi" in self._formats():  # decord crashes at counts that cannot be
            return self._stream.codec_context.name not in _UNITS and self._stated_frames() > 0
        return self._keys_apart and not _SOUGHT_EXACTLY.isdisjoint(self._formats())

    def _decode(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        wanted = indices.tolist()
        try:
            found = self._find(wanted)
            if len(found) < len(wanted) and not self._is_checked:
                self._check_packets()
                found = self._find([number for number in wanted if number < self._num_frames])
        except (av.FFmpegError, ValueError, OSError):
            raise VideoError(self._path, damaged(indices)) from None
        if len(found) < len(indices):
            raise VideoError(self._path, damaged(indices))
        frames = [found[index] for index in wanted]
        if len({frame.shape for frame in frames}) > 1:
            raise VideoError(self._path, "its frames change their size")
        return np.stack(frames)

    def _find(self, wanted: list[int]) -> dict[int, npt.NDArray[np.uint8]]:
        """Those of some frames that are there, by number."""
        found: dict[int, npt.NDArray[np.uint8]] = {}
        for run in self._runs(wanted):
            self._collect(run, self._frames_among(run), found)
            missed = [index for index in run if index not in found]
            if missed:  # the seek came out behind them
                self._collect(missed, self._frames_from(None), found)
        return found

    def frames(self) -> Iterator[tuple[int, Any]]:
        """All frames, as FFmpeg's, with their numbers. Raises VideoError where one of them cannot be decoded."""
        expected = 0
        self._check_packets()
        try:
            for number, frame in self._frames_from(None):
                if number != expected:
                    break
                expected += 1
                yield number, frame
        except (av.FFmpegError, ValueError, OSError):
            pass
        if expected < self._num_frames:
            raise VideoError(self._path, damaged(np.arange(expected, self._num_frames)))

    @property
    def ticks(self) -> tuple[list[int], Fraction]:
        """When each frame is shown, from the first on, and the seconds of which those numbers are multiples."""
        self._check_packets()
        if self._number is None or self._stream.time_base is None:
            step = 1 / Fraction(self.fps).limit_denominator(_FINEST)
            return list(range(self._num_frames)), step
        return [time - self._times[0] for time in self._times], self._stream.time_base

    @property
    def sample_aspect_ratio(self) -> Fraction | None:
        """Width to height of a stored pixel, None where the file does not tell."""
        ratio: Fraction | None = self._stream.sample_aspect_ratio
        return ratio

    def _group(self, number: int) -> int:
        """The group of pictures that a frame is of: how many key frames come up to it."""
        return bisect.bisect_right(self._keys, number)

    def _runs(self, indices: list[int]) -> Iterator[list[int]]:
        """Split frames where a seek gets on faster: a key frame lies between two of them.

        Where packets that are not needed can be passed over, they must be many.
        """
        near = _NEAR if self._stands_alone() else 0
        run = indices[:1]
        for before, index in itertools.pairwise(indices):
            if index - before > near and self._group(before) != self._group(index):
                yield run
                run = []
            run.append(index)
        yield run

    def _stands_alone(self) -> bool:
        """Whether a group of pictures needs no other, and no frame one that is shown later."""
        return self._found_by_key_frames and not self._stream.codec_context.has_b_frames

    def _frames_among(self, wanted: list[int]) -> Iterator[tuple[int, Any]]:
        """Frames with their numbers, those wanted among them, and few others."""
        if self._group(wanted[0]) == self._group(wanted[-1]):
            yield from self._frames_from(wanted[0])
            return
        assert self._number is not None
        last = {self._group(number): number for number in wanted}  # of each group
        self._seek(wanted[0])
        for packet in self._packets():
            if not packet.size:
                break  # what ends the stream
            number = self._number[packet.pts]
            if number > wanted[-1]:
                break
            if number <= last.get(self._group(number), -1):
                yield from self._numbered(packet.decode())
        yield from self._numbered(self._stream.codec_context.decode(None))  # what it holds back

    def _packets(self) -> Iterator[Any]:
        """Packets from here on, up to one that is not as the index has it, where that alone numbers the frames."""
        for packet in self._container.demux(self._stream):
            if packet.size and not self._is_checked and not self._is_as_listed(packet):
                return
            yield packet

    def _is_as_listed(self, packet: Any) -> bool:
        assert self._number is not None
        number = self._number.get(packet.pts)
        if number is None or packet.pts != packet.dts or packet.is_corrupt:
            return False
        group = self._group(number)
        if packet.is_keyframe != (self._keys[group - 1] == number):
            return False
        return not packet.is_keyframe or _starts_anew(packet)

    def _check_packets(self) -> None:
        """Number the frames by the packets where the index did. Raises VideoError as opening does."""
        if not self._is_checked:
            self._open()
            self._index_packets()

    def _numbered(self, frames: Iterable[Any]) -> Iterator[tuple[int, Any]]:
        assert self._number is not None
        for frame in frames:
            number = self._number.get(frame.pts)
            if number is not None:
                yield number, frame

    def _frames_from(self, index: int | None) -> Iterator[tuple[int, Any]]:
        """Frames with their numbers from a key frame at or before `index` on; from the first for None."""
        if index is None or self._number is None:
            self._open()
        else:
            self._seek(index)
        frames = (frame for packet in self._packets() for frame in packet.decode())
        yield from enumerate(frames) if self._number is None else self._numbered(frames)

    def _seek(self, number: int) -> None:
        """Go to where decoding has to begin for a frame."""
        if not self._begins_at_each_key:
            group = self._group(number)
            if not group:
                self._open()
                return
            number = self._keys[group - 1]  # the container would go to the last one before the frame
        self._container.seek(self._times[number], stream=self._stream, backward=True)

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
        pixels: npt.NDArray[np.uint8] = self._resizer(frame, width, height, "rgb24").to_ndarray()
        return upright(pixels, orientation(frame))


def _video_stream(container: Any) -> Any | None:
    """The stream of several that players show and decoders read; None where there is a cover picture at most."""
    stream = container.streams.best("video")
    return None if stream is None or Disposition.attached_pic in stream.disposition else stream


def _has_fragments(content: bytes) -> bool:
    """Whether an MP4 file holds frames that its main index does not list, or its boxes do not follow each other."""
    at = 0
    while at < len(content):
        size = int.from_bytes(content[at : at + 4], "big")
        if size == 1:
            size = int.from_bytes(content[at + 8 : at + 16], "big")
        if size < 8 or content[at + 4 : at + 8] == b"moof":
            return True
        at += size
    return False


# For a codec: the byte of its description that holds the bytes of a length less one, how a unit's first byte tells its
# type, and the types of pictures before which a decoder forgets everything (IDR; in HEVC BLA too).
_UNITS: dict[str, tuple[int, int, int, frozenset[int]]] = {
    "h264": (4, 0, 0x1F, frozenset({5})),
    "hevc": (21, 1, 0x3F, frozenset(range(16, 21))),
}
# Of H.264, a slice of a picture that is no IDR.
_SLICE = 1


def _starts_anew(packet: Any) -> bool:
    """Whether nothing from a key frame on needs what came before it; True for codecs that do not tell.

    H.264 and HEVC mark as key frames also pictures at which decoding can begin although later ones refer past them.
    """
    name = packet.stream.codec_context.name
    if name not in _UNITS:
        return True
    _, shift, mask, fresh = _UNITS[name]
    return any((unit[0] >> shift) & mask in fresh for unit in _units(packet))


def _is_intra(packet: Any) -> bool:
    """Whether a key frame that does not start anew is whole when decoding begins there; True for all but H.264.

    H.264 marks as key frames also pictures from which on the image is renewed part by part (intra refresh): what is
    decoded from there on differs from what is decoded from the first frame on.
    """
    if packet.stream.codec_context.name != "h264":
        return True
    first = next((unit[1] for unit in _units(packet) if unit[0] & 0x1F == _SLICE and len(unit) > 1), 0)
    # A set bit, as the first slice begins at block 0, then the type of the slice as an Exp-Golomb code: 2, or 7 where
    # all slices of the picture are of that type.
    return first >> 4 == 0b1011 or first == 0b10001000


def _units(packet: Any) -> Iterator[bytes]:
    """The units of a packet of H.264 or HEVC, each with its head."""
    context = packet.stream.codec_context
    data, extra = bytes(packet), context.extradata or b""
    if data[:3] == b"\0\0\1" or data[:4] == b"\0\0\0\1":
        yield from (unit for unit in data.split(b"\0\0\1") if unit)
        return
    place = _UNITS[context.name][0]
    length = (extra[place] & 3) + 1 if len(extra) > place else 4
    at = 0
    while at + length < len(data):
        size = int.from_bytes(data[at : at + length], "big")
        at += length
        if size:
            yield data[at : at + size]
        at += size


def orientation(frame: Any) -> tuple[bool, bool, bool]:
    """How a frame is to be shown: rows and columns exchanged first, then flipped left to right, then upside down.

    From its display matrix, nine 32-bit numbers of which a, b, c, d map (x, y) to (a x + c y, b x + d y); turns that
    are no right angles are rounded to one.
    """
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return False, False, False
    a, b, _, c, d = struct.unpack("5i", bytes(matrix)[:20])
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return False, a < 0, d < 0
    return True, c < 0, b < 0


def upright(frame: npt.NDArray[np.uint8], turned: tuple[bool, bool, bool]) -> npt.NDArray[np.uint8]:
    """Rows and columns (H, W, ...) of a frame as it is to be shown, by its `orientation`."""
    transposed, left_right, upside_down = turned
    if transposed:
        frame = frame.swapaxes(0, 1)
    return frame[:: -1 if upside_down else 1, :: -1 if left_right else 1]


def _cause(error: Exception) -> str:
    """FFmpeg's own words, without the path."""
    return getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
