"""Checkpoints that are either whole or not there."""

from __future__ import annotations

import logging
import os
import re
import zipfile
from pathlib import Path
from typing import Any

import torch

from tubeletx_train.common.errors import CommandError, UsageError
from tubeletx_train.common.non_finite import NonFiniteError, non_finite_entries

_NAME = re.compile(r"step-(\d+)\.pt")
_logger = logging.getLogger(__name__)


class CheckpointError(UsageError):
    """A checkpoint cannot be used; the message is one a user can act upon."""


def save_atomically(state: dict[str, Any], path: Path) -> None:
    """Write a state so that, whatever happens meanwhile, `path` holds either its old content or the whole new one.

    Raises:
        NonFiniteError: The state holds a NaN or an infinity; nothing is written.
        CommandError: The disk is full, or the file cannot be written for another such reason.
    """
    poisoned = next(non_finite_entries(state), None)
    if poisoned is not None:
        raise NonFiniteError(f"{path} is not written: {poisoned} holds values that are not finite")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:
        cause = _os_error(error)
        if cause is None:
            raise
        raise CommandError(f"cannot write {path}: {cause.strerror}; what was there before is untouched") from error
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # makes the rename itself durable
    finally:
        os.close(folder)


def _os_error(error: BaseException | None) -> OSError | None:
    """The OSError behind an exception: torch hides that of a full disk behind a RuntimeError of its own."""
    while error is not None and not isinstance(error, OSError):
        error = error.__context__
    return error


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU.

    Raises:
        CheckpointError: It is missing, truncated or damaged (every part is checked against its checksum), or holds a
            NaN or an infinity.
    """
    try:
        # torch.load does not compare the archive's checksums.
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise CheckpointError(f"{path}: damaged at {damaged}")
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such checkpoint") from None
    except CheckpointError:
        raise
    except Exception as error:
        # A damaged archive can fail in any of the layers that read it.
        raise CheckpointError(f"{path}: not a readable checkpoint ({type(error).__name__}: {error})") from error
    poisoned = next(non_finite_entries(state), None)
    if poisoned is not None:
        raise CheckpointError(f"{path}: {poisoned} holds values that are not finite")
    return state


def step_of(path: Path) -> int:
    """The step in the name of a checkpoint of `CheckpointFolder`."""
    match = _NAME.fullmatch(path.name)
    assert match is not None, path
    return int(match[1])


class CheckpointFolder:
    """A folder of `step-NNNNNNNN.pt`, of which the newest few are kept, and some for good."""

    def __init__(self, folder: str | Path, keep: int = 2, permanent_every: int | None = None) -> None:
        """Nothing is touched before the first save.

        Args:
            folder: Made at the first save.
            keep: The newest that are kept, at least 1; 2 leave one to fall back to.
            permanent_every: Checkpoints of steps that are multiples of it are never deleted.
        """
        if keep < 1:
            raise ValueError(f"keep must be at least 1, not {keep}")
        self.folder = Path(folder)
        self.keep = keep
        self.permanent_every = permanent_every

    def paths(self) -> list[Path]:
        """The checkpoints there, newest first."""
        if not self.folder.is_dir():
            return []
        found = [path for path in self.folder.iterdir() if _NAME.fullmatch(path.name)]
        return sorted(found, key=step_of, reverse=True)

    def save(self, step: int, state: dict[str, Any]) -> Path:
        """Write the checkpoint of a step, then delete those that are too many."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"step-{step:08d}.pt"
        save_atomically(state, path)
        for old in self.paths()[self.keep :]:
            if self.permanent_every is None or step_of(old) % self.permanent_every:
                old.unlink(missing_ok=True)
        for leftover in self.folder.glob(".step-*.tmp"):  # of a run that was killed while it wrote
            leftover.unlink(missing_ok=True)
        return path

    def load_latest(self) -> tuple[Path, dict[str, Any]] | None:
        """The newest checkpoint that can be used, with a warning for each newer one that cannot; None without any.

        Raises:
            CheckpointError: There are checkpoints, and none can be used.
        """
        paths = self.paths()
        for path in paths:
            try:
                return path, load_checkpoint(path)
            except CheckpointError as error:
                _logger.warning("passing over a checkpoint: %s", error)
        if paths:
            raise CheckpointError(f"{self.folder}: none of its {len(paths)} checkpoints can be used")
        return None
