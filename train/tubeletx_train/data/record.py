"""One video of a list, and the cells of a manifest (CSV) that tell of it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

_MOST = 1 << 31  # frames and pixels stay below


class TimedLabel(NamedTuple):
    """One of several labels of a video.

    Attributes:
        label: Class name or number, without spaces.
        start: First second that it holds for.
        end: Second at which it ends.
    """

    label: str
    start: float
    end: float


@dataclass(frozen=True)
class VideoRecord:
    """One video, or the stretch of one that counts as a video.

    Attributes:
        path: Absolute path.
        label: Class name or number, None where unknown.
        start: First second that counts, None for the beginning.
        end: Second at which it ends (exclusive), None for the end of the file.
        split: Name of the split, None where unknown.
        group: What belongs together, None where unknown.
        labels: Several labels with their times.
        boundaries: Frames, from 0 and increasing, at which a repetition begins or ends: one more than repetitions.
        num_frames: Frames of the whole file, None until it was checked.
        fps: Average frames per second, None until it was checked.
        width: Width of a frame as shown (rotation applied), pixels, None until it was checked.
        height: Height likewise.
        first_frame: First frame that counts, from 0, where a check found that `fps` does not tell it.
        stop_frame: Frame before which the stretch ends, likewise.
        reader: What decodes the file, where a check found that the reader of the run does not, or not exactly.
    """

    path: str
    label: str | None = None
    start: float | None = None
    end: float | None = None
    split: str | None = None
    group: str | None = None
    labels: tuple[TimedLabel, ...] = ()
    boundaries: tuple[int, ...] = ()
    num_frames: int | None = None
    fps: float | None = None
    width: int | None = None
    height: int | None = None
    first_frame: int | None = None
    stop_frame: int | None = None
    reader: str | None = None

    @property
    def frame_range(self) -> tuple[int, int]:
        """First frame and end (exclusive) of the stretch that counts; at least one frame. Needs a checked record."""
        if self.num_frames is None or self.fps is None:
            raise ValueError(f"{self.path}: num_frames and fps are unknown; run check_videos first")
        if self.first_frame is not None and self.stop_frame is not None:
            return self.first_frame, self.stop_frame
        first = 0 if self.start is None else min(math.floor(self.start * self.fps), self.num_frames - 1)
        stop = self.num_frames if self.end is None else min(math.ceil(self.end * self.fps), self.num_frames)
        return first, max(stop, first + 1)


def _seconds(text: str) -> float:
    value = float(text)
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(text)
    return value


def _count(text: str) -> int:
    value = int(text)
    if not 1 <= value < _MOST:
        raise ValueError(text)
    return value


def _number(text: str) -> int:
    value = int(text)
    if not 0 <= value < _MOST:
        raise ValueError(text)
    return value


def _reader(text: str) -> str:
    if text not in ("decord", "decord_only", "pyav", "torchcodec"):
        raise ValueError(text)
    return text


def _rate(text: str) -> float:
    value = _seconds(text)
    if value == 0:
        raise ValueError(text)
    return value


def _timed_labels(text: str) -> tuple[TimedLabel, ...]:
    labels = []
    for part in text.split(";"):
        label, start, end = part.split()
        labels.append(TimedLabel(label, _seconds(start), _seconds(end)))
    return tuple(labels)


def _increasing(text: str) -> tuple[int, ...]:
    values = tuple(map(int, text.split()))
    if values[0] < 0 or any(b <= a for a, b in itertools.pairwise(values)):
        raise ValueError(text)
    return values


COLUMNS: dict[str, tuple[Callable[[str], Any], str]] = {
    "path": (str, "a path"),
    "label": (str, "a label"),
    "start": (_seconds, "seconds, 0 or more"),
    "end": (_seconds, "seconds, 0 or more"),
    "split": (str, "a split"),
    "group": (str, "a group"),
    "labels": (_timed_labels, "'label start end' triples with ; between them, times in seconds"),
    "boundaries": (_increasing, "increasing frame numbers with spaces between them"),
    "num_frames": (_count, "a whole number, 1 or more"),
    "fps": (_rate, "a positive number"),
    "width": (_count, "a whole number, 1 or more"),
    "height": (_count, "a whole number, 1 or more"),
    "first_frame": (_number, "a whole number, 0 or more"),
    "stop_frame": (_count, "a whole number, 1 or more"),
    "reader": (_reader, "decord, decord_only, pyav or torchcodec"),
}

# Columns whose values have parts.
STRUCTURED = ("labels", "boundaries")


def parse_cell(column: str, text: str) -> Any:
    """The value of a cell that is not empty. Raises ValueError."""
    parse, _ = COLUMNS[column]
    return parse(text)


def cell_of(value: Any) -> Any:
    """What stands in a cell for a value; the empty tuple stands for none."""
    if not isinstance(value, tuple):
        return value
    if value and isinstance(value[0], TimedLabel):
        return ";".join(f"{item.label} {item.start!r} {item.end!r}" for item in value)
    return " ".join(map(str, value))
