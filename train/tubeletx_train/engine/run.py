"""A run's folder, which it locks, the processes that share it, and the device of each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from tubeletx_train.common.checkpoint import CheckpointError, CheckpointFolder
from tubeletx_train.common.device import resolve_device
from tubeletx_train.common.distributed import Ranks, process_group
from tubeletx_train.common.errors import UsageError
from tubeletx_train.common.files import writable_folder
from tubeletx_train.common.lock import locked_folder
from tubeletx_train.common.trackers import require_tracker
from tubeletx_train.config.run import RunConfig


@dataclass(frozen=True)
class RunContext:
    """Where a run writes, among which processes, and on which device.

    Attributes:
        config: Settings.
        output: The folder, which exists; only the main rank writes there.
        device: Of this process.
        ranks: The processes.
    """

    config: RunConfig
    output: Path
    device: torch.device
    ranks: Ranks

    @property
    def seed(self) -> int:
        """Of everything drawn."""
        return self.config.seed

    def checkpoints(self, permanent_every: int | None = None) -> CheckpointFolder:
        """The run's checkpoints; see `CheckpointFolder`."""
        return CheckpointFolder(self.output / "checkpoints", self.config.keep_checkpoints, permanent_every)


@contextmanager
def open_run(config: RunConfig) -> Iterator[RunContext]:
    """Join the other processes, and find out at once whether the run can start at all.

    Raises:
        UsageError: The folder cannot be written to, or is another run's; the device is not there; or there is something
            else to resume than the settings say.
    """
    with process_group(config.device) as ranks, ExitStack() as opened:
        run = RunContext(config, Path(config.output), resolve_device(config.device, ranks.local_rank), ranks)
        require_tracker(config.tracker)
        if ranks.is_main:
            writable_folder(run.output)
            opened.enter_context(locked_folder(run.output, "trained into", "--run.output"))
            _check_resume(run)
        if run.device.type == "cuda":
            torch.cuda.set_device(run.device)
            torch.backends.cudnn.benchmark = True  # every step has the shapes of the first
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        yield run


def _check_resume(run: RunContext) -> None:
    paths = run.checkpoints().paths()
    if run.config.resume == "never" and paths:
        raise UsageError(f"{run.output} already holds a run; choose another --run.output or --run.resume auto")
    if run.config.resume not in ("never", "auto") and not Path(run.config.resume).is_file():
        raise CheckpointError(f'--run.resume {run.config.resume}: no such checkpoint, nor "auto" or "never"')
