"""Labelled clips: drawn ones for training, all views of a video for testing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tubeletx_train.config.labelled import LabelledDataConfig
from tubeletx_train.data import BadVideo, NoUsableVideos, VideoError, VideoRecord, open_record
from tubeletx_train.data.clips import (
    CropBox,
    draw_random_resized_crop,
    draw_short_side_crop,
    frame_indices,
    last_start,
    linear_starts,
    view_windows,
)
from tubeletx_train.data.drawn import DrawnDataset, VideoDataset
from tubeletx_train.data.labels import Targets
from tubeletx_train.data.pairs import resize_frames
from tubeletx_train.data.shared_memory import stack
from tubeletx_train.data.table import VideoTable, as_table


@dataclass
class LabelledSample:
    """A training clip.

    Attributes:
        clip: (T, S, S, 3) uint8 RGB.
        target: See `Targets`.
        sample_id: Place in the data set.
        epoch: The epoch it was drawn for.
        bad: Videos that could not be read while it was made.
    """

    clip: Tensor
    target: Tensor
    sample_id: int
    epoch: int
    bad: list[BadVideo]


@dataclass
class LabelledBatch:
    """Training clips.

    Attributes:
        clip: (B, 3, T, S, S) uint8, channels_last_3d.
        target: (B,) int64, or (B, C) float32.
        sample_ids: (B,) int64.
        epoch: The one epoch all of them belong to.
        bad: Videos that could not be read while the batch was made.
    """

    clip: Tensor
    target: Tensor
    sample_ids: Tensor
    epoch: int
    bad: list[BadVideo]

    def pin_memory(self) -> LabelledBatch:
        """The batch in page-locked memory (called by the loader)."""
        return replace(self, clip=self.clip.pin_memory(), target=self.target.pin_memory())

    def to(self, device: torch.device) -> LabelledBatch:
        """The batch with its tensors on a device."""
        tensors = {name: getattr(self, name).to(device, non_blocking=True) for name in ("clip", "target", "sample_ids")}
        return replace(self, **tensors)


def collate_clips(samples: list[LabelledSample]) -> LabelledBatch:
    """Stack samples of one epoch."""
    return LabelledBatch(
        clip=stack([sample.clip for sample in samples]).permute(0, 4, 1, 2, 3),
        target=torch.stack([sample.target for sample in samples]),
        sample_ids=torch.tensor([sample.sample_id for sample in samples]),
        epoch=samples[0].epoch,
        bad=list({video.path: video for sample in samples for video in sample.bad}.values()),
    )


class _ClipReading:
    """How a data set of labelled videos reads a stretch of a record."""

    config: LabelledDataConfig
    records: VideoTable

    def _step(self, record: VideoRecord) -> float:
        """Frames of the file from one frame of a clip to the next."""
        if self.config.fps is None:
            return float(self.config.stride)
        assert record.fps is not None
        return self.config.stride * record.fps / self.config.fps

    def path(self, place: int) -> str:
        """The file of a video."""
        return self.records[place].path

    def _indices(self, record: VideoRecord, start: float) -> npt.NDArray[np.int64]:
        """Frames of the file for a clip that starts `start` frames into the record's stretch."""
        config = self.config
        first, stop = record.frame_range
        return first + frame_indices(start, stop - first, config.num_frames, self._step(record), config.short)

    def _read(
        self, record: VideoRecord, indices: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float64]]:
        """Frames of a record: (len(indices), H, W, 3) uint8, and the seconds at which they are shown.

        Raises:
            VideoError: They cannot be decoded.
        """
        short_side = None
        if record.width and record.height:
            limit = self.config.decode_size
            short_side = limit if limit is not None and limit < min(record.width, record.height) else None
        video = open_record(record, short_side, self.config.reader)
        frames = video.read(indices)
        # Asking for the time stamps takes its time; a single label holds for the whole video.
        seconds = video.seconds if record.labels else None
        assert record.fps is not None
        return frames, indices / record.fps if seconds is None else seconds[indices]


def _cut(frames: npt.NDArray[np.uint8], box: CropBox, size: int, *, flip: bool = False) -> Tensor:
    return resize_frames(frames[:, box.y0 : box.y1, box.x0 : box.x1], size, flip=flip)


