"""What a run reports: progress bar, JSON lines, TensorBoard."""

from __future__ import annotations

import json
import logging
import math
import resource
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from tubeletx_train.common.files import write_text
from tubeletx_train.common.trackers import Tracker

_logger = logging.getLogger(__name__)
# Where there is no terminal to show a bar on.
_SECONDS_BETWEEN_LINES = 60.0
_PROGRESS_FIELDS = ("loss", "top1", "clips_per_second", "data_wait")


class RunLog:
    """Averages what steps report and writes it out every few steps, `log.jsonl` and `tensorboard/` in a folder.

    Of a run that goes on from a checkpoint it first drops the lines that were written after that checkpoint, so the
    log of a run that was stopped reads like that of one that was not.
    """

    def __init__(
        self,
        folder: Path,
        *,
        total_steps: int,
        first_step: int = 0,
        last_evaluation: int = 0,
        every: int = 10,
        tensorboard: bool = True,
        tracker: Tracker | None = None,
    ) -> None:
        """Opens the log.

        Args:
            folder: Holds the files.
            total_steps: Length of the run.
            first_step: Steps done already.
            last_evaluation: Step after which the network was last evaluated.
            every: Steps averaged into one line.
            tensorboard: Whether to write event files.
            tracker: Gets the same numbers; closed with the log.
        """
        self._tracker = tracker
        self._every = every
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}
        self._clips = 0
        self._waited = 0.0
        self._since = time.perf_counter()
        path = folder / "log.jsonl"
        _drop_lines_after(path, first_step, last_evaluation)
        self._file = open(path, "a", encoding="utf-8", buffering=1)  # noqa: SIM115 - closed in __exit__
        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=first_step + 1) if tensorboard else None
        # A bar is for a terminal; redrawn into a file it would fill it.
        self._bar = tqdm(total=total_steps, initial=first_step, unit="step", dynamic_ncols=True, disable=None)
        self._said = -math.inf
        self._first = True

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.close()
        self._file.close()
        if self._writer is not None:
            self._writer.close()
        if self._tracker is not None:
            self._tracker.close()

    def step(self, step: int, values: Mapping[str, float], *, clips: int, waited: float, **extra: float) -> None:
        """Report one step.

        Args:
            step: Steps done, this one included.
            values: Averaged over those steps of a line that report them.
            clips: Clips that went through the network.
            waited: Seconds spent waiting for data.
            **extra: Written as they are at the last step of a line.
        """
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
            self._counts[name] = self._counts.get(name, 0) + 1
        self._clips += clips
        self._waited += waited
        self._bar.update()
        if self._bar.disable and self._first:
            seconds = time.perf_counter() - self._since  # starting the data processes included
            _logger.info("step %d of %d, the first since the start, took %.3g s", step, self._bar.total, seconds)
        self._first = False
        if step % self._every == 0 or step == self._bar.total:
            self._write_averages(step, extra)

    def evaluation(self, step: int, values: Mapping[str, float]) -> None:
        """Say and write what an evaluation found, as a line of its own: names get the prefix "evaluation/"."""
        _logger.info("evaluation after step %d: %s", step, ", ".join(f"{k} {v:.3g}" for k, v in values.items()))
        self._write(step, {f"evaluation/{name}": value for name, value in values.items()})

    def pause(self, seconds: float) -> None:
        """Leave out of clips per second what was spent on something other than training."""
        self._since += seconds

    def image(self, name: str, path: Path) -> None:
        """Show a picture in TensorBoard."""
        if self._writer is not None:
            with Image.open(path) as picture:
                self._writer.add_image(name, np.asarray(picture.convert("RGB")), 0, dataformats="HWC")

    def _write_averages(self, step: int, extra: Mapping[str, float]) -> None:
        now = time.perf_counter()
        elapsed = max(now - self._since, 1e-9)
        record = {name: total / self._counts[name] for name, total in self._sums.items()}
        record |= extra
        record |= {
            "clips_per_second": self._clips / elapsed,
            "data_wait": self._waited / elapsed,
            "peak_memory_gb": peak_memory() / 1e9,
        }
        self._write(step, record)
        shown = {name: f"{record[name]:.3g}" for name in _PROGRESS_FIELDS if name in record}
        self._bar.set_postfix(shown)
        if self._bar.disable and (now - self._said >= _SECONDS_BETWEEN_LINES or step == self._bar.total):
            self._said = now
            _logger.info("step %d of %d: %s", step, self._bar.total, ", ".join(f"{k} {v}" for k, v in shown.items()))
        self._sums, self._counts, self._clips, self._waited, self._since = {}, {}, 0, 0.0, now

    def _write(self, step: int, record: Mapping[str, float]) -> None:
        finite = {name: value for name, value in record.items() if math.isfinite(value)}
        self._file.write(json.dumps({"step": step} | finite) + "\n")
        if self._writer is not None:
            for name, value in finite.items():
                self._writer.add_scalar(name, value, step)
        if self._tracker is not None:
            self._tracker.log(step, finite)

    def state_dict(self) -> dict[str, Any]:
        """The averages under way, for a checkpoint between two lines."""
        return {"sums": dict(self._sums), "counts": dict(self._counts)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with the averages of a checkpoint."""
        self._sums, self._counts = dict(state["sums"]), dict(state["counts"])


def peak_memory() -> int:
    """The most that this process has held, bytes: of the GPU's memory where it uses one, else of the machine's."""
    if held := torch.cuda.max_memory_allocated():
        return held
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _drop_lines_after(path: Path, step: int, last_evaluation: int) -> None:
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
            evaluation = any(name.startswith("evaluation/") for name in record)
            if record["step"] <= (last_evaluation if evaluation else step):
                kept.append(line + "\n")
        except (json.JSONDecodeError, KeyError):
            continue  # half a line of a run that was killed
    write_text(path, "".join(kept))
