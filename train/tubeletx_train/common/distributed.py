"""Several processes that train one network, started by torchrun or by Slurm."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from tubeletx_train.common.device import resolve_device
from tubeletx_train.common.errors import CommandError, UsageError
from tubeletx_train.common.slurm import adopt_slurm


@dataclass(frozen=True)
class Ranks:
    """The processes of a run; every method is called by all of them.

    What is exchanged here goes over the CPU and so never waits for a GPU.

    Attributes:
        rank: This process, in [0, world_size).
        world_size: Processes in all.
        local_rank: This process among those of its machine.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0

    @property
    def is_main(self) -> bool:
        """Whether this is the one process that writes."""
        return self.rank == 0

    def share(self, count: int, what: str) -> int:
        """Each process's part of a whole. Raises UsageError, naming `what`, where it does not divide."""
        if count % self.world_size:
            raise UsageError(f"{what} {count} cannot be shared out among {self.world_size} processes")
        return count // self.world_size

    def mean(self, values: Mapping[str, float]) -> dict[str, float]:
        """The means over all processes, which must all bring the same names."""
        if self.world_size == 1:
            return dict(values)
        names = sorted(values)
        total = torch.tensor([values[name] for name in names], dtype=torch.float64)
        with explained():
            dist.all_reduce(total)
        means = dict(zip(names, (total / self.world_size).tolist(), strict=True))
        return {name: means[name] for name in values}

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process."""
        return self.mean({"flag": float(flag)})["flag"] > 0

    def gather(self, value: Any) -> list[Any]:
        """The values of all processes by rank, on the main one; elsewhere an empty list."""
        if self.world_size == 1:
            return [value]
        values = [None] * self.world_size if self.is_main else None
        with explained():
            dist.gather_object(value, values)
        return values or []

    def broadcast(self, value: Any) -> Any:
        """The main process's value."""
        if self.world_size == 1:
            return value
        values = [value]
        with explained():
            dist.broadcast_object_list(values, device=torch.device("cpu"))
        return values[0]

    def barrier(self) -> None:
        """Wait until all are here."""
        self.mean({"": 0.0})

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """The main process runs the block before the others do, so that they find what it made."""
        if not self.is_main:
            self.barrier()
        yield
        if self.is_main:
            self.barrier()


@contextmanager
def process_group(device: str) -> Iterator[Ranks]:
    """Join the processes that torchrun or Slurm's srun started; without either this process is alone.

    Where the process has joined before, it stays so afterwards.

    Args:
        device: As in `RunConfig`; GPUs exchange gradients over NCCL, CPUs over gloo.
    """
    adopt_slurm()
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or "RANK" not in os.environ:
        yield Ranks()
        return
    if device.startswith("cuda:"):
        raise UsageError(f'run.device {device!r} is one GPU for several processes; "cuda" gives each its own')
    ranks = Ranks(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), int(os.environ.get("LOCAL_RANK", "0")))
    if dist.is_initialized():
        yield ranks
        return
    on_gpus = resolve_device(device, ranks.local_rank).type == "cuda"
    dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpus else "gloo")
    try:
        yield ranks
    finally:
        dist.destroy_process_group()


@contextmanager
def explained() -> Iterator[None]:
    """Context of an exchange with other processes: says what it most often means when that fails."""
    try:
        yield
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise CommandError(
            f"the exchange with the other processes failed ({reason}); most likely one of them ended: "
            "see its output. The same command goes on from the newest checkpoint"
        ) from error
