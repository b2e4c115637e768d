"""Lists of videos: manifests (CSV) and folders.

A manifest is a CSV file in UTF-8 whose first line names its columns:

| column | meaning |
|---|---|
| `path` | the video, a folder or zip of frames, or a place in a tar shard; relative to the manifest (needed) |
| `label` | class name or number |
| `start`, `end` | the stretch that counts, in seconds |
| `split` | name of the split |
| `group` | what belongs together, such as the person filmed, for leaving one group out |
| `labels` | several labels with the seconds that each spans, as in Charades: `92 11.9 21.2;147 0 12.6` |
| `boundaries` | frames, from 0, at which a repetition begins or ends: `0 44 153` holds two |
| `num_frames`, `fps`, `width`, `height` | what a check of the file found |
| `first_frame`, `stop_frame` | likewise, the frames from `start` to `end` where the file's rate is not constant |
| `reader` | likewise, what decodes this file where the run's reader does not, or not exactly |

An empty cell means unknown; spaces around a cell do not count. Any other column is an error, so that a misspelt one is
not passed over.
"""

from __future__ import annotations

import csv
import hashlib
import itertools
import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

from tubeletx_train.common.files import replaced_file
from tubeletx_train.data.errors import DataError, ManifestError
from tubeletx_train.data.find import find_videos


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
    if value < 1:
        raise ValueError(text)
    return value


def _number(text: str) -> int:
    value = int(text)
    if value < 0:
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


_COLUMNS: dict[str, tuple[Callable[[str], Any], str]] = {
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


def read_manifest(path: str | Path) -> list[VideoRecord]:
    """Read a manifest.

    Args:
        path: CSV file, see the module's description.

    Returns:
        Its rows in their order, paths made absolute.

    Raises:
        ManifestError: What is wrong, with file and line.
    """
    path = Path(path)
    try:
        # utf-8-sig: spreadsheets like to start a CSV with a byte order mark.
        with path.open(encoding="utf-8-sig", newline="") as file:
            return _read_rows(path, csv.reader(file, strict=True))
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path}: is not a CSV file in UTF-8 ({error.reason})") from error


