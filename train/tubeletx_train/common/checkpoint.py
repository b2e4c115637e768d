"""Checkpoints that are either whole or not there."""

from __future__ import annotations

import logging
import re
import zipfile
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import torch

from tubeletx_train.common.errors import UsageError
from tubeletx_train.common.files import replaced_file
from tubeletx_train.common.non_finite import NonFiniteError, non_finite_entries

# What a run that trains on labels leaves in its folder.
MODEL_FILE = "model.pt"
_NAME = re.compile(r"step-(\d+)\.pt")
_logger = logging.getLogger(__name__)


class CheckpointError(UsageError):
    """A checkpoint cannot be used; the message is one a user can act upon."""


def save_checkpoint(state: dict[str, Any], path: Path) -> None:
    """Write a state so that, whatever happens meanwhile, `path` holds either its old content or the whole new one.

    Raises:
        NonFiniteError: The state holds a NaN or an infinity; nothing is written.
        CommandError: The disk is full, or the file cannot be written for another such reason.
    """
    poisoned = next(non_finite_entries(state), None)
    if poisoned is not None:
        raise NonFiniteError(f"{path} is not written: {poisoned} holds values that are not finite")
    with replaced_file(path, binary=True) as file:
        torch.save(state, file)


def read_torch_file(path: Path, harmless: Sequence[Any] = ()) -> Any:
    """What a file of torch holds, on the CPU; nothing in it is executed.

    Args:
        path: The file.
        harmless: Python objects that it may hold beside tensors and plain data; see `torch.serialization.safe_globals`.

    Raises:
        CheckpointError: A part of it is not what its checksum says.
        Exception: It fails in whichever of the layers that read it.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:  # torch.load does not compare the archive's checksums
            damaged = archive.testzip()
        if damaged is not None:
            raise CheckpointError(f"{path}: damaged at {damaged}")
    with torch.serialization.safe_globals(list(harmless)):
        return torch.load(path, map_location="cpu", weights_only=True)


def first_line(error: BaseException) -> str:
    """What an error of a reader says, in a line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__


def load_checkpoint(path: str | Path, needed: Collection[str] = (), kind: str = "a checkpoint") -> dict[str, Any]:
    """Read a checkpoint of ours onto the CPU.

    Args:
        path: The file.
        needed: Entries that it must have.
        kind: What a file with these entries is, for messages.

    Raises:
        CheckpointError: It is missing, truncated or damaged (every part is checked against its checksum), lacks an
            entry, or holds a NaN or an infinity.
    """
    try:
        state: dict[str, Any] = read_torch_file(Path(path))
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such checkpoint") from None
    except CheckpointError:
        raise
    except Exception as error:
        # A damaged archive can fail in any of the layers that read it.
        raise CheckpointError(f"{path}: not a readable checkpoint ({first_line(error)})") from error
    missing = sorted(set(needed) - (state.keys() if isinstance(state, dict) else set()))
    if missing:
        raise CheckpointError(f"{path}: not {kind} (it lacks {', '.join(missing)})")
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
            raise ValueError(f"keep: got {keep}, needs 1 or more")
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
        path = self.folder / f"step-{step:08d}.pt"
        save_checkpoint(state, path)
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


def checkpoint_file(path: str | Path) -> Path:
    """The file meant by a path: itself; of a run's folder what training on labels left, else the newest checkpoint.

    Raises:
        CheckpointError: There is none.
    """
    path = Path(path)
    if path.is_dir():
        if (path / MODEL_FILE).is_file():
            return path / MODEL_FILE
        paths = CheckpointFolder(path / "checkpoints").paths() or CheckpointFolder(path).paths()
        if not paths:
            raise CheckpointError(f"{path}: neither it nor its folder checkpoints holds a checkpoint")
        return paths[0]
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    return path
