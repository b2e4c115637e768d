"""Brings samples to the training process in batches."""

from __future__ import annotations

import contextlib
import dataclasses
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from tubeletx import KeptMemoryLoader
from tubeletx_train.common.distributed import Ranks
from tubeletx_train.common.errors import LoaderError
from tubeletx_train.common.processes import ctrl_c_held, exit_with_parent, forkserver_context
from tubeletx_train.config.data import DataConfig
from tubeletx_train.data.bad_videos import BadVideo, BadVideoTracker
from tubeletx_train.data.drawn import DrawnDataset, VideoDataset
from tubeletx_train.data.errors import NoUsableVideos
from tubeletx_train.data.pair_dataset import pair_dataset
from tubeletx_train.data.pairs import PairSample
from tubeletx_train.data.record import VideoRecord
from tubeletx_train.data.sampler import EpochSampler
from tubeletx_train.data.shared_memory import require_shared_memory, stack

# Seconds between looks at whether the workers live. Forked from a server they are no children of this process, which
# hence gets no signal when one dies; torch looks only when its timeout has passed.
_POLL = 5.0

Batch = TypeVar("Batch")


class VideoBatch(Protocol):
    """What `EpochLoader` needs of a batch."""

    @property
    def bad(self) -> list[BadVideo]:
        """Videos that could not be read while the batch was made."""
        ...

    def to(self: Moved, device: torch.device) -> Moved:
        """The batch with its tensors on a device."""
        ...


Moved = TypeVar("Moved", bound=VideoBatch)


@dataclass(frozen=True)
class ClipsToShow:
    """Clips of bytes and what is shown of them, as `tubeletx.ops.augment_clips_` takes them.

    Attributes:
        clips: Those of the first and of the second of all pairs; or each by itself, those of the first pair first.
        windows: (B, 2, 4) int32, or None: all of them.
        flips: (B, 2) bool, which are mirrored; None: none.
        shape: Pairs B, frames T and side S of what comes out.
    """

    clips: list[Tensor]
    windows: Tensor | None
    flips: Tensor | None
    shape: tuple[int, int, int]


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

    def to_show(self) -> ClipsToShow:
        """The clips as they are."""
        batch, _, frames, side, _ = self.clip_1.shape
        return ClipsToShow([self.clip_1, self.clip_2], None, None, (batch, frames, side))

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
        clip_1=stack([sample.clip_1 for sample in samples]).permute(0, 4, 1, 2, 3),
        clip_2=stack([sample.clip_2 for sample in samples]).permute(0, 4, 1, 2, 3),
        sample_ids=torch.tensor([sample.sample_id for sample in samples]),
        epoch=samples[0].epoch,
        sources=torch.tensor([sample.sources for sample in samples]),
        bad=list({video.path: video for sample in samples for video in sample.bad}.values()),
    )


class ClipLoader(Generic[Batch]):
    """Iterates batches; what goes wrong in a worker comes out as one clear error."""

    def __init__(self, dataset: VideoDataset[Any], loader: DataLoader[Any]) -> None:
        self._dataset = dataset
        self._loader = loader

    def __iter__(self) -> Iterator[Batch]:
        """Yield batches in the sampler's order.

        Raises:
            LoaderError: A worker died or gave no batch in time; the message names what was being read.
            NoUsableVideos: Draw after draw met unreadable videos.
        """
        try:
            with _no_advice(), ctrl_c_held():
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


def build_loader(
    dataset: DrawnDataset[PairSample], sampler: EpochSampler, *, pin_memory: bool = False
) -> ClipLoader[PairBatch]:
    """The loader of pairs for a batch sampler; see `build_clip_loader`."""
    return build_clip_loader(dataset, sampler, collate_pairs, pin_memory=pin_memory)


