"""Files that are whole or absent, and the folders they are written to."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tubeletx_train.common.errors import CommandError, UsageError

# Of errors that are the disk's, and not the user's path.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
_ROOM = 1 << 20  # bytes; an empty file can be made on a full disk too


@contextmanager
def replaced_file(path: str | Path, *, binary: bool = False) -> Iterator[Any]:
    """A file to write, which takes its name when all is written and on the disk; until then an older one stays.

    Args:
        path: Parent folders are made.
        binary: Whether it takes bytes; otherwise text, in UTF-8, with line ends as they are given.

    Raises:
        CommandError: The disk is full, or became read-only.
        UsageError: The file cannot be written for another such reason.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") if binary else open(temporary, "w", encoding="utf-8", newline="") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # makes the rename itself durable
        finally:
            os.close(folder)
    except (OSError, RuntimeError) as error:
        cause = _os_error(error)
        if cause is None:
            raise
        kind = CommandError if cause.errno in NO_ROOM else UsageError
        raise kind(f"cannot write {path}: {cause.strerror}; what was there before is untouched") from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def _os_error(error: BaseException | None) -> OSError | None:
    """The OSError behind an exception: torch hides that of a full disk behind a RuntimeError of its own."""
    while error is not None and not isinstance(error, OSError):
        error = error.__context__
    return error


def write_text(path: str | Path, text: str) -> Path:
    """Write a text as a `replaced_file`; returns its path."""
    with replaced_file(path) as file:
        file.write(text)
    return Path(path)


def write_json(path: str | Path, content: Any, indent: int | None = 2) -> Path:
    """Write plain data as a `replaced_file`; returns its path."""
    return write_text(path, json.dumps(content, indent=indent, ensure_ascii=False) + "\n")


def append_line(path: str | Path, content: Any) -> None:
    """Add plain data as a line of a JSON-lines file; on a line of its own also where an earlier write was cut off."""
    with open(path, "ab+") as file:
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            if file.read() != b"\n":
                file.write(b"\n")
        file.write(json.dumps(content).encode() + b"\n")


def file_digest(path: str | Path) -> str:
    """SHA-256 of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def writable_folder(path: str | Path) -> Path:
    """Make a folder and write a file in it. Raises UsageError when that fails, before hours are spent for nothing."""
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(_ROOM))
    except OSError as error:
        raise UsageError(f"cannot write to the output folder {folder}: {error.strerror}") from error
    return folder


def writable_file(path: str | Path) -> Path:
    """The same for a file that is written at a command's end: its folder is made, and it is left as it is."""
    path = Path(path)
    if path.is_dir():
        raise UsageError(f"cannot write {path}: it is a folder")
    writable_folder(path.parent)
    return path


@contextmanager
def explain_full_disk(output: str | Path, remark: str = "") -> Iterator[None]:
    """Context of whatever writes below a folder: a full disk ends the command with one line.

    Args:
        output: The folder.
        remark: What the line says besides.

    Raises:
        CommandError: There is no room left, or the file system became read-only.
    """
    before = threading.excepthook

    def tell(failed: threading.ExceptHookArgs) -> None:
        # A thread that writes, such as TensorBoard's, hands its error to this one, which tells it.
        if not (isinstance(failed.exc_value, OSError) and failed.exc_value.errno in NO_ROOM):
            before(failed)

    threading.excepthook = tell
    try:
        yield
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        raise CommandError(f"cannot write to {output}: {error.strerror}{remark}") from error
    finally:
        threading.excepthook = before
