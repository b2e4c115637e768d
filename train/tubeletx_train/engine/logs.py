"""What a run reports: progress bar, JSON lines, TensorBoard."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

_PROGRESS_FIELDS = ("loss", "top1", "clips_per_second", "data_wait")


class RunLog:
    """Averages what steps report and writes it out every few steps.

    Of a run that goes on from a checkpoint it first drops the lines that were written after that checkpoint, so the
    log of a run that was stopped reads like that of one that was not.
    """

    def __init__(
        self, folder: Path, *, total_steps: int, first_step: int = 0, every: int = 10, tensorboard: bool = True
    ) -> None:
        """Args: `first_step` steps are done already; `every` steps are averaged into one line."""
        self._every = every
        self._sums: dict[str, float] = {}
        self._count = 0
        self._clips = 0
        self._waited = 0.0
        self._since = time.perf_counter()
        path = folder / "log.jsonl"
        _drop_lines_after(path, first_step)
        self._file = open(path, "a", encoding="utf-8", buffering=1)  # noqa: SIM115 - closed in __exit__
        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=first_step + 1) if tensorboard else None
        self._bar = tqdm(total=total_steps, initial=first_step, unit="step", dynamic_ncols=True)

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.close()
        self._file.close()
        if self._writer is not None:
            self._writer.close()

    def step(self, step: int, values: Mapping[str, float], *, clips: int, waited: float, **extra: float) -> None:
        """Report one step.

        Args:
            step: Steps done, this one included.
            values: Averaged over the steps of a line.
            clips: Clips that went through the network.
            waited: Seconds spent waiting for data.
            **extra: Written as they are at the last step of a line.
        """
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._count += 1
        self._clips += clips
        self._waited += waited
        self._bar.update()
        if step % self._every == 0 or step == self._bar.total:
            self._write(step, extra)

    def _write(self, step: int, extra: Mapping[str, float]) -> None:
        now = time.perf_counter()
        elapsed = max(now - self._since, 1e-9)
        record = {name: total / self._count for name, total in self._sums.items()}
        record |= extra
        record |= {"clips_per_second": self._clips / elapsed, "data_wait": self._waited / elapsed}
        self._file.write(json.dumps({"step": step} | record) + "\n")
        if self._writer is not None:
            for name, value in record.items():
                if math.isfinite(value):
                    self._writer.add_scalar(name, value, step)
        self._bar.set_postfix({name: f"{record[name]:.3g}" for name in _PROGRESS_FIELDS if name in record})
        self._sums, self._count, self._clips, self._waited, self._since = {}, 0, 0, 0.0, now

    def state_dict(self) -> dict[str, Any]:
        """The averages under way, for a checkpoint between two lines."""
        return {"sums": dict(self._sums), "count": self._count}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with the averages of a checkpoint."""
        self._sums, self._count = dict(state["sums"]), int(state["count"])


def _drop_lines_after(path: Path, step: int) -> None:
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except (json.JSONDecodeError, KeyError):
            continue  # half a line of a run that was killed
    path.write_text("".join(kept), encoding="utf-8")
