"""Output folders."""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tubeletx_train.common.errors import CommandError, UsageError

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
_ROOM = 1 << 20  # bytes; an empty file can be made on a full disk too


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


@contextmanager
def explain_full_disk(output: str | Path, remark: str = "") -> Iterator[None]:
    """Context of whatever writes below a folder: a full disk ends the command with one line.

    Args:
        output: The folder.
        remark: What the line says besides.

    Raises:
        CommandError: There is no room left, or the file system became read-only.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        raise CommandError(f"cannot write to {output}: {error.strerror}{remark}") from error
