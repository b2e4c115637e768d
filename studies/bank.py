"""Clips of many steps, drawn once by several processes and held by the device.

A bank holds what the trainer's loader would give: the same samples in the same order, for the first steps of a run. A
run longer than its bank goes through it again, in the same pairs, with tubelets of other epochs.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from studies.videos import TRAIN
from tubeletx_train.config.data import ReaderName
from tubeletx_train.config.parse import config_from_tree
from tubeletx_train.config.pretrain import PretrainConfig
from tubeletx_train.config.tree import to_tree
from tubeletx_train.data import DataConfig, EpochSampler, PairBatch, PairDataset, VideoRecord, prepare_videos
from tubeletx_train.data.frames import CachedFrames
from tubeletx_train.data.leaves import LeafPairs

_STEPS_A_JOB = 10


@dataclass(frozen=True)
class Bank:
    """Pairs of clips, a batch for each of N steps.

    Attributes:
        clip_1: (N, B, T, S, S, 3) uint8.
        clip_2: Likewise.
        sample_ids: (N, B) int64.
        epochs: (N,) int64.
    """

    clip_1: Tensor
    clip_2: Tensor
    sample_ids: Tensor
    epochs: Tensor

    def batch(self, step: Tensor) -> PairBatch:
        """The batch of a step, a () int64 on the bank's device, without waiting for that device."""
        count = len(self.epochs)
        place = step.remainder(count).view(1)

        def clip(clips: Tensor) -> Tensor:
            return clips.index_select(0, place)[0].permute(0, 4, 1, 2, 3)

        round_ = torch.div(step, count, rounding_mode="floor")
        epoch = self.epochs.index_select(0, place) + round_ * (self.epochs[-1:] + 1)
        ids = self.sample_ids.index_select(0, place)[0]
        sources = ids[:, None].expand(-1, 2)
        return PairBatch(clip(self.clip_1), clip(self.clip_2), ids, epoch, sources, [])  # type: ignore[arg-type]


class StoredPairs(PairDataset):
    """A data set whose frames were decoded before."""

    def __init__(
        self, videos: Sequence[VideoRecord], config: DataConfig, frames: CachedFrames, *, seed: int, mode: str
    ) -> None:
        """Args: as `PairDataset`; `frames` holds every video."""
        super().__init__(videos, dataclasses.replace(config, cache_frames=False), seed=seed, mode=mode)  # type: ignore[arg-type]
        self._frames = frames


# Of this process, by reader and short side: decoded once, whatever run clips are drawn for.
_decoded: dict[tuple[str, int | None], CachedFrames] = {}


@functools.cache
def checked_videos(manifest: str, split: str, reader: ReaderName) -> list[VideoRecord]:
    """The readable videos of a split."""
    videos, _ = prepare_videos(DataConfig(videos=manifest, split=split, reader=reader), progress=False)
    return list(videos)


def _frames(data: DataConfig, videos: Sequence[VideoRecord]) -> CachedFrames:
    key = (data.reader, data.decode_size)
    if key not in _decoded:
        _decoded[key] = CachedFrames(videos, data.reader, data.decode_size, data.cache_limit_gb)
    return _decoded[key]


def shape_of(config: PretrainConfig, steps: int) -> tuple[int, ...]:
    """Of the clips of a bank: (2, N, B, T, S, S, 3)."""
    data = config.data
    return (2, steps, config.optim.batch_size, data.num_frames, data.crop_size, data.crop_size, 3)


def _sampler(config: PretrainConfig, samples: int, start: int, stop: int) -> EpochSampler:
    return EpochSampler(samples, config.optim.batch_size, seed=config.run.seed, start=start, stop=stop)


def _draw(
    tree: dict[str, object],
    videos: Sequence[VideoRecord],
    all_videos: Sequence[VideoRecord],
    path: str,
    steps: int,
    start: int,
    stop: int,
) -> int:
    """Write the clips of steps `start` to `stop` into a file; returns the samples of an epoch."""
    config = config_from_tree(PretrainConfig, tree, "studies")
    seed = config.run.seed
    dataset: StoredPairs | LeafPairs
    if config.data.source == "leaves":
        dataset = LeafPairs(config.data, seed=seed)
    else:
        frames = _frames(config.data, all_videos)
        dataset = StoredPairs(videos, config.data, frames, seed=seed, mode=config.contrast.mode)
    clips = np.memmap(path, np.uint8, "r+", shape=shape_of(config, steps))
    for step, keys in enumerate(_sampler(config, len(dataset), start, stop), start):
        for row, key in enumerate(keys):
            sample = dataset[key]
            clips[0, step, row], clips[1, step, row] = sample.clip_1.numpy(), sample.clip_2.numpy()
    return len(dataset)


@dataclass(frozen=True)
class BankInTheMaking:
    """A bank that processes are drawing."""

    config: PretrainConfig
    path: Path
    steps: int
    jobs: list[Future[int]]

    @classmethod
    def start(cls, config: PretrainConfig, steps: int, path: Path, pool: ProcessPoolExecutor) -> BankInTheMaking:
        """Have the clips of the first `steps` steps of a run drawn into a file."""
        np.memmap(path, np.uint8, "w+", shape=shape_of(config, steps)).flush()
        data = config.data
        own, all_ = [], []
        if data.source == "videos":
            assert data.split is not None
            own, all_ = (checked_videos(data.videos, split, data.reader) for split in (data.split, TRAIN))
        draw = functools.partial(_draw, to_tree(config), own, all_, str(path), steps)
        starts = range(0, steps, _STEPS_A_JOB)
        jobs = [pool.submit(draw, at, min(at + _STEPS_A_JOB, steps)) for at in starts]
        return cls(config, path, steps, jobs)

    def done(self) -> bool:
        """Whether it is ready."""
        return all(job.done() for job in self.jobs)

    def finish(self, device: torch.device) -> Bank:
        """Wait for it, take it onto a device, and remove the file."""
        (samples,) = {job.result() for job in self.jobs}
        clips = torch.from_numpy(np.memmap(self.path, np.uint8, "c", shape=shape_of(self.config, self.steps)))
        keys = list(_sampler(self.config, samples, 0, self.steps))
        bank = Bank(
            clip_1=clips[0].to(device),
            clip_2=clips[1].to(device),
            sample_ids=torch.tensor([[sample for _, sample in batch] for batch in keys], device=device),
            epochs=torch.tensor([batch[0][0] for batch in keys], device=device),
        )
        if device.type != "cpu":
            self.path.unlink()
        return bank
