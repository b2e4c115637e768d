"""The memory that worker processes hand batches over in."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor

from tubeletx import KeptMemoryLoader
from tubeletx_train.common.errors import UsageError

_FOLDER = Path("/dev/shm")

# Of each worker, beside those that it keeps ready: one that is used, and one that is written.
_BATCHES_BESIDE = 2


def require_shared_memory(batch_bytes: int, num_workers: int, prefetch: int) -> None:
    """Find out before the start whether batches under way will fit; a worker that finds no room dies, or hangs.

    Args:
        batch_bytes: Of one batch.
        num_workers: Processes that make batches; 0 needs none.
        prefetch: Batches that each keeps ready.

    Raises:
        UsageError: They will not.
    """
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    needed = batch_bytes * num_workers * (prefetch + _BATCHES_BESIDE) * processes
    if needed == 0 or not _FOLDER.is_dir():
        return
    free = free_shared_memory()
    if needed > free:
        raise UsageError(
            f"{_FOLDER} has {free / 1e6:.0f} MB free, and data.num_workers {num_workers} with data.prefetch {prefetch} "
            f"keep up to {needed / 1e6:.0f} MB of batches there: lower one of them, or give the container more "
            "(docker run --shm-size)"
        )


def free_shared_memory() -> int:
    """Bytes."""
    status = os.statvfs(_FOLDER)
    return status.f_bavail * status.f_frsize


def stack(clips: list[Tensor]) -> Tensor:
    """Clips of one size as a batch, in the memory that a worker hands over."""
    return torch.stack(clips, out=KeptMemoryLoader.empty((len(clips), *clips[0].shape), clips[0].dtype))
