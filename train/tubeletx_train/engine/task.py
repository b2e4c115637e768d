"""What the loop trains: a `TrainingTask`."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from torch import Tensor, nn

from tubeletx_train.common.non_finite import NonFiniteGradientError, NonFiniteLossError, require_finite, save_dump
from tubeletx_train.common.seeding import seed_everything
from tubeletx_train.engine.optimization import Optimization
from tubeletx_train.engine.run import RunContext


class StepBatch(Protocol):
    """What a batch, a dataclass, must have."""

    @property
    def epoch(self) -> int:
        """The one epoch all of its samples belong to."""
        ...

    @property
    def sample_ids(self) -> Tensor:
        """(B,) int64."""
        ...


Batch = TypeVar("Batch", bound=StepBatch)
Made = TypeVar("Made", bound=StepBatch, covariant=True)


class BatchSource(Protocol[Made]):
    """Where a task's batches come from; `data.loader.EpochLoader` is one."""

    @property
    def batch_size(self) -> int:
        """Samples of a batch of this process."""
        ...

    @property
    def steps_per_epoch(self) -> int:
        """Steps an epoch."""
        ...

    def batches(self, start: int, stop: int) -> Iterator[Made]:
        """The batches of this process, on its device, for steps `start` to `stop`, the first being step 0.

        Raises:
            LoaderError: A worker died, or gave no batch in time.
        """
        ...