def _read_rows(path: Path, rows: Any) -> list[VideoRecord]:
    try:
        header = [name.strip() for name in next(rows, [])]
        unknown = sorted(set(header) - set(_COLUMNS))
        if "path" not in header or unknown or len(set(header)) < len(header):
            raise ManifestError(
                f"{path}:1: the first line must name the columns, each once, 'path' among them, from "
                f"{', '.join(_COLUMNS)}; it reads {','.join(header)!r}"
            )
        return [_read_row(path, rows.line_num, header, row) for row in rows if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise ManifestError(f"{path}:{rows.line_num}: malformed CSV ({error})") from error


def _read_row(path: Path, line: int, header: Sequence[str], row: Sequence[str]) -> VideoRecord:
    if len(row) != len(header):
        raise ManifestError(
            f"{path}:{line}: {len(row)} cells where the header names {len(header)} columns "
            "(put a name that contains a comma in double quotes)"
        )
    values: dict[str, Any] = {}
    for name, cell in zip(header, row, strict=True):
        if "\0" in cell:
            raise ManifestError(f"{path}:{line}: {name} holds a NUL")
        text = cell.strip()
        if not text:
            continue
        parse, needed = _COLUMNS[name]
        try:
            values[name] = parse(text)
        except ValueError:
            raise ManifestError(f"{path}:{line}: {name} must be {needed}, not {cell!r}") from None
    if "path" not in values:
        raise ManifestError(f"{path}:{line}: the path is empty")
    record = VideoRecord(**values)
    if record.end is not None and record.end <= (record.start or 0.0):
        raise ManifestError(f"{path}:{line}: end ({record.end:g} s) must come after start ({record.start or 0:g} s)")
    folder = path.absolute().parent
    listed = row[header.index("path")]
    # Spaces are most often an editor's, but a file's name may begin or end with one.
    name = listed if listed != record.path and (folder / listed).exists() else record.path
    return replace(record, path=str(folder / name))


def write_manifest(path: str | Path, records: Sequence[VideoRecord]) -> None:
    """Write a manifest.

    Args:
        path: CSV file to write; parent folders are made. Videos below its folder get relative paths, so that the
            folder can be moved.
        records: Its rows. Columns that are empty throughout are left out.

    Raises:
        UsageError: It cannot be written.
    """
    path = Path(path)
    folder = path.absolute().parent
    names = [f.name for f in fields(VideoRecord)]
    columns = [name for name in names if name == "path" or any(getattr(r, name) not in (None, ()) for r in records)]
    with replaced_file(path) as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        for record in records:
            video = Path(record.path)
            relative = video.relative_to(folder) if video.is_relative_to(folder) else video
            row = {name: _cell(getattr(record, name)) for name in columns}
            writer.writerow({**row, "path": relative.as_posix()})


def _cell(value: Any) -> Any:
    """What stands in a cell for a value that is not a plain number or text."""
    if not isinstance(value, tuple):
        return value
    if value and isinstance(value[0], TimedLabel):
        return ";".join(f"{item.label} {item.start!r} {item.end!r}" for item in value)
    return " ".join(map(str, value))


def class_names(records: Collection[VideoRecord], num_classes: int | None = None) -> list[str]:
    """The classes of labelled records; the place of a name in the list is the index of its class.

    Labels that are whole numbers throughout are the indices themselves, so that a class without a video (Diving48 has
    one) keeps its place; 01 and 1 are then one class, called by its shorter form. Other labels are classes in
    alphabetical order. Both `label` and `labels` count.

    Args:
        records: Of all splits, so that each gives a class the same index.
        num_classes: Classes there are, where labels are numbers; by default up to the largest number.

    Raises:
        DataError: A number is not below `num_classes`.
    """
    found = labels_of(records)
    if not are_numbers(found):
        return sorted(found)
    highest = max(map(int, found), default=-1)
    if num_classes is not None and highest >= num_classes:
        raise DataError(f"label {highest} is not one of {num_classes} classes, numbered from 0")
    written = {int(label): label for label in sorted(found, key=len, reverse=True)}
    return [written.get(number, str(number)) for number in range(highest + 1 if num_classes is None else num_classes)]


def labels_of(records: Collection[VideoRecord]) -> set[str]:
    """Every label of some records, of `label` and of `labels`."""
    several = {item.label for record in records for item in record.labels}
    return several | {record.label for record in records if record.label is not None}


def are_numbers(labels: Iterable[str]) -> bool:
    """Whether labels are whole numbers throughout, and so the indices of classes."""
    return all(label.isascii() and label.isdigit() for label in labels)


def scan_folder(root: str | Path, *, label_from_folder: bool = False) -> list[VideoRecord]:
    """Find the videos below a folder.

    Args:
        root: Folder; see `find_videos`.
        label_from_folder: Take the name of the folder that directly holds a video as its label.

    Returns:
        One record a video, sorted by path.

    Raises:
        DataError: `root` is no folder.
    """
    paths = sorted(find_videos(root))
    return [VideoRecord(str(path), label=path.parent.name if label_from_folder else None) for path in paths]


def fingerprint(records: Sequence[VideoRecord], *, labels: bool = True) -> str:
    """A digest of which videos, which parts of them and which labels; the folder they lie in does not matter.

    Args:
        records: The videos, in their order.
        labels: Whether labels, and marks of repetitions, count.
    """
    names: list[tuple[Any, ...]] = [
        (Path(record.path).name, record.start, record.end, record.num_frames)
        + ((record.label, record.labels, record.boundaries) if labels else ())
        for record in records
    ]
    return hashlib.sha256(repr(names).encode()).hexdigest()
