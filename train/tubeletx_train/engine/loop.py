"""The training loop: what it trains is a `TrainingTask`."""

from __future__ import annotations

import collections
import logging
import os
import signal
import socket
import time
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic

import torch
import yaml

import tubeletx
from tubeletx_train.common.checkpoint import CheckpointError, load_checkpoint, step_of
from tubeletx_train.common.errors import LoaderError, UsageError
from tubeletx_train.common.files import append_line, explain_full_disk, write_json, write_text
from tubeletx_train.common.logs import RunLog
from tubeletx_train.common.machine import made_on
from tubeletx_train.common.seeding import rng_state, seed_everything, set_rng_state
from tubeletx_train.common.signals import StopRequest
from tubeletx_train.common.slurm import requeue
from tubeletx_train.common.trackers import open_tracker
from tubeletx_train.config.tree import default_settings, flatten, less_defaults, to_tree
from tubeletx_train.engine.run import RunContext
from tubeletx_train.engine.task import Batch, TrainingTask

# The length of the run that they give is compared.
_LENGTHS = ("optim.steps", "optim.epochs")
_ENDING_FILE = "ending.json"
_UNKNOWN = "no such setting"
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingResult:
    """How a run ended.

    Attributes:
        output: Its folder.
        checkpoint: The last checkpoint.
        step: Steps done.
        exit_code: 0, or 128 + a signal's number if one ended the run early.
        is_main: Whether this is the process that writes and says how the run ended.
        precision: That it was made in.
    """

    output: Path
    checkpoint: Path
    step: int
    exit_code: int
    is_main: bool = True
    precision: str = "float32"


def run_training(task: TrainingTask[Batch], run: RunContext) -> TrainingResult:
    """Train to the end, or until one of `signals.SIGNALS`, going on from a checkpoint where there is one.

    Writes into the run's folder `config.yaml`, `checkpoints/`, `log.jsonl`, `starts.jsonl`, `tensorboard/`, and as it
    ends `ending.json`. A run stopped anywhere, killed or by a signal, and started again ends with the same weights, bit
    for bit on the CPU, as one never stopped.

    Args:
        task: What is trained.
        run: As `open_run` made it.

    Raises:
        UsageError: The checkpoint to go on from is of another run, or damaged.
        CommandError: The run broke down; one line says why.
    """
    with explain_full_disk(run.output, "; started again, the run goes on from its newest checkpoint"):
        try:
            return _Loop(task, run).run()
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise UsageError(
                "batch norm has a single value to take its statistics of: a step needs more clips (optim.batch_size, "
                "over all processes and optim.accumulate), or clips more frames or pixels"
            ) from error