class TrainingClips(_ClipReading, DrawnDataset[LabelledSample]):
    """Training clips, each a pure function of (seed, epoch, sample_id).

    Indexed by `(epoch, sample_id)`, as EpochSampler yields them. A video that cannot be read is replaced by a fresh
    draw and named in `LabelledSample.bad`.
    """

    def __init__(
        self, records: Sequence[VideoRecord], targets: Targets, config: LabelledDataConfig, *, seed: int = 0
    ) -> None:
        """Args: checked `records` (frame counts and rates known), their targets, settings, seed of every draw."""
        if not records:
            raise NoUsableVideos("there are no videos to train on")
        super().__init__(config, seed=seed, origin=config.train)
        self.records = as_table(records)
        self._targets = targets

    @property
    def sample_bytes(self) -> int:
        """Of a clip."""
        return 3 * self.config.num_frames * self.config.crop_size**2

    def __len__(self) -> int:
        """Samples in an epoch: videos times `samples_per_video`."""
        return len(self.records) * self.config.samples_per_video

    def __getitem__(self, key: tuple[int, int]) -> LabelledSample:
        epoch, sample_id = key

        def attempt(number: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
            place = int(rng.integers(len(self.records))) if number else sample_id % len(self.records)
            return self._clip(place, rng)

        (clip, target), bad = self.draw(epoch, sample_id, attempt)
        return LabelledSample(clip, target, sample_id, epoch, bad)

    def _clip(self, place: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        config, record = self.config, self.records[place]
        first, stop = record.frame_range
        start = rng.uniform(0, last_start(stop - first, config.num_frames, self._step(record)))
        indices = self._indices(record, start)
        with self.reading(place):
            frames, seconds = self._read(record, indices)
        height, width = frames.shape[1:3]
        if config.crop == "short_side":
            box = draw_short_side_crop(rng, width, height, config.crop_size, config.short_sides)
        else:
            box = draw_random_resized_crop(rng, width, height, config.crop_area, config.crop_ratio)
        clip = _cut(frames, box, config.crop_size, flip=rng.random() < config.flip)
        return clip, self._targets.of_stretch(record, float(seconds.min()), float(seconds.max()))


@dataclass
class VideoViews:
    """What a test video is judged by.

    Attributes:
        place: Of the video in the data set.
        views: (V, T, S, S, 3) uint8, clips by windows; empty if it cannot be read.
        bad: Why it cannot.
    """

    place: int
    views: Tensor
    bad: BadVideo | None = None


@dataclass
class ViewBatch:
    """Views of some videos.

    Attributes:
        clip: (N, 3, T, S, S) uint8, the views of all of them.
        places: (N,) int64, the video that each view is of.
        bad: Videos that could not be read.
    """

    clip: Tensor
    places: Tensor
    bad: list[BadVideo]

    def pin_memory(self) -> ViewBatch:
        """The batch in page-locked memory (called by the loader)."""
        return replace(self, clip=self.clip.pin_memory())


def collate_views(samples: list[VideoViews]) -> ViewBatch:
    """Put the views of videos after one another."""
    return ViewBatch(
        clip=torch.cat([sample.views for sample in samples]).permute(0, 4, 1, 2, 3),
        places=torch.tensor([sample.place for sample in samples for _ in sample.views], dtype=torch.int64),
        bad=[sample.bad for sample in samples if sample.bad is not None],
    )


class ViewDataset(_ClipReading, VideoDataset[VideoViews]):
    """All views of each video: linearly spaced clips, one or three windows of each."""

    def __init__(self, records: Sequence[VideoRecord], config: LabelledDataConfig) -> None:
        """Args: checked `records` (frame counts and rates known), settings."""
        super().__init__(config)
        self.records = as_table(records)

    def __len__(self) -> int:
        """Videos."""
        return len(self.records)

    def __getitem__(self, place: int) -> VideoViews:
        config, record = self.config, self.records[place]
        first, stop = record.frame_range
        starts = linear_starts(stop - first, config.num_frames, self._step(record), config.test_clips)
        indices = np.stack([self._indices(record, start) for start in starts])
        wanted, back = np.unique(indices, return_inverse=True)
        try:
            with self.reading(place):
                frames, _ = self._read(record, wanted)  # clips overlap: each frame is decoded once
        except VideoError as error:
            empty = torch.empty((0, config.num_frames, config.crop_size, config.crop_size, 3), dtype=torch.uint8)
            return VideoViews(place, empty, BadVideo(error.path, error.reason))
        height, width = frames.shape[1:3]
        windows = [
            _cut(frames, box, config.crop_size)
            for box in view_windows(width, height, config.test_crops, config.test_crop_share)
        ]
        order = torch.from_numpy(back.reshape(indices.shape))
        return VideoViews(place, torch.cat([window[order] for window in windows]))
