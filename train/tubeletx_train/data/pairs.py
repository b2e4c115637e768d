"""Pairs of clips, each a pure function of (seed, epoch, sample id)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tubeletx.ops import augment_clips_
from tubeletx_train.config.data import DataConfig
from tubeletx_train.data.bad_videos import BadVideo
from tubeletx_train.data.clips import draw_crop, draw_frame_indices
from tubeletx_train.data.drawn import DrawnDataset
from tubeletx_train.data.errors import DataError, NoUsableVideos
from tubeletx_train.data.frames import Sources, make_frames
from tubeletx_train.data.record import VideoRecord

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


class PairDataset(DrawnDataset[PairSample]):
    """Pairs of clips, each a pure function of (seed, epoch, sample_id).

    Indexed by `(epoch, sample_id)`, as EpochSampler yields them; a plain integer means epoch 0. A video that cannot
    be read is replaced by a fresh draw and named in `PairSample.bad`.

    Attributes:
        config: Data settings.
        sources: The videos, or their segments, that clips are drawn from.
    """

    config: DataConfig

    def __init__(
        self, videos: Sequence[VideoRecord], config: DataConfig, *, seed: int = 0, mode: Mode = "tubelet"
    ) -> None:
        """Make a data set.

        Args:
            videos: As `prepare_videos` or `check_videos` returned them (frame counts and rates known).
            config: Data settings.
            seed: Seed of every draw, 0 or more.
            mode: "tubelet" takes the two clips from two videos, "temporal" from one.

        Raises:
            NoUsableVideos: There are no videos.
            DataError: One video where pairs need two, or a cache larger than allowed.
        """
        if seed < 0:
            raise ValueError(f"seed: got {seed}, needs 0 or more")
        if mode not in ("tubelet", "temporal"):
            raise ValueError(f"mode: got {mode!r}, needs 'tubelet' or 'temporal'")
        if not videos:
            raise NoUsableVideos(f"{config.videos}: there are no videos to draw clips from")
        self.sources = Sources(videos, config.segment_seconds)
        super().__init__(config, seed=seed, origin=config.videos)
        self._mode = mode
        if mode == "tubelet" and self._excluded_partners(0) == (0, len(self.sources)):
            only = self.sources[0].record.path
            raise DataError(
                f"{config.videos}: pairs need clips of two different videos, there is only {only}; "
                "add videos, or cut it into parts of data.segment_seconds, less than its half "
                f"(got {'null' if config.segment_seconds is None else config.segment_seconds}), "
                "with data.same_file_pairs true"
            )
        self._frames = make_frames(videos, config)

    def _excluded_partners(self, index: int) -> tuple[int, int]:
        """The range of sources that the partner of a source may not come from: itself, or its whole file."""
        return (index, index + 1) if self.config.same_file_pairs else self.sources.file_of(index)

    def path(self, place: int) -> str:
        """The file of a source."""
        return self.sources[place].record.path

    @property
    def sample_bytes(self) -> int:
        """Of two clips."""
        return 2 * 3 * self.config.num_frames * self.config.crop_size**2

    def __len__(self) -> int:
        """Samples in an epoch: videos (or segments) times `samples_per_video`."""
        return len(self.sources) * self.config.samples_per_video

    def __getitem__(self, key: tuple[int, int] | int) -> PairSample:
        epoch, sample_id = key if isinstance(key, tuple) else (0, key)
        if not 0 <= sample_id < len(self):
            raise IndexError(f"sample_id: got {sample_id}, needs one in [0, {len(self)})")
        first = sample_id % len(self.sources)
        clip_1: Tensor | None = None

        def attempt(number: int, rng: np.random.Generator) -> tuple[Tensor, Tensor, tuple[int, int]]:
            nonlocal first, clip_1
            if self._mode == "temporal":
                clip_1 = None  # both clips are of the video that turned out bad
            if number and clip_1 is None:
                first = int(rng.integers(len(self.sources)))
            second = first
            if self._mode == "tubelet":
                start, stop = self._excluded_partners(first)
                second = int(rng.integers(len(self.sources) - (stop - start)))
                second += (stop - start) * (second >= start)
            if clip_1 is None:
                clip_1 = self._clip(first, self.generator(epoch, sample_id, number, 1))
            return clip_1, self._clip(second, self.generator(epoch, sample_id, number, 2)), (first, second)

        (query, key_clip, sources), bad = self.draw(epoch, sample_id, attempt)
        return PairSample(query, key_clip, sample_id, epoch, sources, bad)

    def _clip(self, index: int, rng: np.random.Generator) -> Tensor:
        """A clip of one source: (T, S, S, 3) uint8."""
        config, source = self.config, self.sources[index]
        indices = draw_frame_indices(rng, source.num_frames, config.num_frames, config.strides)
        with self.reading(index):
            frames = self._frames.read(source, indices)
        height, width = frames.shape[1:3]
        box = draw_crop(rng, width, height, config)
        window = frames[:, box.y0 : box.y1, box.x0 : box.x1]
        return resize_frames(window, config.crop_size, flip=rng.random() < config.flip)


def resize_frames(frames: npt.NDArray[np.uint8], size: int, *, flip: bool = False) -> Tensor:
    """Resize (T, H, W, 3) uint8 frames to (T, size, size, 3), bilinear with antialiasing; and mirror them, if asked.

    The pixels of Pillow and of torch's `interpolate(antialias=True)` but for rounding, the same on every processor.
    """
    if not frames.flags.writeable or min(frames.strides) < 0:  # torch takes neither
        frames = frames.copy()
    resized = torch.empty((1, len(frames), size, size, 3), dtype=torch.uint8)
    clip = torch.from_numpy(frames)[None].permute(0, 4, 1, 2, 3)
    augment_clips_([resized.permute(0, 4, 1, 2, 3)], [clip], None, torch.tensor([[flip]]))
    return resized[0]
