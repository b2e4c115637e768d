"""The rows of a list of videos, held by columns in memory that worker processes share.

A million rows as objects take gigabytes, and each worker process would get a copy. As columns they take some tens of
megabytes once, and a row is made an object when it is asked for.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import mmap
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from multiprocessing.context import get_spawning_popen
from multiprocessing.reduction import DupFd
from typing import Any, NamedTuple, TypeAlias, overload

import numpy as np
import numpy.typing as npt

from tubeletx_train.data.record import STRUCTURED, VideoRecord, cell_of, parse_cell

# What stands for "unknown": no frame number is negative, no number of seconds is no number.
NUMBERS: dict[str, tuple[type[np.generic], Any]] = {
    "start": (np.float64, np.nan),
    "end": (np.float64, np.nan),
    "fps": (np.float64, np.nan),
    "num_frames": (np.int32, -1),
    "width": (np.int32, -1),
    "height": (np.int32, -1),
    "first_frame": (np.int32, -1),
    "stop_frame": (np.int32, -1),
}
# Texts that many rows have in common: a number for each row, and what the numbers stand for once.
REPEATED = ("label", "split", "group", "reader")


class Repeated(NamedTuple):
    """Texts of which many rows have the same: each once, and for each row which it is."""

    texts: list[bytes]
    codes: npt.NDArray[np.integer[Any]]

    @classmethod
    def of(cls, texts: Sequence[bytes]) -> Repeated:
        """Told apart one by one."""
        known: dict[bytes, int] = {}
        codes = np.fromiter((known.setdefault(text, len(known)) for text in texts), np.int64, len(texts))
        return cls(list(known), codes)


# Of numbers as a table holds them, texts that repeat, or the bytes of others and the length of each.
Column: TypeAlias = "npt.NDArray[Any] | Repeated | tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]"
_TEXTS = tuple(item.name for item in fields(VideoRecord) if item.name not in NUMBERS)

_CHUNK = 1 << 10  # rows that are taken in together
_PART = 1 << 16  # rows that are worked on together, so that what is made on the way stays small
_PADDED_BYTES = 1 << 28  # of paths, each as long as the longest
_MOST_SMALL = (1 << 32) - 1  # bytes of a column whose ends take four bytes each
_MOST_REPEATED = 1 << 16  # texts of a column that are told apart by two bytes
_NAMES = "surrogateescape"  # names of files may hold bytes that are no text


class ArrayWriter:
    """Arrays that are appended to, each in anonymous memory of its own, so that growing never copies."""

    def __init__(self) -> None:
        self._files: dict[str, int] = {}
        self._layout: dict[str, _Placed] = {}

    def __del__(self) -> None:
        for file in self._files.values():
            os.close(file)

    def append(self, name: str, values: npt.NDArray[Any]) -> None:
        """Add an array at the end, along the first axis, of the one of that name."""
        if name not in self._files:
            self._files[name] = os.memfd_create("tubeletx")
            self._layout[name] = _Placed(values.dtype.str, (0, *values.shape[1:]), 0)
        placed = self._layout[name]
        _write(self._files[name], values, placed.size)
        self._layout[name] = placed._replace(shape=(placed.shape[0] + len(values), *placed.shape[1:]))

    def remove(self, name: str) -> npt.NDArray[Any]:
        """Take an array out again."""
        file = self._files.pop(name)
        values = self._layout.pop(name).array(file)
        os.close(file)
        return values

    def close(self) -> SharedArrays:
        """The arrays, in one piece; nothing is left here."""
        joined, layout, place = os.memfd_create("tubeletx"), {}, 0
        while self._files:
            name = next(iter(self._files))
            values = self.remove(name)
            _write(joined, values, place)
            layout[name] = _Placed(values.dtype.str, values.shape, place)
            place += -(-values.nbytes // mmap.ALLOCATIONGRANULARITY) * mmap.ALLOCATIONGRANULARITY
            del values
        return SharedArrays(joined, layout)


def _write(file: int, values: npt.NDArray[Any], place: int) -> None:
    left = memoryview(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)
    while left:
        written = os.pwrite(file, left, place)
        left, place = left[written:], place + written


class _Placed(NamedTuple):
    """Where in a file an array lies."""

    dtype: str
    shape: tuple[int, ...]
    offset: int

    @property
    def size(self) -> int:
        """Bytes."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    def array(self, file: int) -> npt.NDArray[Any]:
        """Shared with the file."""
        if not self.size:
            return np.empty(self.shape, self.dtype)
        array: npt.NDArray[Any] = np.ndarray(self.shape, self.dtype, mmap.mmap(file, self.size, offset=self.offset))
        return array


