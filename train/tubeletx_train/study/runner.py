"""Runs what is missing of the study, several runs at once, and can be stopped and started again."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from tubeletx_train.common.signals import StopRequest
from tubeletx_train.config.tree import merge
from tubeletx_train.study.arms import REFERENCES, arm_recipe
from tubeletx_train.study.config import StudyConfig
from tubeletx_train.study.runs import Run, RunFolder, accuracy, search_runs

_POLL_SECONDS = 0.5
# Measured along a reported run; every measurement costs seconds.
_POINTS = 5


@dataclass
class Schedule:
    """Which run comes next: for each seed in turn every arm, an arm's first preceded by the search for its rate.

    Attributes:
        arms: In the order in which they are run.
        seeds: Reported seeds.
        factors: Learning rates that are tried, as multiples.
        search_seed: Seed that they are tried on.
        results: Results of complete runs so far.
    """

    arms: Sequence[str]
    seeds: Sequence[int]
    factors: Sequence[float]
    search_seed: int
    results: dict[Run, dict[str, Any]] = field(default_factory=dict)

    def total(self) -> int:
        """Runs in all."""
        searches = {run for arm in self.arms for run in self._search(arm)}
        return len(searches) + len(self.arms) * len(self.seeds)

    def factor(self, arm: str) -> float | None:
        """The learning rate chosen for an arm, None while its search is not complete."""
        runs = self._search(arm)
        if not runs:
            return 1.0 if arm in REFERENCES else self.factors[0]
        if not all(run in self.results for run in runs):
            return None
        return max(runs, key=lambda run: accuracy(self.results[run])).factor

    def missing(self) -> list[Run]:
        """Runs that are not complete and could start now, the next one first."""
        ready: dict[Run, None] = {}
        for seed in self.seeds:
            for arm in self.arms:
                ready |= dict.fromkeys(self._search(arm))
                if (factor := self.factor(arm)) is not None:
                    ready[Run(arm, factor, seed)] = None
        return [run for run in ready if run not in self.results]

    def _search(self, arm: str) -> list[Run]:
        return search_runs(arm, self.factors, self.search_seed)


class Store:
    """The runs on disk."""

    def __init__(self, config: StudyConfig, root: Path) -> None:
        self.config = config
        self.root = root

    @property
    def manifest(self) -> Path:
        """Manifest that all runs read."""
        return self.root / "videos.csv"

    @property
    def measurements(self) -> Path:
        """File of the clips that all runs are measured by."""
        return self.root / "measurements.pt"

    def folder(self, run: Run) -> RunFolder:
        """Folder of a run."""
        return RunFolder(self.root / "runs" / run.name)

    def recipe(self, run: Run) -> dict[str, Any]:
        """All settings of a run's pretraining."""
        recipe = arm_recipe(run.arm, self.config.size)
        optim = recipe["optim"]
        steps = self.config.steps or optim["steps"]
        over = {
            "data": {"videos": str(self.manifest)},
            "optim": {
                "lr": optim["lr"] * run.factor,
                "steps": steps,
                "warmup_steps": optim["warmup_steps"] * steps // optim["steps"],
            },
            "run": {
                "output": str(self.folder(run).path / "pretraining"),
                "seed": run.seed,
                "threads": None if torch.cuda.is_available() else 1,
                "checkpoint_every": steps if run.search else max(steps // _POINTS, 1),
                "keep_checkpoints": _POINTS + 1,
            },
        }
        return merge(recipe, over)

    def result(self, run: Run) -> dict[str, Any] | None:
        """Result of a complete run, else None. Raises UsageError if that run had other settings."""
        folder = self.folder(run)
        folder.check(self.recipe(run))
        return folder.result()

    def start(self, run: Run, slot: int) -> subprocess.Popen[bytes]:
        """Start a run in a process of its own; `slot` chooses the GPU it gets, if there are any."""
        folder = self.folder(run)
        folder.prepare(run, self.recipe(run), self.measurements)
        environment = dict(os.environ)
        if count := torch.cuda.device_count():
            environment["CUDA_VISIBLE_DEVICES"] = str(slot % count)
        else:
            environment["OMP_NUM_THREADS"] = "1"
        with folder.log.open("ab") as log:
            command = [sys.executable, "-m", "tubeletx_train.study.worker", str(folder.path), str(os.getpid())]
            # A session of its own: Ctrl-C reaches it through the runner alone, once.
            return subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)


@dataclass(frozen=True)
class Outcome:
    """How far the study came.

    Attributes:
        exit_code: 0, 1 if runs failed, 128 + a signal's number if one stopped it.
        failed: Folders of runs that broke down.
        missing: Whether runs are left to do.
    """

    exit_code: int
    failed: list[RunFolder]
    missing: bool


def run_missing(schedule: Schedule, store: Store, *, jobs: int, minutes: float | None = None) -> Outcome:
    """Run what is missing.

    Args:
        schedule: What belongs to the study; its `results` are filled in.
        store: Where runs are kept and how they are started.
        jobs: Runs at once.
        minutes: Stop after so long.
    """
    read_results(schedule, store)
    active: dict[Run, tuple[int, subprocess.Popen[bytes]]] = {}
    failed: dict[Run, RunFolder] = {}
    deadline = None if minutes is None else time.monotonic() + 60 * minutes
    bar = tqdm(total=schedule.total(), initial=len(schedule.results), desc="study", unit="run", dynamic_ncols=True)
    with StopRequest() as stop, bar:
        while not (stop or (deadline is not None and time.monotonic() > deadline)):
            for run in list(active):
                code = active[run][1].poll()
                if code is None:
                    continue
                del active[run]
                result = store.result(run)
                if code or result is None:
                    failed[run] = store.folder(run)
                    tqdm.write(f"{run.name} failed; {failed[run].log} says why")
                else:
                    schedule.results[run] = result
                    bar.update()
            waiting = [run for run in schedule.missing() if run not in active and run not in failed]
            taken = {slot for slot, _ in active.values()}
            for run, slot in zip(waiting, [slot for slot in range(jobs) if slot not in taken], strict=False):
                active[run] = (slot, store.start(run, slot))
                bar.set_postfix_str(", ".join(run.name for run in active))
            if not active:
                break
            time.sleep(_POLL_SECONDS)
        _stop(active)
    exit_code = stop.exit_code if stop else int(bool(failed))
    return Outcome(exit_code, list(failed.values()), bool(schedule.missing()))


def read_results(schedule: Schedule, store: Store) -> None:
    """Fill in the results of complete runs."""
    while found := {run: result for run in schedule.missing() if (result := store.result(run)) is not None}:
        schedule.results |= found


def _stop(active: Mapping[Run, tuple[int, subprocess.Popen[bytes]]]) -> None:
    """Ask runs to save a checkpoint and leave."""
    for _, process in active.values():
        process.terminate()
    for _, process in active.values():
        process.wait()
