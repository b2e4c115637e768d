"""Stretches of marked videos for training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from tubeletx_train.config.repetition import RepetitionDataConfig
from tubeletx_train.data import BadVideo, NoUsableVideos, VideoError, VideoRecord
from tubeletx_train.data.clips import clip_generator
from tubeletx_train.data.now_reading import NowReading
from tubeletx_train.repetition.frames import read_letterboxed

# Draws for one sample before it is given up: with half of the videos bad that happens once in 10^9 samples.
_MAX_ATTEMPTS = 30


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


class RepetitionWindows(Dataset[Window]):
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
        self.config = config
        self.fixed = fixed
        self.records = [record for record in records if len(record.boundaries) > 2]
        if not self.records:
            raise NoUsableVideos(
                f"{config.train}: no training video has two repetitions marked, as three or more frames in its column "
                "boundaries; `tubeletx-train manifest ucfrep` writes such a manifest"
            )
        self._seed = seed
        self._reading = NowReading(config.num_workers)

    def __len__(self) -> int:
        """Windows of an epoch."""
        return len(self.records) * self.config.windows_per_video

    def __getitem__(self, key: tuple[int, int]) -> Window:
        epoch, sample_id = key
        bad: dict[str, BadVideo] = {}
        for attempt in range(_MAX_ATTEMPTS):
            rng = clip_generator(self._seed, epoch, sample_id, attempt, 0)
            place = sample_id % len(self.records) if attempt == 0 else int(rng.integers(len(self.records)))
            cut_by = clip_generator(self._seed, 0, sample_id, attempt, 1) if self.fixed else rng
            stretch = draw_stretch if self.fixed else draw_window
            marks = self.records[place].boundaries
            first, last, repetitions = stretch(cut_by, marks, self.config.max_window)
            try:
                frames = self._read(place, first, last + 1)
            except VideoError as error:
                bad[error.path] = BadVideo(error.path, error.reason)
                continue
            if rng.random() < self.config.flip:
                frames = frames.flip(2)
            boundaries = tuple(mark - first for mark in marks)
            return Window(frames, boundaries, repetitions, sample_id, epoch, list(bad.values()))
        raise NoUsableVideos(
            f"{self.config.train}: {_MAX_ATTEMPTS} draws in a row met only unreadable videos "
            f"(the last: {list(bad.values())[-1]})"
        )

    def _read(self, place: int, first: int, stop: int) -> Tensor:
        with self._reading.video(place):
            return read_letterboxed(self.records[place], self.config.frame_size, self.config.reader, first, stop)

    def videos_being_read(self) -> list[str]:
        """Files that workers are decoding right now, for messages about a worker that died or hung."""
        return [self.records[place].path for place in self._reading.places()]


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
