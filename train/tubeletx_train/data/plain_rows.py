"""Rows of a manifest as arrays, where they are so plain that a line is a row and a comma parts two cells.

That takes less than half the time of lists of texts. What is not that plain is left to the `csv` package, which also
says what is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tubeletx_train.data.record import COLUMNS, STRUCTURED
from tubeletx_train.data.table import NUMBERS, REPEATED, Column, Repeated

_COMMA, _NEWLINE, _RETURN, _SLASH, _DOT = b",\n\r/."
_LONGEST_HASHED = 64  # bytes
_MASKS = np.array([(1 << (8 * count)) - 1 for count in range(9)], np.uint64)  # of the first bytes of eight
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


def parse_plain(block: bytes, header: Sequence[str], folder: bytes) -> tuple[dict[str, Column], int] | None:
    """The columns of whole lines and the number of rows, or None where these are not plain, or a cell is wrong.

    Plain are lines without quotes, each with all cells, none of which begins or ends in a space or a character beyond
    ASCII; paths are all relative or all absolute, without steps that lead nowhere.

    Args:
        block: Lines in UTF-8, without the header.
        header: Names of the columns.
        folder: What relative paths begin at.

    Raises:
        UnicodeDecodeError: They are not in UTF-8.
    """
    if any(mark in block for mark in (b'"', b"\0", b"//", b"/./")) or any(name in STRUCTURED for name in header):
        return None
    if block.endswith(b"\r"):
        return None
    if not block.endswith(b"\n"):
        block += b"\n"
    if not block.isascii():
        block.decode()
    # Behind the last cell as many bytes as are read of one together.
    characters = np.frombuffer(block + bytes(_LONGEST_HASHED), np.uint8)
    ends = np.flatnonzero((characters == _COMMA) | (characters == _NEWLINE))
    if len(ends) % len(header):
        return None
    closes = (characters[ends] == _NEWLINE).reshape(-1, len(header))
    if not closes[:, -1].all() or closes[:, :-1].any():
        return None
    starts = np.append(0, ends[:-1] + 1)
    if b"\r" in block:
        last = ends[len(header) - 1 :: len(header)]
        after_return = characters[last - 1] == _RETURN
        if np.count_nonzero(characters == _RETURN) != np.count_nonzero(after_return):
            return None
        last -= after_return  # in `ends`
    filled = starts < ends
    for edge in (characters[starts[filled]], characters[ends[filled] - 1]):
        if edge.min(initial=127) <= ord(" ") or edge.max(initial=0) >= 127:
            return None
    columns: dict[str, Column] = {}
    try:
        for place, name in enumerate(header):
            cells = starts[place :: len(header)], ends[place :: len(header)]
            if name in NUMBERS:
                columns[name] = _numbers(name, _told_apart(block, characters, *cells))
            elif name in REPEATED:
                columns[name] = _checked(name, _told_apart(block, characters, *cells))
            else:
                columns[name] = _paths(characters, *cells, folder)
        if "end" in columns:
            earliest = np.nan_to_num(np.asarray(columns.get("start", 0.0)))
            if (np.asarray(columns["end"]) <= earliest).any():
                return None
    except ValueError:
        return None
    return columns, len(closes)


def _numbers(name: str, cells: Repeated) -> npt.NDArray[Any]:
    """Numbers as a table holds them: those that differ are parsed once each. Raises ValueError."""
    parse, _ = COLUMNS[name]
    dtype, missing = NUMBERS[name]
    values = [parse(text.decode()) if text else missing for text in cells.texts]
    numbers: npt.NDArray[Any] = np.array(values, dtype)[cells.codes]
    return numbers


def _checked(name: str, cells: Repeated) -> Repeated:
    """Texts, those that differ looked at once each. Raises ValueError."""
    parse, _ = COLUMNS[name]
    for text in cells.texts:
        if text:
            parse(text.decode())
    return cells


def _told_apart(
    block: bytes, characters: npt.NDArray[np.uint8], starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64]
) -> Repeated:
    """The cells, those that are equal once: by a hash of their bytes, one by one where it does not tell them apart."""
    lengths = ends - starts
    longest = int(lengths.max(initial=1))
    if longest <= _LONGEST_HASHED:
        words = _words(characters, starts, lengths, longest)
        keys = words[0].copy()
        for word in words[1:]:
            keys *= _MULTIPLIER
            keys ^= keys >> np.uint64(32)
            keys ^= word
        _, first, codes = np.unique(keys, return_index=True, return_inverse=True)
        if all((word == word[first[codes]]).all() for word in words):
            edges = zip(starts[first].tolist(), ends[first].tolist(), strict=True)
            return Repeated([block[start:end] for start, end in edges], codes)
    return Repeated.of([block[start:end] for start, end in zip(starts.tolist(), ends.tolist(), strict=True)])


def _words(
    characters: npt.NDArray[np.uint8], starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64], longest: int
) -> list[npt.NDArray[np.uint64]]:
    """The bytes of cells, eight of each together, with NUL, which is in none, behind the last."""
    at: npt.NDArray[np.uint64] = np.ndarray(len(characters) - 7, "<u8", characters.data, strides=(1,))
    return [at[starts + place] & _MASKS[np.clip(lengths - place, 0, 8)] for place in range(0, longest, 8)]


def _texts(
    characters: npt.NDArray[np.uint8], starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """The cells' characters one after the other, and their lengths."""
    return characters[_between(starts, ends, len(characters))], ends - starts


def _between(starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64], size: int) -> npt.NDArray[np.bool_]:
    """Which of `size` places lie in one of some stretches, which are in order."""
    edges = np.stack([starts, ends], 1).reshape(-1)
    inside = np.tile(np.array([False, True]), len(starts))
    return np.repeat(np.append(inside, False), np.diff(edges, prepend=0, append=size))


def _paths(
    characters: npt.NDArray[np.uint8], starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64], folder: bytes
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Absolute paths; raises ValueError where that takes more than to put the folder before each."""
    lengths = ends - starts
    if not lengths.all():
        raise ValueError("an empty path")
    first, second, last = characters[starts], characters[starts + 1], characters[ends - 1]
    odd = (first == _DOT) & ((lengths == 1) | (second == _SLASH))
    odd |= (last == _SLASH) | ((last == _DOT) & (characters[ends - 2] == _SLASH))
    absolute = first == _SLASH
    if odd.any() or (absolute.any() and not absolute.all()):
        raise ValueError("an unusual path")
    names, _ = _texts(characters, starts, ends)
    if absolute.all():
        return names, lengths
    before = np.frombuffer(folder.rstrip(b"/") + b"/", np.uint8)
    stops = np.cumsum(lengths + len(before))
    begins = stops - lengths
    joined = np.empty(int(stops[-1]), np.uint8)
    of_folder = _between(begins - len(before), begins, len(joined))
    joined[of_folder] = np.tile(before, len(starts))
    joined[~of_folder] = names
    return joined, lengths + len(before)
