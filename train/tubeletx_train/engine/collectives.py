"""All-gather and MoCo's shuffle of rows of tensors (samples of a batch) among processes; no gradient passes.

Every process brings as many rows. Those of all, in the order of ranks, are the global batch. Alone, a process keeps
what it has.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


def world() -> tuple[int, int]:
    """This process's rank, and how many there are."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


@torch.no_grad()
def all_gather_rows(rows: Tensor) -> Tensor:
    """(B, ...) of each process to the global batch (world_size * B, ...), the same everywhere."""
    _, world_size = world()
    if world_size == 1:
        return rows
    rows = rows.contiguous()
    everything = rows.new_empty(world_size * len(rows), *rows.shape[1:])
    dist.all_gather(list(everything.chunk(world_size)), rows)
    return everything


def shuffle_rows(clips: Tensor) -> Tensor:
    """Shuffle the global batch over the processes, for shuffle-BN: rank r gets rows r, r + world_size, ...

    Args:
        clips: (B, C, ...), of any layout.

    Returns:
        (B, C, ...), channels last.
    """
    rank, world_size = world()
    if world_size == 1:
        return clips
    everything = all_gather_rows(clips.movedim(1, -1))
    return everything[rank::world_size].contiguous().movedim(-1, 1)


def unshuffle_rows(rows: Tensor) -> Tensor:
    """What was computed from `shuffle_rows` back where it belongs, (B, ...) to (B, ...)."""
    rank, world_size = world()
    if world_size == 1:
        return rows
    everything = all_gather_rows(rows)
    by_row = everything.reshape(world_size, len(rows), *rows.shape[1:]).transpose(0, 1).reshape_as(everything)
    return by_row[rank * len(rows) : (rank + 1) * len(rows)]
