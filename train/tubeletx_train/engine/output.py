"""Output folders."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tubeletx_train.engine.errors import UsageError

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