class _Loop(Generic[Batch]):
    def __init__(self, task: TrainingTask[Batch], run: RunContext) -> None:
        self._task = task
        self._run = run
        kept = run.config.keep_every_epochs
        self._checkpoints = run.checkpoints(None if kept is None else kept * task.steps_per_epoch)
        self._log: RunLog | None = None  # of the main rank
        self._evaluated = 0
        self._saved: int | None = None
        self._settled = False

    def run(self) -> TrainingResult:
        task, run = self._task, self._run
        log_state = self._resume()
        if not run.ranks.is_main:
            with StopRequest() as stop:
                self._train(stop)
            return self._result(stop)
        (run.output / _ENDING_FILE).unlink(missing_ok=True)
        tree = yaml.safe_dump(to_tree(task.config), sort_keys=False)
        write_text(run.output / "config.yaml", tree)
        with (
            StopRequest() as stop,  # before the workers start, so that they do not die of the signals first
            RunLog(
                run.output,
                total_steps=self._task.total_steps,
                first_step=task.step,
                last_evaluation=self._evaluated,
                every=run.config.log_every,
                tensorboard=run.config.tensorboard,
                tracker=open_tracker(run.config.tracker, run.output, flatten(to_tree(task.config))),
            ) as self._log,
        ):
            if log_state is not None:
                self._log.load_state_dict(log_state)
            self._train(stop)
        return self._result(stop)

    def _train(self, stop: StopRequest) -> None:
        task, ranks, config = self._task, self._run.ranks, self._run.config
        if self._evaluation_due():  # the run was stopped between a step and its evaluation
            self._evaluate()
        batches = task.source.batches(task.step, self._task.total_steps)
        while task.step < self._task.total_steps:
            batch, waited = _next(batches, stop)
            # A signal may reach one process a step before another: all stop at the same one.
            if ranks.any(batch is None):
                break
            assert batch is not None
            if not self._settled:
                task.settle_precision(batch)
                self._settled = True
                self._record_start()
            if task.step == 0 and self._log is not None:
                picture = task.draw_batch(batch, self._run.output)
                if picture is not None:
                    self._log.image("first_batch", picture)
            extra = {"epoch": task.step // self._task.steps_per_epoch, "lr": task.optimization.learning_rate}
            task.rng_before_step = rng_state()
            values = ranks.mean(task.train_step(batch))
            task.step += 1
            if self._log is not None:
                self._log.step(task.step, values, clips=task.clips(batch) * ranks.world_size, waited=waited, **extra)
            since = time.perf_counter()
            if self._evaluation_due() and not ranks.any(bool(stop)):
                self._evaluate()
            if task.step % config.checkpoint_every == 0 or self._permanent():
                self._save()
            if self._log is not None:
                self._log.pause(time.perf_counter() - since)
        if self._saved != task.step:
            self._save()

    def _record_start(self) -> None:
        """Add to `starts.jsonl` on what, and from which step, the run was made; each start is a line."""
        if self._log is None:
            return
        record = {
            "step": self._task.step,
            "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "host": socket.gethostname(),
            "process": os.getpid(),
            "processes": self._run.ranks.world_size,
            **made_on(self._run.device, str(self._task.optimization.settled)),
        }
        append_line(self._run.output / "starts.jsonl", record)

    def _permanent(self) -> bool:
        every = self._checkpoints.permanent_every
        return every is not None and self._task.step % every == 0

    def _evaluation_due(self) -> bool:
        config = self._run.config
        every = config.evaluate_every
        if config.evaluate_every_epochs is not None:
            every = config.evaluate_every_epochs * self._task.steps_per_epoch
        step = self._task.step
        return every is not None and step > self._evaluated and step % every == 0

    def _evaluate(self) -> None:
        state = rng_state()
        values = self._task.evaluate()
        set_rng_state(state)
        self._evaluated = self._task.step
        if self._log is not None and values:
            self._log.evaluation(self._task.step, values)

    def _save(self) -> None:
        task, ranks = self._task, self._run.ranks
        generators = ranks.gather(rng_state())
        if self._log is not None:
            state = task.state_dict() | {
                "tubeletx": tubeletx.__version__,
                "config": to_tree(task.config),
                "defaults": default_settings(task.config),
                "identity": task.identity(),
                "videos": {name: _packed(videos) for name, videos in task.video_lists().items()},
                "step": task.step,
                "total_steps": self._task.total_steps,
                "evaluated": self._evaluated,
                "rng": generators,
                "log": self._log.state_dict(),
            }
            self._checkpoints.save(task.step, state)
        self._saved = task.step

    def _result(self, stop: StopRequest) -> TrainingResult:
        step = self._task.step
        path = self._checkpoints.folder / f"step-{step:08d}.pt"
        early = step < self._task.total_steps
        # A rank that stopped because another one got the signal has none of its own.
        exit_code = (stop.exit_code or 128 + signal.SIGTERM) if early else 0
        if self._run.ranks.is_main:
            # torchrun exits with 1 whatever its processes exit with: a rule for starting a job anew can go by this.
            ending = {
                "finished": not early,
                "step": step,
                "total_steps": self._task.total_steps,
                "exit_code": exit_code,
            }
            write_json(self._run.output / _ENDING_FILE, ending, indent=None)
            if early and stop.signal == signal.SIGUSR1 and self._run.config.requeue:
                requeue()
        return TrainingResult(
            self._run.output, path, step, exit_code, self._run.ranks.is_main, str(self._task.optimization.settled)
        )

    def _resume(self) -> dict[str, Any] | None:
        """Take up a checkpoint's state; returns that of the log."""
        task, ranks = self._task, self._run.ranks
        found = self._find() if ranks.is_main else None
        path = ranks.broadcast(None if found is None else found[0])
        if path is None:
            if not ranks.is_main:  # same weights, own draws
                seed_everything(self._run.config.seed + (ranks.rank << 32))
            return None
        state = found[1] if found is not None else load_checkpoint(path)
        self._require_same_run(state, path)
        task.load_state_dict(state)
        task.step = self._saved = int(state["step"])
        self._evaluated = int(state["evaluated"])
        if len(state["rng"]) == ranks.world_size:
            set_rng_state(state["rng"][ranks.rank])
        else:
            _logger.warning("%s was written by %d processes, there are %d", path, len(state["rng"]), ranks.world_size)
        _logger.info("going on from %s (step %d of %d)", path, task.step, self._task.total_steps)
        log: dict[str, Any] = state["log"]
        return log

    def _find(self) -> tuple[Path, dict[str, Any]] | None:
        """The checkpoint to go on from."""
        choice = self._run.config.resume
        if choice in ("auto", "never"):
            return self._checkpoints.load_latest()
        path = Path(choice)
        state = load_checkpoint(path)
        newer = [other for other in self._checkpoints.paths() if step_of(other) > state["step"]]
        if newer:
            raise UsageError(
                f"{self._checkpoints.folder} holds checkpoints of later steps than {path} ({newer[0].name}); "
                "choose another --run.output, or delete them"
            )
        return path, state

    def _require_same_run(self, state: dict[str, Any], origin: Path) -> None:
        missing = {"config", "identity", "step", "total_steps", "evaluated", "rng", "log"} - state.keys()
        if missing:
            raise CheckpointError(f"{origin} is no checkpoint of a run: it lacks {', '.join(sorted(missing))}")
        free = self._task.free_on_resume
        # What one of the two versions does not know it does as by default.
        saved, current = flatten(state["config"]), flatten(to_tree(self._task.config))
        before = less_defaults(saved, state.get("defaults", {}), current)
        after = less_defaults(current, default_settings(self._task.config), saved)
        differing = _differences(before, after, free)
        identity = self._task.identity()
        # Versions may differ in these, too; what the checkpoint does not tell cannot be compared.
        changed = [what for what in identity if state["identity"].get(what, identity[what]) != identity[what]]
        lists = self._task.video_lists()
        other_videos = [_difference_of(what, state.get("videos", {}), lists) for what in changed if what in lists]
        differing += [f"the {what}" for what in changed if what not in lists]
        if other_videos and self._run.config.allow_changed_videos:
            for difference in other_videos:
                _logger.warning("%s: %s; the order of samples is another from here on", origin, difference)
        elif other_videos:
            differing += other_videos
        before, now = state["total_steps"], self._task.total_steps
        if now < before and not (other_videos and now > state["step"]):
            differing.append(f"steps in all (was {before}, now {now})")
        elif now != before:
            _logger.info("the run has now %d steps instead of %d: %s", now, before, self._task.longer_schedule())
        if differing:
            raise UsageError(
                f"{origin} is of a run with other settings: {'; '.join(differing)}. "
                "Choose another --run.output, or the old settings"
            )


def _packed(names: list[str]) -> torch.Tensor:
    """Names as compressed bytes, which a checkpoint holds as a tensor."""
    return torch.frombuffer(
        bytearray(zlib.compress("\0".join(names).encode(errors="surrogateescape"))), dtype=torch.uint8
    )


def _unpacked(packed: torch.Tensor) -> list[str]:
    return zlib.decompress(packed.numpy().tobytes()).decode(errors="surrogateescape").split("\0")


def _difference_of(what: str, saved: Mapping[str, torch.Tensor], now: Mapping[str, list[str]]) -> str:
    """Which videos of a list came and went."""
    if what not in saved:  # by an older version
        return f"the {what}"
    before, after = collections.Counter(_unpacked(saved[what])), collections.Counter(now[what])
    came, went = sorted((after - before).elements()), sorted((before - after).elements())
    if not came and not went:
        return f"the {what} (another order, or other parts of them)"
    return f"the {what} ({_some(came)} came, {_some(went)} went)"


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return f"{len(names)}" + (f": {shown}{', ...' if len(names) > 3 else ''}" if names else "")


def _differences(before: Mapping[str, Any], after: Mapping[str, Any], free: tuple[str, ...]) -> list[str]:
    return [
        f"{name} (was {before.get(name, _UNKNOWN)}, now {after.get(name, _UNKNOWN)})"
        for name in sorted(before.keys() | after.keys())
        if before.get(name, _UNKNOWN) != after.get(name, _UNKNOWN)
        and name not in _LENGTHS
        and (name == "run.seed" or not name.startswith(free))
    ]


def _next(batches: Iterator[Batch], stop: StopRequest) -> tuple[Batch | None, float]:
    """The next batch, None once a signal asked to stop; and the seconds waited for it."""
    since = time.perf_counter()
    if stop:
        return None, 0.0
    try:
        # A loader that starts draws once from the global generator: a resumed run must not be ahead by that draw.
        with torch.random.fork_rng(devices=[]):
            batch = next(batches)
    except LoaderError:
        if stop:  # the signal ended the workers too, perhaps in the middle of a batch
            return None, 0.0
        raise
    return batch, time.perf_counter() - since