class SharedArrays(Mapping[str, npt.NDArray[Any]]):
    """Arrays in anonymous memory, which processes that are started later see without a copy."""

    def __init__(self, file: int, layout: dict[str, _Placed]) -> None:
        """Used by `ArrayWriter`; takes the file over."""
        self._file, self._layout = file, layout
        self._arrays = {name: placed.array(file) for name, placed in layout.items()}

    @classmethod
    def of(cls, arrays: dict[str, npt.NDArray[Any]]) -> SharedArrays:
        """Moves arrays into shared memory: `arrays` is empty afterwards, so that they need not exist twice."""
        writer = ArrayWriter()
        while arrays:
            writer.append(*arrays.popitem())
        return writer.close()

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            os.close(self._file)

    def __reduce__(self) -> tuple[Callable[..., SharedArrays], tuple[Any, ...]]:
        """For a process that is being started a handle of the memory, for anything else the values."""
        if get_spawning_popen() is None:
            return SharedArrays.of, ({name: np.array(values) for name, values in self._arrays.items()},)
        return _attach, (DupFd(self._file), self._layout)


def _attach(handle: Any, layout: dict[str, _Placed]) -> SharedArrays:
    return SharedArrays(handle.detach(), layout)


class VideoTable(Sequence[VideoRecord]):
    """Records of videos, held by columns.

    It reads like a list of `VideoRecord`; code that looks at every row takes `numbers` and `texts` instead.
    """

    def __init__(self, columns: SharedArrays, size: int, rows: SharedArrays | None = None) -> None:
        """Used by `TableBuilder` and `select`."""
        self._columns = columns
        self._size = size
        self._rows = rows
        self._by_path: tuple[npt.NDArray[Any], npt.NDArray[Any]] | None = None

    def __getstate__(self) -> tuple[SharedArrays, int, SharedArrays | None]:
        """What another process needs."""
        return self._columns, self._size, self._rows

    def __setstate__(self, state: tuple[SharedArrays, int, SharedArrays | None]) -> None:
        self.__init__(*state)  # type: ignore[misc]

    def __len__(self) -> int:
        return self._size if self._rows is None else len(self._rows["rows"])

    @overload
    def __getitem__(self, index: int) -> VideoRecord: ...
    @overload
    def __getitem__(self, index: slice) -> VideoTable: ...
    def __getitem__(self, index: int | slice) -> VideoRecord | VideoTable:
        if isinstance(index, slice):
            return self.select(np.arange(len(self))[index])
        length = len(self)
        if not -length <= index < length:
            raise IndexError(f"row {index} of a table of {length}")
        row = index % length if self._rows is None else int(self._rows["rows"][index])
        values: dict[str, Any] = {}
        for name in _TEXTS:
            text = self._text(name, row)
            if text is not None:
                values[name] = parse_cell(name, text) if name in STRUCTURED else text
        for name, (_, missing) in NUMBERS.items():
            if name in self._columns:
                value = self._columns[name][row].item()
                if value == value and value != missing:
                    values[name] = value
        return VideoRecord(**values)

    def select(self, rows: npt.NDArray[np.int64] | npt.NDArray[np.bool_]) -> VideoTable:
        """The table of some rows, by their places in this one or by a mask; the columns are shared with it."""
        if rows.dtype == np.bool_:
            rows = np.flatnonzero(rows)
        if self._rows is not None:
            rows = self._rows["rows"][rows]
        return VideoTable(self._columns, self._size, SharedArrays.of({"rows": rows.astype(np.int64)}))

    def __eq__(self, other: object) -> bool:
        """Whether the other is a sequence of equal records."""
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(mine == theirs for mine, theirs in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def has(self, name: str) -> bool:
        """Whether any row's value of a column is known."""
        if name in NUMBERS:
            return bool((self.numbers(name) != NUMBERS[name][1]).any() and not np.isnan(self.numbers(name)).all())
        return any(text is not None for text in self.texts(name))

    def numbers(self, name: str) -> npt.NDArray[Any]:
        """A column of numbers, float64 with NaN or int32 with -1 where the value is unknown."""
        if name not in self._columns:
            dtype, missing = NUMBERS[name]
            return np.full(len(self), missing, dtype)
        return self._of_rows(self._columns[name])

    def _of_rows(self, column: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """What a column, which may be shared with other tables, holds for the rows of this one."""
        return column if self._rows is None else column[self._rows["rows"]]

    def texts(self, name: str) -> Iterator[str | None]:
        """A column of texts, one by one."""
        if f"{name}.ends" not in self._columns:
            return itertools.repeat(None, len(self))
        if f"{name}.codes" in self._columns:
            values, codes = list(self._all_texts(name)), self._of_rows(self._columns[f"{name}.codes"])
            parts = (codes[row : row + _CHUNK].tolist() for row in range(0, len(codes), _CHUNK))
            return map(values.__getitem__, itertools.chain.from_iterable(parts))
        if self._rows is not None:
            return (self._text(name, int(row)) for row in self._rows["rows"])
        return self._all_texts(name)

    def _all_texts(self, name: str) -> Iterator[str | None]:
        """A column of texts as it is held: where rows have them in common each text once."""
        ends, joined = self._columns[f"{name}.ends"], self._columns[f"{name}.bytes"]
        first = 0
        for row in range(0, len(ends), _CHUNK):
            stops = ends[row : row + _CHUNK].tolist()
            part = joined[first : stops[-1]].tobytes()
            edges = itertools.pairwise(stop - first for stop in [first, *stops])
            if part.isascii():
                text = part.decode()
                yield from (text[start:stop] or None for start, stop in edges)
            else:
                yield from (part[start:stop].decode(errors=_NAMES) or None for start, stop in edges)
            first = stops[-1]

    def codes(self, name: str) -> tuple[npt.NDArray[Any], list[str | None]]:
        """A column of texts as numbers: what each row has, and the texts that those numbers stand for.

        Of a table of selected rows some texts may be those of others.
        """
        if f"{name}.codes" in self._columns:
            return self._of_rows(self._columns[f"{name}.codes"]), list(self._all_texts(name))
        known: dict[str | None, int] = {}
        codes = np.fromiter((known.setdefault(text, len(known)) for text in self.texts(name)), np.int64, len(self))
        return codes, list(known)

    def by_path(self) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """The order of the rows by their paths, equal ones as they stand; and in that order the number of each file."""
        if self._by_path is None:
            kind = np.int32 if len(self) < 1 << 31 else np.int64
            paths, order = self._paths(), np.arange(len(self), dtype=kind)
            if any((part[:-1] > part[1:]).any() for part in _overlapping(paths, order)):
                order = np.argsort(paths, kind="stable").astype(kind)
            numbers = np.zeros(len(self), kind)
            for first, part in zip(range(1, len(self), _PART), _overlapping(paths, order), strict=True):
                numbers[first : first + _PART] = part[:-1] != part[1:]
            self._by_path = order, np.cumsum(numbers, out=numbers)
        return self._by_path

    def _paths(self) -> npt.NDArray[Any]:
        """Something that sorts as the paths do, and is the same where they are: a list of texts would be far larger.

        In UTF-8 bytes are in the order of the texts. What all begin with is left out.
        """
        if not len(self):
            return np.empty(0, "S1")
        joined, ends = self._columns["path.bytes"], self._columns["path.ends"]
        stops, starts = self._of_rows(ends), self._of_rows(np.append(ends.dtype.type(0), ends[:-1]))
        shared, shortest, longest = 0, int((stops - starts).min()), int((stops - starts).max())
        while shared < shortest and (joined[starts + shared] == joined[int(starts[0]) + shared]).all():
            shared += 1
        width = max(longest - shared, 1)
        if width * len(self) > _PADDED_BYTES:
            return np.array(list(self.texts("path")), object)
        starts += shared
        padded = np.zeros((len(self), width), np.uint8)
        for row in range(0, len(self), _CHUNK):
            first, stop = starts[row : row + _CHUNK, None], stops[row : row + _CHUNK, None]
            places = first.astype(np.int64) + np.arange(width)
            padded[row : row + _CHUNK] = np.where(places < stop, joined[np.minimum(places, len(joined) - 1)], 0)
        return padded.view(f"S{width}")[:, 0]

    def num_files(self) -> int:
        """How many files the rows are of."""
        _, files = self.by_path()
        return int(files[-1]) + 1 if len(files) else 0

    def frame_ranges(self) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """`VideoRecord.frame_range` of every row: first frames and ends. Needs checked rows."""
        names = ("num_frames", "fps", "start", "end", "first_frame", "stop_frame")
        frames, rate, start, end, exact_first, exact_stop = map(self.numbers, names)
        unchecked = np.flatnonzero((frames < 0) | np.isnan(rate))
        if len(unchecked):
            path = self[int(unchecked[0])].path
            raise ValueError(f"{path}: num_frames and fps are unknown; run check_videos first")
        first = np.minimum(np.floor(np.nan_to_num(start) * rate), frames - 1)
        stop = np.where(np.isnan(end), frames, np.minimum(np.ceil(np.nan_to_num(end) * rate), frames))
        stop = np.maximum(stop, first + 1)
        exact = (exact_first >= 0) & (exact_stop >= 0)
        first, stop = np.where(exact, exact_first, first), np.where(exact, exact_stop, stop)
        return first.astype(np.int32), stop.astype(np.int32)

    def are_checked(self) -> npt.NDArray[np.bool_]:
        """Which rows carry what a check of their file finds."""
        checked = np.ones(len(self), np.bool_)
        for name in ("num_frames", "fps", "width", "height"):
            checked &= self.numbers(name) > 0
        return checked

    def _text(self, name: str, row: int) -> str | None:
        ends = self._columns.get(f"{name}.ends")
        if ends is None:
            return None
        if f"{name}.codes" in self._columns:
            row = int(self._columns[f"{name}.codes"][row])
        first = int(ends[row - 1]) if row else 0
        stop = int(ends[row])
        return self._columns[f"{name}.bytes"][first:stop].tobytes().decode(errors=_NAMES) if stop > first else None


def _overlapping(values: npt.NDArray[Any], order: npt.NDArray[Any]) -> Iterator[npt.NDArray[Any]]:
    """Values in an order, some at a time, each part beginning with the last one of the part before."""
    for first in range(0, max(len(order) - 1, 0), _PART):
        yield values[order[first : first + _PART + 1]]


class TableBuilder:
    """Takes rows in, column by column, and makes a `VideoTable` of them."""

    def __init__(self) -> None:
        self._writer = ArrayWriter()
        self._bytes: dict[str, int] = {}  # of each column of texts
        self._codes: dict[str, dict[bytes, int]] = {}  # of each column of texts that repeat
        self._known: set[str] = set()
        self._size = 0

    def extend(self, columns: Mapping[str, Sequence[Any]], size: int) -> None:
        """Adds `size` rows, of whose columns these are given; None stands for unknown, texts are those of cells."""
        arrays: dict[str, Column] = {}
        for name, values in columns.items():
            if name in NUMBERS:
                dtype, missing = NUMBERS[name]
                arrays[name] = np.array([missing if value is None else value for value in values], dtype)
                continue
            texts = ["" if value is None else value for value in values]
            if name in REPEATED:
                arrays[name] = Repeated.of([text.encode(errors=_NAMES) for text in texts])
                continue
            together = "".join(texts)
            parts = texts if together.isascii() else [text.encode(errors=_NAMES) for text in texts]
            lengths = np.fromiter(map(len, parts), np.int64, size)
            arrays[name] = np.frombuffer(together.encode(errors=_NAMES), np.uint8), lengths
        self.extend_arrays(arrays, size)

    def extend_arrays(self, columns: Mapping[str, Column], size: int) -> None:
        """The same of columns as `Column` says, texts in UTF-8."""
        for name in columns.keys() - self._known:
            self._known.add(name)
            if name in REPEATED:
                self._codes[name] = {}
            self._append(name, _unknown(name, self._size))
        for name in self._known:
            self._append(name, columns[name] if name in columns else _unknown(name, size))
        self._size += size

    def _append(self, name: str, column: Column) -> None:
        if isinstance(column, np.ndarray):
            self._writer.append(name, column)
        elif not isinstance(column, Repeated):
            self._append_texts(name, *column)
        elif name in self._codes:
            self._append_codes(name, column)
        else:
            self._append_texts(name, *_joined([column.texts[code] for code in column.codes.tolist()]))

    def _append_codes(self, name: str, column: Repeated) -> None:
        codes = self._codes[name]
        for text in column.texts:
            codes.setdefault(text, len(codes))
        if len(codes) <= _MOST_REPEATED:
            found = np.array([codes[text] for text in column.texts], np.uint16)
            self._writer.append(f"{name}.codes", found[column.codes])
            return
        # They do not repeat: from here on each row has its own.
        known, before = list(self._codes.pop(name)), self._writer.remove(f"{name}.codes")
        for row in range(0, len(before), _PART):
            self._append(name, Repeated(known, before[row : row + _PART]))
        self._append(name, column)

    def _append_texts(self, name: str, joined: npt.NDArray[np.uint8], lengths: npt.NDArray[np.int64]) -> None:
        stops = self._bytes.setdefault(name, 0) + np.cumsum(lengths)
        if len(stops):
            # Ends take four bytes each while they can.
            wide = stops[-1] > _MOST_SMALL
            if wide and self._bytes[name] <= _MOST_SMALL:
                self._writer.append(f"{name}.ends", self._writer.remove(f"{name}.ends").astype(np.int64))
            self._bytes[name] = int(stops[-1])
            stops = stops if wide else stops.astype(np.uint32)
        else:
            stops = stops.astype(np.uint32)
        self._writer.append(f"{name}.bytes", joined)
        self._writer.append(f"{name}.ends", stops)

    def build(self) -> VideoTable:
        """The table; the builder is empty afterwards."""
        for name, codes in self._codes.items():
            self._append_texts(name, *_joined([]))  # as columns of texts begin
            self._append_texts(name, *_joined(list(codes)))
        table = VideoTable(self._writer.close(), self._size)
        self.__init__()  # type: ignore[misc]
        return table


def _unknown(name: str, size: int) -> Column:
    """A column of rows that do not know it."""
    if name in NUMBERS:
        dtype, missing = NUMBERS[name]
        return np.full(size, missing, dtype)
    if name in REPEATED:
        return Repeated([b""], np.zeros(size, np.uint16))
    return np.empty(0, np.uint8), np.zeros(size, np.int64)


def _joined(texts: Sequence[bytes]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    return np.frombuffer(b"".join(texts), np.uint8), np.fromiter(map(len, texts), np.int64, len(texts))


def as_table(records: Sequence[VideoRecord]) -> VideoTable:
    """The same records by columns."""
    if isinstance(records, VideoTable):
        return records
    builder = TableBuilder()
    names = [item.name for item in fields(VideoRecord)]
    for first in range(0, len(records), _CHUNK):
        chunk = records[first : first + _CHUNK]
        columns: dict[str, list[Any]] = {}
        for name in names:
            values = [getattr(record, name) for record in chunk]
            if any(value not in (None, ()) for value in values):
                columns[name] = [cell_of(value) for value in values] if name in STRUCTURED else values
        builder.extend(columns, len(chunk))
    return builder.build()


def fingerprint(records: Sequence[VideoRecord], *, labels: bool = True) -> str:
    """A digest of which videos, which parts of them and which labels; the folder they lie in does not matter.

    Args:
        records: The videos, in their order.
        labels: Whether labels, and marks of repetitions, count.
    """
    table = as_table(records)
    digest = hashlib.sha256()
    for path in table.texts("path"):
        digest.update((path or "").rpartition("/")[2].encode(errors=_NAMES) + b"\0")
    for name in ("start", "end", "num_frames"):
        digest.update(table.numbers(name).tobytes())
    for name in ("label", "labels", "boundaries") if labels else ():
        for text in table.texts(name):
            digest.update((text or "").encode(errors=_NAMES) + b"\0")
    return digest.hexdigest()
