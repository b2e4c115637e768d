"""Runs what is missing of a study, each run in a process of its own; can be stopped and started again."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from tqdm import tqdm

from studies.runs import Run, Study
from tubeletx_train.common.signals import StopRequest

_LOOK_SECONDS = 0.5


def command_of(study: Study, run: Run) -> list[str]:
    """The command that performs a run."""
    shared = [str(study.root), study.size, str(study.steps or 0), study.reader or ""]
    return [sys.executable, "-m", "studies.worker", *shared, run.arm, str(run.seed), str(os.getpid())]


class Processes:
    """Processes that are under way, all of which can be asked to stop."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[bytes]] = set()
        self._stopped = False

    def stopped(self) -> bool:
        """Whether they were asked to stop."""
        return self._stopped

    def run(self, command: Sequence[str], log: Path, environment: dict[str, str]) -> int:
        """Run a command to its end, its output into a file; returns its exit code."""
        if self.stopped():
            return -1
        with log.open("ab") as file:
            # A session of its own: Ctrl-C reaches it through `stop` alone, once.
            process = subprocess.Popen(command, stdout=file, stderr=file, env=environment, start_new_session=True)
        self._running.add(process)
        if self.stopped():  # between the look above and the start
            process.terminate()
        code = process.wait()
        self._running.discard(process)
        return code

    def stop(self) -> None:
        """Ask all to save a checkpoint and leave; those to come do not start."""
        self._stopped = True
        for process in list(self._running):
            process.terminate()


@dataclass(frozen=True)
class Job:
    """A process to run.

    Attributes:
        name: What a message calls it.
        command: Its words.
        log: File that its output is added to; the folder exists.
        finish: Called in the main thread once the process ended without an error; returns whether the result is there.
    """

    name: str
    command: list[str]
    log: Path
    finish: Callable[[], bool]


def run_missing(
    study: Study,
    runs: Sequence[Run],
    *,
    jobs: int | None = None,
    seconds: float | None = None,
    command: Callable[[Study, Run], list[str]] = command_of,
) -> int:
    """Run what is missing, in the order given, several at a time.

    Args:
        study: Where the runs are kept.
        runs: What belongs to the study.
        jobs: Runs at once; None takes one for each GPU, or for each core where there is none.
        seconds: Stop after so long; runs under way save a checkpoint.
        command: Performs a run.

    Returns:
        0; 1 where runs failed; 128 + a signal's number where one stopped it.
    """
    missing = [run for run in runs if not study.complete(run)]
    folders = {run: study.prepare(run) for run in missing}
    todo = [
        Job(
            f"{run.arm}, seed {run.seed}",
            command(study, run),
            folders[run] / "output.log",
            partial(study.complete, run),
        )
        for run in missing
    ]
    return run_jobs(todo, "study", done=len(runs) - len(missing), at_once=jobs, seconds=seconds)


def run_jobs(
    jobs: Sequence[Job], title: str, *, done: int = 0, at_once: int | None = None, seconds: float | None = None
) -> int:
    """Run jobs in the order given, several at a time.

    Args:
        jobs: To run.
        title: Of the progress bar.
        done: How many of the same kind were done before, for the bar.
        at_once: How many; None takes one for each GPU, or for each core where there is none.
        seconds: Stop after so long; those under way are asked to leave.

    Returns:
        0; 1 where some failed; 128 + a signal's number where one stopped it.
    """
    gpus = torch.cuda.device_count()
    at_once = at_once or gpus or len(os.sched_getaffinity(0))
    end = None if seconds is None else time.monotonic() + seconds
    processes = Processes()

    def perform(place: int, job: Job) -> int:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        if gpus:
            environment["CUDA_VISIBLE_DEVICES"] = str(place % gpus)
        else:
            environment["OMP_NUM_THREADS"] = "1"
        return processes.run(job.command, job.log, environment)

    failed = 0
    with StopRequest() as stop, _pool(at_once, processes) as pool:
        under_way = {pool.submit(perform, place, job): job for place, job in enumerate(jobs)}
        with tqdm(total=done + len(jobs), initial=done, desc=title, unit="run", dynamic_ncols=True) as bar:
            for future in _completed(under_way, lambda: bool(stop) or (end is not None and time.monotonic() > end)):
                job = under_way[future]
                if future.result() == 0 and job.finish():
                    bar.update()
                else:
                    failed += 1
                    tqdm.write(f"{job.name} failed: {job.log} says why")
    return stop.exit_code if stop else int(failed > 0)


@contextmanager
def _pool(jobs: int, processes: Processes) -> Iterator[ThreadPoolExecutor]:
    pool = ThreadPoolExecutor(jobs)
    try:
        yield pool
    finally:
        processes.stop()
        pool.shutdown(cancel_futures=True)


def _completed(futures: dict[Future[int], Job], stopped: Callable[[], bool]) -> Iterator[Future[int]]:
    """Futures as they complete, until all have or a stop is asked for."""
    waiting = set(futures)
    while waiting and not stopped():
        done, waiting = wait(waiting, _LOOK_SECONDS, FIRST_COMPLETED)
        yield from done
