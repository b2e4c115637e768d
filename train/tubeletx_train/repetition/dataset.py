"""Stretches of marked videos for training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from tubeletx_train.config.repetition import RepetitionDataConfig
from tubeletx_train.data import BadVideo, NoUsableVideos, VideoRecord
from tubeletx_train.data.drawn import DrawnDataset
from tubeletx_train.data.table import as_table
from tubeletx_train.repetition.frames import read_letterboxed


@dataclass
class Window:
    """A stretch of a video.

    Attributes:
        frames: (N, S, S, 3) uint8.
        boundaries: Frames at which repetitions begin or end, counted from the first of the window; those that lie
            outside of it tell how long the repetitions are that it cuts.
        repetitions: How many it holds, about.
        sample_id: Place in the data set.
        epoch: The epoch it was drawn for.
        bad: Videos that could not be read while it was made.
    """

    frames: Tensor
    boundaries: tuple[int, ...]
    repetitions: int
    sample_id: int
    epoch: int
    bad: list[BadVideo]


@dataclass
class WindowBatch:
    """Windows of one epoch, which differ in length.

    Attributes:
        windows: At least one.
    """

    windows: list[Window]

    @property
    def sample_ids(self) -> Tensor:
        """(B,) int64."""
        return torch.tensor([window.sample_id for window in self.windows])

    @property
    def epoch(self) -> int:
        """The one epoch all of them belong to."""
        return self.windows[0].epoch

    @property
    def bad(self) -> list[BadVideo]:
        """Videos that could not be read while the batch was made."""
        return [video for window in self.windows for video in window.bad]

    def to(self, device: torch.device) -> WindowBatch:
        """The batch with its frames on a device."""
        return WindowBatch([replace(window, frames=window.frames.to(device)) for window in self.windows])


class RepetitionWindows(DrawnDataset[Window]):
    """Stretches of at least two repetitions, each a pure function of (seed, epoch, sample_id).

    Indexed by `(epoch, sample_id)`, as EpochSampler yields them. A video that cannot be read is replaced by a fresh
    draw and named in `Window.bad`.
    """

    def __init__(
        self, records: Sequence[VideoRecord], config: RepetitionDataConfig, *, seed: int = 0, fixed: bool = False
    ) -> None:
        """Makes the data set.

        Args:
            records: Checked ones; those with fewer than two repetitions are left out.
            config: Settings.
            seed: Seed of the draws.
            fixed: Cut windows at any frames, the same in every epoch, as the original code does; otherwise from mark to
                mark, anew each epoch.

        Raises:
            NoUsableVideos: None is left.
        """
        self.fixed = fixed
        self.records = as_table([record for record in records if len(record.boundaries) > 2])
        if not self.records:
            raise NoUsableVideos(
                f"{config.train}: no training video has two repetitions marked, as three or more frames in its column "
                "boundaries; `tubeletx-train manifest ucfrep` writes such a manifest"
            )
        super().__init__(config, seed=seed, origin=config.train)

    def path(self, place: int) -> str:
        """The file of a video."""
        return self.records[place].path

    @property
    def sample_bytes(self) -> int:
        """Of the frames of the longest window."""
        return int(3 * self.config.max_window * self.config.frame_size**2)

    def __len__(self) -> int:
        """Windows of an epoch."""
        return int(len(self.records) * self.config.windows_per_video)

    def __getitem__(self, key: tuple[int, int]) -> Window:
        epoch, sample_id = key

        def attempt(number: int, rng: np.random.Generator) -> Window:
            place = int(rng.integers(len(self.records))) if number else sample_id % len(self.records)
            record, most = self.records[place], self.config.max_window
            if self.fixed:
                generator = self.generator(0, sample_id, number, 1)
                first, last, repetitions = draw_stretch(generator, record.boundaries, most)
            else:
                first, last, repetitions = draw_window(rng, record.boundaries, most)
            with self.reading(place):
                frames = read_letterboxed(record, self.config.frame_size, self.config.reader, first, last + 1)
            if rng.random() < self.config.flip:
                frames = frames.flip(2)
            boundaries = tuple(mark - first for mark in record.boundaries)
            return Window(frames, boundaries, repetitions, sample_id, epoch, [])

        window, bad = self.draw(epoch, sample_id, attempt)
        return replace(window, bad=bad)


def draw_stretch(rng: np.random.Generator, boundaries: Sequence[int], max_frames: int) -> tuple[int, int, int]:
    """First and last frame of a stretch cut at any frames, and its repetitions, as the original code draws them.

    The stretch begins within the repetition before one mark and ends within the one before another, two marks later or
    more; the first and the last frame that are marked are possible ends too. It is cut to `max_frames`.
    """
    begin = int(rng.integers(len(boundaries) - 2))
    end = int(rng.integers(begin + 2, len(boundaries) + 1))
    first = boundaries[0] if begin == 0 else int(rng.integers(boundaries[begin - 1], boundaries[begin] + 1))
    whole = end == len(boundaries)
    last = boundaries[-1] if whole else int(rng.integers(boundaries[end - 1], boundaries[end] + 1))
    return first, min(last, first + max_frames - 1), end - begin


def draw_window(rng: np.random.Generator, boundaries: Sequence[int], max_frames: int) -> tuple[int, int, int]:
    """First and last frame of a stretch from mark to mark, and its repetitions.

    These are two or more, in no more frames than allowed unless two take more.
    """
    start = int(rng.integers(len(boundaries) - 2))
    ends = [end for end in range(start + 2, len(boundaries)) if boundaries[end] - boundaries[start] < max_frames]
    end = ends[int(rng.integers(len(ends)))] if ends else start + 2
    return boundaries[start], boundaries[end], end - start