def build_clip_loader(
    dataset: VideoDataset[Any],
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
    config = dataset.config
    if config.num_workers == 0:
        return ClipLoader(
            dataset, DataLoader(dataset, batch_sampler=sampler, collate_fn=collate, pin_memory=pin_memory)
        )
    with _no_advice():
        loader: DataLoader[Any] = KeptMemoryLoader(
            dataset,
            batch_sampler=sampler,
            collate_fn=collate,
            num_workers=config.num_workers,
            prefetch_factor=config.prefetch,
            timeout=min(config.timeout, _POLL),
            pin_memory=pin_memory,
            multiprocessing_context=forkserver_context("tubeletx_train.data"),
            worker_init_fn=_start_worker,
        )
    return ClipLoader(dataset, loader)


def held_out_batches(
    videos: Sequence[VideoRecord], config: DataConfig, *, count: int, batch_size: int = 64, seed: int = 0
) -> Iterator[PairBatch]:
    """At least `count` tubelet pairs in batches, every one a function of the seed and its place.

    Args:
        videos: Checked videos, as `prepare_videos` returns them; none where clips are drawn.
        config: How clips are drawn from them.
        count: Pairs needed; the last batch may bring more.
        batch_size: Pairs a batch.
        seed: Seed of the draws.
    """
    if not videos and config.source == "videos":
        raise NoUsableVideos("there are no held-out videos to evaluate on")
    # Each video is visited often enough that no epoch is smaller than a batch.
    visits = max(config.samples_per_video, -(-batch_size // (len(videos) or config.leaves.pairs)))
    dataset = pair_dataset(videos, dataclasses.replace(config, samples_per_video=visits), seed=seed)
    sampler = EpochSampler(len(dataset), batch_size, seed=seed, stop=-(-count // batch_size))
    batches = -(-count // batch_size)
    yield from tqdm(build_loader(dataset, sampler), "reading clips", batches, unit="batch", leave=False, disable=None)


class LoadingRun(Protocol):
    """What `EpochLoader` needs of a run."""

    @property
    def seed(self) -> int:
        """Seed of the order."""
        ...

    @property
    def ranks(self) -> Ranks:
        """The processes that share it."""
        ...

    @property
    def device(self) -> torch.device:
        """Where batches are put."""
        ...


class EpochLoader(Generic[Moved]):
    """Batches by step: each sample once an epoch, in an order drawn from a seed, shared out among processes.

    Attributes:
        dataset: What is visited.
        batch_size: Samples of a batch of this process.
    """

    def __init__(
        self,
        dataset: DrawnDataset[Any],
        collate: Callable[[list[Any]], Moved],
        bad_videos: BadVideoTracker,
        batch_size: int,
        run: LoadingRun,
    ) -> None:
        """Make the loader.

        Args:
            dataset: What is visited.
            collate: Puts samples together; importable by a worker.
            bad_videos: Counts the videos that go bad.
            batch_size: Samples a step, over all processes.
            run: Whose batches they are.

        Raises:
            UsageError: The batch does not divide among the processes.
        """
        self.dataset = dataset
        self.batch_size = run.ranks.share(batch_size, "optim.batch_size")
        self._collate = collate
        self._bad_videos = bad_videos
        self._run = run

    @property
    def steps_per_epoch(self) -> int:
        """Steps an epoch."""
        return self._sampler().batches_per_epoch

    def _sampler(self, start: int = 0, stop: int | None = None) -> EpochSampler:
        return EpochSampler(
            len(self.dataset),
            self.batch_size,
            seed=self._run.seed,
            rank=self._run.ranks.rank,
            world_size=self._run.ranks.world_size,
            start=start,
            stop=stop,
        )

    def batches(self, start: int, stop: int) -> Iterator[Moved]:
        """The batches of this process, on its device, for steps `start` to `stop`, the first being step 0.

        Raises:
            LoaderError: A worker died, or gave no batch in time.
            UsageError: The machine has not the shared memory to hand them over.
            TooManyBadVideos: Too many videos could not be read.
        """
        config = self.dataset.config
        require_shared_memory(self.dataset.sample_bytes * self.batch_size, config.num_workers, config.prefetch)
        pin = self._run.device.type == "cuda"
        for batch in build_clip_loader(self.dataset, self._sampler(start, stop), self._collate, pin_memory=pin):
            self._bad_videos.update(batch.bad)
            yield batch.to(self._run.device)
