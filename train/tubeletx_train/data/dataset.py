"""Pairs of clips, and the loader that brings them to the training process in batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from tubeletx_train.data.check import BadVideo
from tubeletx_train.data.config import DataConfig
from tubeletx_train.data.manifest import VideoRecord

Mode = Literal["tubelet", "temporal"]


@dataclass
class PairSample:
    """One pair as a worker makes it.

    Attributes:
        clip_1: (T, S, S, 3) uint8 RGB.
        clip_2: Likewise, from another video (mode "tubelet") or from the same (mode "temporal").
        sample_id: Place in the data set; keys the tubelets too.
        epoch: The epoch it was drawn for.
        sources: The two videos (segments) read, as indices into `PairDataset.sources`.
        bad: Videos that could not be read while this sample was made.
    """

    clip_1: Tensor
    clip_2: Tensor
    sample_id: int
    epoch: int
    sources: tuple[int, int]
    bad: list[BadVideo]


@dataclass
class PairBatch:
    """A batch of pairs.

    Attributes:
        clip_1: (B, 3, T, S, S) uint8, channels_last_3d (a free view of the decoded (B, T, S, S, 3)).
        clip_2: Likewise.
        sample_ids: (B,) int64.
        epoch: The one epoch all of them belong to.
        sources: (B, 2) int64.
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
        raise NotImplementedError

    def to(self, device: torch.device | str) -> PairBatch:
        """The batch with its tensors on a device; from pinned memory the copies do not block."""
        raise NotImplementedError


class PairDataset(Dataset[PairSample]):
    """Pairs of clips, each a pure function of (seed, epoch, sample_id).

    Indexed by `(epoch, sample_id)`, as EpochSampler yields them; a plain integer means epoch 0.
    """

    def __init__(
        self, videos: Sequence[VideoRecord], config: DataConfig, *, seed: int = 0, mode: Mode = "tubelet"
    ) -> None:
        """Args: `videos` as `prepare_videos` or `check_videos` returned them (num_frames and fps known)."""
        raise NotImplementedError

    def __len__(self) -> int:
        """Samples in an epoch: videos (or segments) times `samples_per_video`."""
        raise NotImplementedError

    def __getitem__(self, key: tuple[int, int] | int) -> PairSample:
        raise NotImplementedError


class EpochSampler(Sampler[list[tuple[int, int]]]):
    """Batches of (epoch, sample_id) for one rank: an own permutation each epoch, resumable at any batch.

    One iteration runs across epochs, from batch `start` to batch `stop`, so that workers never drain between epochs:
    batch number n is batch `n % batches_per_epoch` of epoch `n // batches_per_epoch`. To resume after `step` steps
    pass `start=step`; nothing else needs saving. The ranks' n-th batches put together are what one rank with
    `batch_size * world_size` would get. The last incomplete batch of an epoch is dropped; a data set smaller than one
    global batch is repeated to fill it.
    """

    def __init__(
        self,
        num_samples: int,
        batch_size: int,
        *,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        start: int = 0,
        stop: int | None = None,
    ) -> None:
        """`batch_size` is per rank; `stop=None` never ends."""
        raise NotImplementedError

    @property
    def batches_per_epoch(self) -> int:
        """Batches each rank takes in one epoch, at least 1."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        raise NotImplementedError


class PairLoader:
    """What `build_loader` returns: iterate it for PairBatch. Worker failures come out as LoaderError."""

    def __iter__(self) -> Iterator[PairBatch]:
        raise NotImplementedError


def build_loader(dataset: PairDataset, sampler: EpochSampler, *, pin_memory: bool = False) -> PairLoader:
    """The loader for a data set and a batch sampler; workers, prefetch and timeout come from `dataset.config`."""
    raise NotImplementedError
