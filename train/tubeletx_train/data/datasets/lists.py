"""Reading of the list files that data sets come with."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tubeletx_train.data.errors import ManifestError
from tubeletx_train.data.record import VideoRecord


@dataclass(frozen=True)
class PublishedDataset:
    """A data set that comes with lists of its videos.

    Attributes:
        title: Its name in print.
        list_files: The files that are read, for help and messages.
        read: From the folder of the lists, a split and a fold to records whose `path` is the listed name.
        published: Splits, in the order in which they are written, each with the number of its videos in the paper or
            in the data set's own description; None where neither gives one.
        num_classes: Classes there are, None where the lists alone tell.
        folds: How many alternative divisions into the same splits there are, numbered from 1.
        present: The splits for which a folder has lists; None where it must have all.
    """

    title: str
    list_files: str
    read: Callable[[Path, str, int], list[VideoRecord]]
    published: dict[str, int | None]
    num_classes: int | None
    folds: int = 1
    present: Callable[[Path], list[str]] | None = None


def find_list(folder: Path, *names: str) -> Path:
    """The first of some files that there is in a folder of lists. Raises ManifestError when there is none."""
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise ManifestError(f"{folder}: holds no {' or '.join(names)}")


def read_text(path: Path) -> str:
    """A list file's content. Raises ManifestError."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path}: is not a text file in UTF-8 ({error.reason})") from error


def read_rows(path: Path, cells: int) -> Iterator[tuple[int, list[str]]]:
    """The lines of a list, split from the right into cells, so that a name in the first may hold spaces.

    Args:
        path: List.
        cells: Cells of a line.

    Yields:
        Line number and cells; blank lines are passed over.

    Raises:
        ManifestError: A line has fewer cells.
    """
    for number, line in enumerate(read_text(path).splitlines(), 1):
        row = line.rsplit(maxsplit=cells - 1)
        if row and len(row) != cells:
            raise ManifestError(f"{path}:{number}: got {line!r}, needs {cells} cells")
        if row:
            yield number, [cell.strip() for cell in row]


def read_table(path: Path, *columns: str) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows of a CSV file with a header, with their line numbers.

    Raises:
        ManifestError: A column is missing, or a row is short.
    """
    rows = csv.DictReader(read_text(path).splitlines())
    try:
        lacking = [name for name in columns if name not in (rows.fieldnames or ())]
        if lacking:
            raise ManifestError(f"{path}:1: has no column {' or '.join(lacking)}")
        for row in rows:
            if any(row[name] is None for name in columns):
                raise ManifestError(f"{path}:{rows.line_num}: has fewer cells than the header")
            yield rows.line_num, row
    except csv.Error as error:
        raise ManifestError(f"{path}:{rows.line_num}: malformed CSV ({error})") from error


def read_entries(path: Path, *keys: str) -> list[dict[str, Any]]:
    """A JSON list of objects that have these keys. Raises ManifestError."""
    entries = read_json(path)
    if not isinstance(entries, list):
        raise ManifestError(f"{path}: needs a list of objects")
    for place, entry in enumerate(entries):
        if not isinstance(entry, dict) or not all(key in entry for key in keys):
            raise ManifestError(f"{path}: entry {place}: needs an object with {', '.join(keys)}")
    return entries


def read_json(path: Path) -> Any:
    """A JSON file's content. Raises ManifestError."""
    try:
        return json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"{path}: is not JSON ({error})") from error


def whole_number(text: Any, where: str, *, least: int = 0) -> int:
    """A number from a list. Raises ManifestError, naming `where`, when it is none or below `least`."""
    try:
        value = int(text)
    except (TypeError, ValueError):
        value = least - 1
    if value < least:
        raise ManifestError(f"{where}: got {text!r}, needs a whole number of {least} or more")
    return value
