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
import io
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, BinaryIO

from tubeletx_train.common.files import replaced_file
from tubeletx_train.data.errors import DataError, ManifestError
from tubeletx_train.data.find import find_videos
from tubeletx_train.data.plain_rows import parse_plain
from tubeletx_train.data.record import COLUMNS, STRUCTURED, VideoRecord, cell_of
from tubeletx_train.data.table import TableBuilder, VideoTable, as_table

# Rows that are parsed together: few, so that they are gone before the garbage collector looks at them.
_CHUNK = 256

_BLOCK = 1 << 20  # bytes of plain rows that are parsed together


def read_manifest(path: str | Path) -> VideoTable:
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
        with path.open("rb") as file:
            return _read_rows(path, file)
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path}: is not a CSV file in UTF-8 ({error.reason})") from error


def _read_rows(path: Path, file: BinaryIO) -> VideoTable:
    builder = TableBuilder()
    first = file.readline()
    if b'"' in first or b"\r" in first.removesuffix(b"\r\n"):
        file.seek(0)
        _read_csv(path, io.TextIOWrapper(file, "utf-8-sig", newline=""), None, 0, builder)
        return builder.build()
    # Spreadsheets like to start a CSV with a byte order mark.
    header = _header(path, csv.reader([first.decode("utf-8-sig")], strict=True))
    folder = str(path.absolute().parent).encode(errors="surrogateescape")
    line = 1
    while block := file.read(_BLOCK):
        block += file.readline()
        plain = parse_plain(block, header, folder)
        if plain is not None:
            builder.extend_arrays(*plain)
            line += plain[1]
        elif b'"' in block:  # a row may then go on into the next block
            file.seek(-len(block), os.SEEK_CUR)
            _read_csv(path, io.TextIOWrapper(file, "utf-8", newline=""), header, line, builder)
            break
        else:
            line = _read_csv(path, io.StringIO(block.decode(), newline=""), header, line, builder)
    return builder.build()


def _header(path: Path, rows: Iterator[list[str]]) -> list[str]:
    try:
        header = [name.strip() for name in next(rows, [])]
    except csv.Error as error:
        raise ManifestError(f"{path}:1: malformed CSV ({error})") from error
    unknown = sorted(set(header) - set(COLUMNS))
    if "path" not in header or unknown or len(set(header)) < len(header):
        raise ManifestError(
            f"{path}:1: the first line must name the columns, each once, 'path' among them, from "
            f"{', '.join(COLUMNS)}; it reads {','.join(header)!r}{_other_separator(header)}"
        )
    return header


def _other_separator(header: Sequence[str]) -> str:
    """A clause where a file's cells seem to be separated by something else, as spreadsheets do in some languages."""
    for separator, name in ((";", "semicolons"), ("\t", "tabs")):
        if len(header) == 1 and separator in header[0]:
            return f" (cells are separated by commas, not by {name})"
    return ""


def _read_csv(path: Path, lines: Iterable[str], header: list[str] | None, before: int, builder: TableBuilder) -> int:
    """Takes in rows as the `csv` package reads them, the header first where it is not known; returns lines read.

    Args:
        path: For messages.
        lines: Of the file.
        header: Names of the columns.
        before: Lines of the file before these.
        builder: Takes the rows.
    """
    rows = csv.reader(lines, strict=True)
    header = header or _header(path, rows)
    try:
        numbered = ((before + rows.line_num, row) for row in rows if "".join(row).strip())
        while chunk := list(itertools.islice(numbered, _CHUNK)):
            builder.extend(_parse_rows(path, header, chunk), len(chunk))
    except csv.Error as error:
        raise ManifestError(f"{path}:{before + rows.line_num}: malformed CSV ({error})") from error
    return before + rows.line_num


def _parse_rows(path: Path, header: Sequence[str], chunk: Sequence[tuple[int, list[str]]]) -> dict[str, Sequence[Any]]:
    """The columns of some rows: a column in one go, which is many times faster than row by row."""
    try:
        columns = dict(zip(header, zip(*(row for _, row in chunk), strict=True), strict=True))
        listed = columns["path"]
        parsed = {name: _parse_column(name, cells) for name, cells in columns.items()}
        unknown = [None] * len(chunk)
        for start, end in zip(parsed.get("start", unknown), parsed.get("end", unknown), strict=True):
            if end is not None and end <= (start or 0.0):
                raise ValueError("an end before its start")
        if None in parsed["path"]:
            raise ValueError("an empty path")
    except ValueError:
        for line, row in chunk:
            _refuse_row(path, line, header, row)
        raise
    parsed["path"] = _locate(str(path.absolute().parent), listed, parsed["path"])
    return parsed


def _parse_column(name: str, cells: Sequence[str]) -> Sequence[Any]:
    """The values of cells, None for those that are empty; of what has parts the text. Raises ValueError."""
    texts = list(map(str.strip, cells))
    if "\0" in "".join(texts):
        raise ValueError("a NUL")
    parse, _ = COLUMNS[name]
    if parse is str:
        return [text or None for text in texts] if "" in texts else texts
    # Of many rows most say the same: 25 frames a second, 340 pixels.
    values = {text: parse(text) if text else None for text in set(texts)}
    if name in STRUCTURED:
        return [text or None for text in texts]
    return list(map(values.__getitem__, texts))


def _locate(folder: str, listed: Sequence[str], names: Sequence[str]) -> list[str]:
    """Absolute paths, from cells and what is left of them without the spaces around."""
    if tuple(listed) != tuple(names):
        # Spaces are most often an editor's, but a file's name may begin or end with one.
        names = [
            cell if cell != name and os.path.exists(os.path.join(folder, cell)) else name
            for cell, name in zip(listed, names, strict=True)
        ]
    joined = [name if name[0] == "/" else f"{folder}/{name}" for name in names]
    together = "\n".join(joined) + "\n"
    if "//" in together or "/." in together or "/\n" in together:
        return [str(Path(name)) for name in joined]
    return joined


def _refuse_row(path: Path, line: int, header: Sequence[str], row: Sequence[str]) -> None:
    """Says what is wrong with a row, if it is this one."""
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
        parse, needed = COLUMNS[name]
        try:
            values[name] = parse(text)
        except ValueError:
            raise ManifestError(f"{path}:{line}: {name}: got {cell!r}, needs {needed}") from None
    if "path" not in values:
        raise ManifestError(f"{path}:{line}: the path is empty")
    start, end = values.get("start") or 0.0, values.get("end")
    if end is not None and end <= start:
        raise ManifestError(f"{path}:{line}: end: got {end:g} s, needs a time after start ({start:g} s)")


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
    table = as_table(records)
    columns = [item.name for item in fields(VideoRecord) if item.name == "path" or table.has(item.name)]
    with replaced_file(path) as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for record in table:
            video = Path(record.path)
            relative = video.relative_to(folder) if video.is_relative_to(folder) else video
            writer.writerow([relative.as_posix(), *(cell_of(getattr(record, name)) for name in columns[1:])])


def class_names(records: Sequence[VideoRecord], num_classes: int | None = None) -> list[str]:
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


def labels_of(records: Sequence[VideoRecord]) -> set[str]:
    """Every label of some records, of `label` and of `labels`."""
    table = as_table(records)
    several = {item.label for record in (table if table.has("labels") else ()) for item in record.labels}
    return several | {label for label in table.texts("label") if label is not None}


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
