"""Data sets of samples that are drawn anew each epoch, and of videos that their workers may hang or die on."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import torch
from torch.utils.data import Dataset, get_worker_info

from tubeletx_train.config.data import ReadingConfig
from tubeletx_train.data.bad_videos import BadVideo
from tubeletx_train.data.clips import clip_generator
from tubeletx_train.data.errors import NoUsableVideos, VideoError

# Draws for one sample before it is given up: with half of the videos bad that happens once in 10^9 samples.
_MAX_ATTEMPTS = 30

Sample = TypeVar("Sample", covariant=True)
Drawn = TypeVar("Drawn")


class VideoDataset(Dataset[Sample]):
    """Samples of videos, which knows what its workers are reading, for messages about one that died or hung.

    Attributes:
        config: Settings, a `ReadingConfig`.
    """

    config: Any

    def __init__(self, config: ReadingConfig) -> None:
        """Args: `config` says how many workers there are."""
        self.config = config
        # Shared with the training process; -1 where a worker reads nothing.
        self._read_by = torch.full((max(config.num_workers, 1),), -1, dtype=torch.int64)
        self._read_by.share_memory_()  # type: ignore[no-untyped-call]

    def __len__(self) -> int:
        raise NotImplementedError

    @abstractmethod
    def path(self, place: int) -> str:
        """The file of the video at a place in the data set."""

    @contextmanager
    def reading(self, place: int) -> Iterator[None]:
        """While this worker reads the video at `place`."""
        worker = get_worker_info()
        slot = worker.id if worker is not None else 0
        self._read_by[slot] = place
        try:
            yield
        finally:
            self._read_by[slot] = -1

    def videos_being_read(self) -> list[str]:
        """Files that workers are decoding right now."""
        return [self.path(place) for place in self._read_by.tolist() if place >= 0]


class DrawnDataset(VideoDataset[Sample]):
    """Samples that are each a pure function of (seed, epoch, sample_id), by which EpochSampler indexes them.

    A video that cannot be read is replaced by a fresh draw, and named in the sample.
    """

    def __init__(self, config: ReadingConfig, *, seed: int, origin: str | None) -> None:
        """Args: `seed` is that of every draw; `origin` is where the videos are listed, for messages."""
        super().__init__(config)
        self._seed = seed
        self._origin = origin

    @property
    @abstractmethod
    def sample_bytes(self) -> int:
        """Bytes of the largest sample."""

    def generator(self, epoch: int, sample_id: int, attempt: int, stream: int) -> np.random.Generator:
        """See `clip_generator`."""
        return clip_generator(self._seed, epoch, sample_id, attempt, stream)

    def draw(
        self, epoch: int, sample_id: int, attempt: Callable[[int, np.random.Generator], Drawn]
    ) -> tuple[Drawn, list[BadVideo]]:
        """What an attempt gives that meets no unreadable video, and the videos that were unreadable before.

        Args:
            epoch: Epoch.
            sample_id: Sample.
            attempt: Takes its number, from 0, and a generator of its own.

        Raises:
            NoUsableVideos: One attempt after the other met one.
        """
        bad: dict[str, BadVideo] = {}
        for number in range(_MAX_ATTEMPTS):
            try:
                return attempt(number, self.generator(epoch, sample_id, number, 0)), list(bad.values())
            except VideoError as error:
                bad[error.path] = BadVideo(error.path, error.reason)
        where = "" if self._origin is None else f"{self._origin}: "
        last = list(bad.values())[-1]
        raise NoUsableVideos(f"{where}{_MAX_ATTEMPTS} draws in a row met only unreadable videos (the last: {last})")
