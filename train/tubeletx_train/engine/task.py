"""A task over a data set: the part that pretraining, fine-tuning and repetition counting have in common."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from tubeletx_train.common.non_finite import NonFiniteGradientError, NonFiniteLossError, require_finite, save_dump
from tubeletx_train.common.seeding import seed_everything
from tubeletx_train.data.bad_videos import BadVideo, BadVideoTracker
from tubeletx_train.data.loader import LoadedDataset, build_clip_loader
from tubeletx_train.data.sampler import EpochSampler
from tubeletx_train.data.shared_memory import require_shared_memory
from tubeletx_train.engine.loop import TrainingTask
from tubeletx_train.engine.optimization import Optimization
from tubeletx_train.engine.run import Run


class VideoBatch(Protocol):
    """What a batch, a dataclass, must have."""

    @property
    def bad(self) -> list[BadVideo]:
        """Videos that could not be read while the batch was made."""
        ...

    @property
    def epoch(self) -> int:
        """The one epoch all of its samples belong to."""
        ...

    @property
    def sample_ids(self) -> Tensor:
        """(B,) int64."""
        ...

    def to(self: Batch, device: torch.device) -> Batch:
        """The batch with its tensors on a device."""
        ...


Batch = TypeVar("Batch", bound=VideoBatch)


class EpochTask(TrainingTask[Batch]):
    """Trains a network on the samples of a data set, each once an epoch, in an order drawn from `run.seed`.

    A subclass hands its data set to this constructor, which seeds the generators; then builds `net`, and last
    `optimization`, by `build_optimization`.

    Attributes:
        config: Settings with at least the sections `optim` and `run`.
        run: Where, and among how many processes.
        device: Of this process.
        batch_size: Samples of a batch of this process.
        dataset: What is visited.
        net: What a checkpoint holds.
        optimization: Of `net`, or of the part of it that takes a gradient.
    """

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

    def __init__(
        self,
        config: Any,
        run: Run,
        dataset: LoadedDataset,
        collate: Callable[[list[Any]], Batch],
        bad_videos: BadVideoTracker,
    ) -> None:
        """Args: `collate` puts samples together, importable by a worker; `bad_videos` counts those that go bad."""
        self.config = config
        self.run = run
        self.device = run.device
        self.dataset = dataset
        self.batch_size = run.ranks.share(config.optim.batch_size, "optim.batch_size")
        self._collate = collate
        self._bad_videos = bad_videos
        self.steps_per_epoch = self._sampler().batches_per_epoch
        self.total_steps = config.optim.steps or config.optim.epochs * self.steps_per_epoch
        seed_everything(config.run.seed)

    def _sampler(self, start: int = 0, stop: int | None = None) -> EpochSampler:
        return EpochSampler(
            len(self.dataset),
            self.batch_size,
            seed=self.config.run.seed,
            rank=self.run.ranks.rank,
            world_size=self.run.ranks.world_size,
            start=start,
            stop=stop,
        )

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

    def batches(self, start: int, stop: int) -> Iterator[Batch]:
        """Batches on the device.

        Raises:
            UsageError: The machine has not the shared memory to hand them over.
            TooManyBadVideos: Too many videos could not be read.
        """
        config = self.dataset.config
        require_shared_memory(self.sample_bytes() * self.batch_size, config.num_workers, config.prefetch)
        pin = self.device.type == "cuda"
        for batch in build_clip_loader(self.dataset, self._sampler(start, stop), self._collate, pin_memory=pin):
            self._bad_videos.update(batch.bad)
            yield batch.to(self.device)

    @abstractmethod
    def check_loss(self, batch: Batch) -> Callable[[], Tensor]:
        """The scalar loss of the first `checked_samples` of a batch as the next step would take it.

        The network is in training mode afterwards. What is returned draws nothing but from torch's generators, and
        changes nothing but buffers of `net`.
        """

    @property
    def precision(self) -> str:
        """That of the optimisation."""
        return self.optimization.precision

    def settle_precision(self, batch: Batch) -> None:
        """Check the precision by the first batch; see `Optimization.settle_precision`."""
        self.optimization.settle_precision(self.net, lambda: self.check_loss(batch))

    def sample_bytes(self) -> int:
        """Bytes of the largest sample."""
        return 0

    def clips(self, batch: Batch) -> int:
        """One a sample."""
        return len(batch.sample_ids)

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

    def learning_rate(self) -> float:
        """Of the step to come."""
        return self.optimization.learning_rate

    def state_dict(self) -> dict[str, Any]:
        """Network and optimiser."""
        return {"model": self.net.state_dict()} | self.optimization.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.net.load_state_dict(state["model"])
        self.optimization.load_state_dict(state)


def checked_samples(count: int) -> int:
    """Of so many samples that go through the network at a time, those that the precision is checked by."""
    return min(count, max(-(-count // 4), 2))
