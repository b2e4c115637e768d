"""Brings samples to the training process in batches."""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tubeletx_train.common.processes import exit_with_parent, forkserver_context
from tubeletx_train.config.data import ReadingConfig
from tubeletx_train.data.bad_videos import BadVideo
from tubeletx_train.data.errors import LoaderError, NoUsableVideos
from tubeletx_train.data.pairs import PairDataset, PairSample
from tubeletx_train.data.sampler import EpochSampler

# Seconds between looks at whether the workers live. Forked from a server they are no children of this process, which
# hence gets no signal when one dies; torch looks only when its timeout has passed.
_POLL = 5.0

Batch = TypeVar("Batch")


class LoadedDataset(Protocol):
    """A data set that can say what its workers are reading, should one die."""

    @property
    def config(self) -> ReadingConfig: ...  # noqa: D102
    def videos_being_read(self) -> list[str]: ...  # noqa: D102
    def __len__(self) -> int: ...
    def __getitem__(self, key: Any) -> Any: ...


@dataclass
class PairBatch:
    """A batch of pairs.

    Attributes:
        clip_1: (B, 3, T, S, S) uint8, channels_last_3d (a free view of the decoded (B, T, S, S, 3)).
        clip_2: Likewise.
        sample_ids: (B,) int64.
        epoch: The one epoch all of them belong to.
        sources: (B, 2) int64, the videos (segments) read.
        bad: Videos that could not be read while the batch was made; feed them to a BadVideoTracker.
    """

    clip_1: Tensor
    clip_2: Tensor
    sample_ids: Tensor
    epoch: int
    sources: Tensor
    bad: list[BadVideo]

    def pin_memory(self) -> PairBatch:
        """The batch in page-locked memory (called by the loader)."""
        return replace(
            self,
            clip_1=self.clip_1.pin_memory(),
            clip_2=self.clip_2.pin_memory(),
            sample_ids=self.sample_ids.pin_memory(),
            sources=self.sources.pin_memory(),
        )

    def to(self, device: torch.device | str) -> PairBatch:
        """The batch with its tensors on a device; from pinned memory the copies do not block."""
        return replace(
            self,
            clip_1=self.clip_1.to(device, non_blocking=True),
            clip_2=self.clip_2.to(device, non_blocking=True),
            sample_ids=self.sample_ids.to(device, non_blocking=True),
            sources=self.sources.to(device, non_blocking=True),
        )


def collate_pairs(samples: list[PairSample]) -> PairBatch:
    """Stack samples of one epoch."""
    return PairBatch(
        clip_1=torch.stack([sample.clip_1 for sample in samples]).permute(0, 4, 1, 2, 3),
        clip_2=torch.stack([sample.clip_2 for sample in samples]).permute(0, 4, 1, 2, 3),
        sample_ids=torch.tensor([sample.sample_id for sample in samples]),
        epoch=samples[0].epoch,
        sources=torch.tensor([sample.sources for sample in samples]),
        bad=list({video.path: video for sample in samples for video in sample.bad}.values()),
    )


class ClipLoader(Generic[Batch]):
    """Iterates batches; what goes wrong in a worker comes out as one clear error."""

    def __init__(self, dataset: LoadedDataset, loader: DataLoader[Any]) -> None:
        self._dataset = dataset
        self._loader = loader

    def __iter__(self) -> Iterator[Batch]:
        """Yield batches in the sampler's order.

        Raises:
            LoaderError: A worker died or gave no batch in time; the message names what was being read.
            NoUsableVideos: Draw after draw met unreadable videos.
        """
        try:
            with _no_advice():
                iterator = iter(self._loader)
            while (batch := self._next(iterator)) is not None:
                yield batch
        except NoUsableVideos as error:
            # Out of a worker it comes wrapped into the worker's traceback, whose last line is the message.
            line = str(error).strip().splitlines()[-1]
            raise NoUsableVideos(line.rpartition("NoUsableVideos: ")[2]) from error

    def _next(self, iterator: Iterator[Batch]) -> Batch | None:
        """The next batch, None at the end."""
        started = time.monotonic()
        while True:
            try:
                return next(iterator, None)
            except RuntimeError as error:
                what = str(error).splitlines()[0] if str(error) else ""
                if "DataLoader" not in what:
                    raise
                waited = time.monotonic() - started
                if "timed out" in what and waited < self._dataset.config.timeout:
                    continue
                reading = ", ".join(self._dataset.videos_being_read())
                raise LoaderError(
                    f"the data workers failed after {waited:.0f} s of waiting ({what})"
                    + (f" while reading {reading}" if reading else "")
                ) from error


@contextlib.contextmanager
def _no_advice() -> Iterator[None]:
    """Keeps out torch's warning about `num_workers`: it guesses how many the machine can feed."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="This DataLoader will create")
        yield


def _start_worker(_: int) -> None:
    exit_with_parent()


def build_loader(dataset: PairDataset, sampler: EpochSampler, *, pin_memory: bool = False) -> ClipLoader[PairBatch]:
    """The loader of pairs for a batch sampler; see `build_clip_loader`."""
    return build_clip_loader(dataset, sampler, collate_pairs, pin_memory=pin_memory)


def build_clip_loader(
    dataset: LoadedDataset,
    sampler: Iterable[list[Any]],
    collate: Callable[[list[Any]], Batch],
    *,
    pin_memory: bool = False,
) -> ClipLoader[Batch]:
    """The loader for a data set and a batch sampler.

    Args:
        dataset: Workers, prefetch and timeout come from its config.
        sampler: Which batches, as lists of the data set's keys.
        collate: Puts samples together; importable by a worker.
        pin_memory: Put batches into page-locked memory, for a CUDA device.
    """
    assert isinstance(dataset, Dataset)
    config = dataset.config
    if config.num_workers == 0:
        loader = DataLoader(dataset, batch_sampler=sampler, collate_fn=collate, pin_memory=pin_memory)
        return ClipLoader(dataset, loader)
    with _no_advice():
        loader = DataLoader(
            dataset,
            batch_sampler=sampler,
            collate_fn=collate,
            num_workers=config.num_workers,
            prefetch_factor=config.prefetch,
            timeout=min(config.timeout, _POLL),
            pin_memory=pin_memory,
            multiprocessing_context=forkserver_context(),
            worker_init_fn=_start_worker,
        )
    return ClipLoader(dataset, loader)