class TrainingTask(ABC, Generic[Batch]):
    """What is trained, on which batches, and how one step of it goes.

    `run_training` owns the rest: signals, checkpoints and exact resume, logs and progress, evaluations, agreement among
    processes. With several processes each has a task of its own, and all make the same calls in the same order.

    A subclass calls this constructor, which seeds the generators, so that all processes start from the same weights;
    then builds `net`, and last `optimization`, by `build_optimization`.

    Exact resume asks two things: batches depend on their steps alone; and whatever else the steps to come depend on is
    in `state_dict`, or is the state of torch's global generators.

    Attributes:
        config: Settings with at least the sections `optim` and `run`, saved with every checkpoint and compared at a
            resume.
        run: Where, and among how many processes.
        device: Of this process.
        source: Of the batches.
        batch_size: Samples of a batch of this process.
        total_steps: Length of the run.
        steps_per_epoch: Steps an epoch.
        step: Steps done; the loop counts it up after each `train_step`.
        rng_before_step: State of the generators as the step under way began.
        free_on_resume: Prefixes of settings that a resumed run may change without becoming another run. `run.seed` is
            never free.
        net: What a checkpoint holds.
        optimization: Of `net`, or of the part of it that takes a gradient.
    """

    step: int = 0
    rng_before_step: dict[str, object] | None = None
    free_on_resume: tuple[str, ...] = (
        "run.",
        "data.num_workers",
        "data.prefetch",
        "data.timeout",
        "data.check_timeout",
    )
    net: nn.Module
    optimization: Optimization
    _failure: NonFiniteLossError | None = None

    def __init__(self, config: Any, run: RunContext, source: BatchSource[Batch]) -> None:
        self.config = config
        self.run = run
        self.device = run.device
        self.source = source
        self.batch_size = source.batch_size
        self.steps_per_epoch = source.steps_per_epoch
        self.total_steps: int = config.optim.steps or config.optim.epochs * self.steps_per_epoch
        seed_everything(config.run.seed)

    def build_optimization(self, module: nn.Module, updates: int = 1) -> Optimization:
        """The optimisation of a module on its device, where each step of the run makes so many updates."""
        return Optimization(
            module,
            self.config.optim,
            total_steps=self.total_steps * updates,
            steps_per_epoch=self.steps_per_epoch * updates,
            device=self.device,
            ranks=self.run.ranks,
        )

    @abstractmethod
    def train_step(self, batch: Batch) -> dict[str, float]:
        """One step; returns what it measured, under the same names in every process.

        Raises:
            NonFiniteError: Before the weights are touched; see `common.non_finite`.
        """

    @abstractmethod
    def check_loss(self, batch: Batch) -> Callable[[], Tensor]:
        """The scalar loss of the first `checked_samples` of a batch as the next step would take it.

        The network is in training mode afterwards. What is returned draws nothing but from torch's generators, and
        changes nothing but buffers of `net`.
        """

    def evaluate(self) -> Mapping[str, float]:
        """Judge the network after a step, as often as `run.evaluate_every` or `run.evaluate_every_epochs` says.

        All processes call it, and what the main one returns is logged. It must leave the task as it was but for what
        `state_dict` holds; the global generators are put back afterwards.
        """
        return {}

    def draw_batch(self, batch: Batch, folder: Path) -> Path | None:  # noqa: ARG002 - for those who override it
        """Draw a picture of the run's first batch into a folder, before the step; returns its path."""
        return None

    def clips(self, batch: Batch) -> int:
        """Clips that go through the network in the step of a batch: one a sample."""
        return len(batch.sample_ids)

    def identity(self) -> dict[str, object]:
        """What beside the settings must not change at a resume, plain data by a name for the user."""
        return {}

    def video_lists(self) -> dict[str, list[str]]:
        """The names of videos behind those entries of `identity` that are lists of videos."""
        return {}

    def settle_precision(self, batch: Batch) -> None:
        """Before the first step of a process: check the precision by its batch; see `Optimization.settle_precision`."""
        self.optimization.settle_precision(self.net, lambda: self.check_loss(batch))

    def require_finite(
        self,
        loss: Tensor,
        batch: Batch,
        sample_ids: Tensor | None = None,
        dump: Callable[[], Mapping[str, Any]] | None = None,
    ) -> None:
        """End the run where a loss is NaN or infinite; see `common.non_finite.require_finite`.

        Among several processes it is the next `update` that ends it, in all of them.

        Args:
            loss: (B,) of each sample, or a scalar.
            batch: The batch it is of.
            sample_ids: (B,) int64 of the part of the batch that the loss is of; None is all of it.
            dump: Makes what is saved beside the weights; by default the batch.
        """
        try:
            require_finite(
                loss,
                step=self.step + 1,
                epoch=batch.epoch,
                sample_ids=batch.sample_ids if sample_ids is None else sample_ids,
                dump=lambda: self._dump(batch, dump),
                path=self._dump_path(),
            )
        except NonFiniteLossError as error:
            if self.run.ranks.world_size == 1:
                raise
            self._failure = self._failure or error

    def update(self, batch: Batch, dump: Callable[[], Mapping[str, Any]] | None = None) -> dict[str, float]:
        """The optimiser's step that ends a batch, or a part of it; returns what it measured.

        Args:
            batch: The batch.
            dump: As for `require_finite`.

        Raises:
            NonFiniteLossError: The loss was not finite, in this process or another.
            NonFiniteGradientError: The gradient is not; the weights are untouched.
        """
        if self.run.ranks.any(self._failure is not None):
            raise self._failure or NonFiniteLossError(
                f"loss is not finite at step {self.step + 1} in another process: see its output"
            )
        try:
            return self.optimization.step()
        except NonFiniteGradientError as error:
            where = save_dump(self._dump(batch, dump), self._dump_path())
            ids = batch.sample_ids.tolist()
            raise NonFiniteGradientError(
                f"{error} at step {self.step + 1} (epoch {batch.epoch}), sample ids {ids}; the weights were not "
                f"touched; {where}"
            ) from error

    def _dump(self, batch: Batch, dump: Callable[[], Mapping[str, Any]] | None) -> dict[str, Any]:
        """What led to a value that is not finite: weights, optimiser, generators before the step, batch."""
        given = dump() if dump is not None else {"batch": dataclasses.asdict(batch)}  # type: ignore[call-overload]
        return {**self.state_dict(), "step": self.step, "rng": self.rng_before_step, **given}

    def _dump_path(self) -> Path:
        rank = self.run.ranks.rank
        return self.run.output / ("non-finite.pt" if rank == 0 else f"non-finite-{rank}.pt")

    def longer_schedule(self) -> str:
        """What becomes of the schedule of a run that is made longer."""
        optim = self.config.optim
        if optim.schedule == "step":
            return "after its last milestone the learning rate stays as it is"
        if optim.schedule_epochs is not None:
            return f"its cosine still ends after {optim.schedule_epochs} epochs; after that the learning rate is zero"
        return "its cosine spans the longer run, so the learning rate rises to that cosine's"

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must hold, network and optimiser; the main process's is saved."""
        return {"model": self.net.state_dict()} | self.optimization.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned, on the CPU; other entries are passed over."""
        self.net.load_state_dict(state["model"])
        self.optimization.load_state_dict(state)


def checked_samples(count: int) -> int:
    """Of so many samples that go through the network at a time, those that the precision is checked by."""
    return min(count, max(-(-count // 4), 2))
