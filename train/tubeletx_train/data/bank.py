"""A bank of decoded clips on the training device, each drawn several times before it is replaced.

Decoding is the slowest part of a step: with `data.reuse` 4 it is done for a quarter of the clips that are trained on.
A clip that is drawn again is nearly a new sample: its window, mirroring, partner, tubelets and colours are drawn anew.
"""

from __future__ import annotations

import functools
import itertools
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from tqdm import tqdm

from tubeletx.ops import augment_clips_
from tubeletx_train.common.distributed import Ranks
from tubeletx_train.config.data import DataConfig
from tubeletx_train.data.bad_videos import BadVideo, BadVideoTracker
from tubeletx_train.data.clips import clip_generator, draw_crop, draw_frame_indices
from tubeletx_train.data.drawn import DrawnDataset
from tubeletx_train.data.errors import DataError
from tubeletx_train.data.frames import Sources, make_frames
from tubeletx_train.data.loader import ClipsToShow, build_clip_loader
from tubeletx_train.data.record import VideoRecord
from tubeletx_train.data.sampler import EpochSampler
from tubeletx_train.data.shared_memory import require_shared_memory

_log = logging.getLogger(__name__)

_HANDED_OVER = 4  # clips that a worker hands over at a time
_SURE = 32  # clips from which the size of all is judged

# Streams of `clip_generator`: the order of the slots, and how a clip is shown.
_ORDER, _SHOWN = 3, 4


@dataclass
class DecodedClips:
    """Clips as they were decoded.

    Attributes:
        frames: (T, H, W, 3) uint8 each, of any height and width.
        sources: The video (segment) that each is of.
        bad: Videos that could not be read while they were made.
    """

    frames: list[Tensor]
    sources: list[int]
    bad: list[BadVideo]

    def pin_memory(self) -> DecodedClips:
        """The same in page-locked memory (called by the loader)."""
        return replace(self, frames=[frames.pin_memory() for frames in self.frames])


class DecodedClipDataset(DrawnDataset[DecodedClips]):
    """Single clips before any window is cut, each a pure function of (seed, epoch, sample_id)."""

    config: DataConfig

    def __init__(self, videos: Sequence[VideoRecord], config: DataConfig, *, seed: int = 0) -> None:
        """Args: checked `videos`, settings, seed of every draw."""
        super().__init__(config, seed=seed, origin=config.videos)
        self.sources = Sources(videos, config.segment_seconds)
        self._frames = make_frames(videos, config)

    def path(self, place: int) -> str:
        """The file of a source."""
        return self.sources[place].record.path

    @property
    def sample_bytes(self) -> int:
        """Of the clip of the largest of some videos."""
        sizes = (self.sources[place].record for place in range(min(len(self.sources), 100)))
        return int(3 * self.config.num_frames * max(_pixels(record, self.config.decode_size) for record in sizes))

    def __len__(self) -> int:
        """Clips in an epoch: videos (or segments) times `samples_per_video`."""
        return len(self.sources) * self.config.samples_per_video

    def __getitem__(self, key: tuple[int, int]) -> DecodedClips:
        epoch, sample_id = key

        def attempt(number: int, rng: np.random.Generator) -> tuple[Tensor, int]:
            place = int(rng.integers(len(self.sources))) if number else sample_id % len(self.sources)
            source, config = self.sources[place], self.config
            indices = draw_frame_indices(rng, source.num_frames, config.num_frames, config.strides)
            with self.reading(place):
                frames = self._frames.read(source, indices)
            return torch.from_numpy(np.ascontiguousarray(frames)), place

        (frames, place), bad = self.draw(epoch, sample_id, attempt)
        return DecodedClips([frames], [place], bad)


def _pixels(record: VideoRecord, short_side: int | None) -> float:
    width, height = record.width or 0, record.height or 0
    scale = 1.0 if short_side is None or not width else short_side / min(width, height)
    return width * height * scale * scale


def _collate(samples: list[DecodedClips]) -> DecodedClips:
    return DecodedClips(
        [frames for sample in samples for frames in sample.frames],
        [source for sample in samples for source in sample.sources],
        [video for sample in samples for video in sample.bad],
    )


@dataclass
class BankBatch:
    """Pairs of clips as they lie in the bank, and what is shown of them this time.

    Attributes:
        clips: (1, 3, T, any height, any width) uint8 each, the two of the first pair first; views, not to be written.
        windows: (B, 2, 4) int32, x0, y0, x1, y1 of what is shown of each, half open, pixels of the clip.
        flips: (B, 2) bool, which are mirrored.
        side: Of the square that windows are resized to, S.
        sample_ids: (B,) int64.
        epoch: The round of the bank.
        sources: (B, 2) int64, the videos (segments) that they are of.
        bad: None; videos that go bad are counted when the bank loads them.
    """

    clips: list[Tensor]
    windows: Tensor
    flips: Tensor
    side: int
    sample_ids: Tensor
    epoch: int
    sources: Tensor
    bad: list[BadVideo]

    def to_show(self) -> ClipsToShow:
        """Clips, windows and mirroring, for one call of the operator."""
        shape = (len(self.sample_ids), self.clips[0].shape[2], self.side)
        return ClipsToShow(self.clips, self.windows, self.flips, shape)

    @property
    def clip_1(self) -> Tensor:
        """(B, 3, T, S, S) uint8, channels_last_3d: the first clips as they are shown."""
        return self._shown[0]

    @property
    def clip_2(self) -> Tensor:
        """Likewise, the second ones."""
        return self._shown[1]

    @functools.cached_property
    def _shown(self) -> list[Tensor]:
        batch, frames, side = self.to_show().shape
        shown = [self.clips[0].new_empty((batch, frames, side, side, 3)).permute(0, 4, 1, 2, 3) for _ in range(2)]
        augment_clips_(shown, self.clips, self.windows, self.flips)
        return shown


@dataclass(frozen=True)
class BankPlan:
    """Which slots each step draws, and which clip is in a slot: functions of the step alone.

    Every slot is drawn once a round, in an order of that round's own. A clip is replaced after the round in which it
    was drawn for the `reuse`-th time, by the next one that is loaded. The rounds in which slots are replaced are
    staggered, so that each round replaces as many; the first clips of most slots hence go sooner.

    Attributes:
        num_slots: Clips in the bank, a multiple of `draws`.
        draws: Clips that a step draws.
        reuse: How often a clip is drawn at most.
        seed: Seed of the orders.
        rank: This process; each has a bank of its own.
    """

    num_slots: int
    draws: int
    reuse: int
    seed: int = 0
    rank: int = 0

    @property
    def steps_per_round(self) -> int:
        """Steps in which every slot is drawn once."""
        return self.num_slots // self.draws

    def order(self, number: int) -> npt.NDArray[np.int64]:
        """The slots in the order in which a round draws them."""
        return clip_generator(self.seed, number, self.rank, 0, _ORDER).permutation(self.num_slots)

    def last_drawn(self, slots: npt.NDArray[np.int64], number: int) -> npt.NDArray[np.bool_]:
        """Which of these slots a round draws for the last time before they are replaced."""
        last: npt.NDArray[np.bool_] = (number - slots) % self.reuse == self.reuse - 1
        return last

    def contents(self, step: int) -> npt.NDArray[np.int64]:
        """Before a step, the number of the clip in each slot; clips are numbered as they are loaded."""
        last, done = divmod(step, self.steps_per_round)
        clips = np.arange(self.num_slots)
        for number in range(max(last - self.reuse, 0), last + 1):
            order = self.order(number)
            replaced = order[self.last_drawn(order, number)]
            if number == last:
                begun = order[: done * self.draws]
                replaced = begun[self.last_drawn(begun, number)]
            clips[replaced] = self._loaded_before_round(number) + np.arange(len(replaced))
        return clips

    def loaded(self, step: int) -> int:
        """How many clips were loaded before a step."""
        last, done = divmod(step, self.steps_per_round)
        begun = self.order(last)[: done * self.draws]
        return self._loaded_before_round(last) + int(self.last_drawn(begun, last).sum())

    def _loaded_before_round(self, number: int) -> int:
        cycles, rest = divmod(number, self.reuse)
        slots = np.arange(self.num_slots)
        return self.num_slots * (1 + cycles) + sum(int(self.last_drawn(slots, i).sum()) for i in range(rest))


class BankLoader:
    """Batches of pairs by step, out of a bank of decoded clips on the device; a `BatchSource` of the training loop.

    What is drawn is a function of (seed, step); a run that goes on fills its bank with the clips that it held.

    Attributes:
        batch_size: Pairs of a batch of this process.
        steps_per_epoch: Steps in which as many pairs are drawn as an epoch has clips.
    """

    def __init__(
        self,
        dataset: DecodedClipDataset,
        bad_videos: BadVideoTracker,
        *,
        batch_size: int,
        seed: int,
        ranks: Ranks,
        device: torch.device,
    ) -> None:
        """Make the loader.

        Args:
            dataset: What is decoded.
            bad_videos: Counts the videos that go bad.
            batch_size: Pairs a step, over all processes.
            seed: Seed of every draw.
            ranks: The processes.
            device: Where the bank lies.

        Raises:
            UsageError: The batch does not divide among the processes.
        """
        self.batch_size = ranks.share(batch_size, "optim.batch_size")
        self._dataset = dataset
        self._bad_videos = bad_videos
        self._seed = seed
        self._ranks = ranks
        self._device = device
        config = dataset.config
        draws = 2 * self.batch_size
        num_slots = -(-config.bank_clips // draws) * draws
        self.plan = BankPlan(num_slots, draws, config.reuse, seed, ranks.rank)
        self.steps_per_epoch = self._sampler(self.batch_size).batches_per_epoch
        self._clips: list[Tensor] = []
        self._sources = np.zeros(num_slots, np.int64)

    def _sampler(self, batch_size: int = 1) -> EpochSampler:
        """Of the clips in the order in which they are loaded."""
        ranks = self._ranks
        return EpochSampler(
            len(self._dataset), batch_size, seed=self._seed, rank=ranks.rank, world_size=ranks.world_size
        )

    def batches(self, start: int, stop: int) -> Iterator[BankBatch]:
        """The batches of this process, on its device, for steps `start` to `stop`, the first being step 0.

        Raises:
            LoaderError: A worker died, or gave no clip in time.
            UsageError: The machine has not the shared memory to hand clips over.
            DataError: The bank would be larger than `data.bank_limit_gb`, or holds one video alone.
            TooManyBadVideos: Too many videos could not be read.
        """
        config, plan = self._dataset.config, self.plan
        require_shared_memory(_HANDED_OVER * self._dataset.sample_bytes, config.num_workers, config.prefetch)
        contents = plan.contents(start)
        slots = np.argsort(contents)
        coming = range(plan.loaded(start), plan.loaded(max(stop - 1, start)))
        loaded = self._load(itertools.chain(contents[slots].tolist(), coming))
        self._fill(slots, loaded)
        order, order_of = contents, -1
        for step in range(start, stop):
            number, done = divmod(step, plan.steps_per_round)
            if number != order_of:
                order, order_of = plan.order(number), number
            drawn = order[done * plan.draws : (done + 1) * plan.draws]
            yield self._batch(step, number, drawn)
            if step < stop - 1:
                for slot in drawn[plan.last_drawn(drawn, number)]:
                    self._put(slot, *next(loaded))

    def _load(self, numbers: Iterator[int]) -> Iterator[tuple[Tensor, int]]:
        """Clips by their numbers, where the workers put them, and the sources that they are of."""
        sampler = self._sampler()
        keys = (key for number in numbers for key in sampler.batch(number))
        chunks = iter(lambda: list(itertools.islice(keys, _HANDED_OVER)), [])
        pin = self._device.type == "cuda"
        for clips in build_clip_loader(self._dataset, chunks, _collate, pin_memory=pin):
            self._bad_videos.update(clips.bad)
            yield from zip(clips.frames, clips.sources, strict=True)

    def _put(self, slot: int, frames: Tensor, source: int) -> None:
        # A copy on every device, so that no memory of the workers' is held.
        self._clips[slot] = frames.to(self._device, non_blocking=True, copy=True)
        self._sources[slot] = source

    def _fill(self, slots: npt.NDArray[np.int64], loaded: Iterator[tuple[Tensor, int]]) -> None:
        """Puts a clip into every slot."""
        since, size, count = time.perf_counter(), 0, len(slots)
        limit = self._dataset.config.bank_limit_gb
        self._clips = [torch.empty(0)] * count
        shown = None if self._ranks.is_main else True
        for done, slot in enumerate(tqdm(slots, "filling the bank", unit="clip", leave=False, disable=shown), 1):
            self._put(slot, *next(loaded))
            size += self._clips[slot].nbytes
            if done >= min(count, _SURE) and size / done * count > limit * 1e9:
                raise DataError(
                    f"the bank would hold {size / done * count / 1e9:.2f} GB of clips, more than data.bank_limit_gb "
                    f"{limit:g}; lower data.bank_clips ({count} here) or data.decode_size, or raise the limit"
                )
        _log.info(
            "bank of %d clips, %.2f GB on %s, filled in %.1f s; each clip is drawn %d times",
            count,
            size / 1e9,
            self._device,
            time.perf_counter() - since,
            self.plan.reuse,
        )

    def _batch(self, step: int, number: int, drawn: npt.NDArray[np.int64]) -> BankBatch:
        first, second = drawn[: self.batch_size], drawn[self.batch_size :]
        pairs = np.stack([first, self._partners(first, second)], axis=1)
        row = (step * self._ranks.world_size + self._ranks.rank) * self.batch_size
        sample_ids = np.arange(row, row + self.batch_size)
        clips = [self._clips[slot].permute(3, 0, 1, 2)[None] for slot in pairs.flat]
        windows, flips = self._draw(clips, number, sample_ids)
        return BankBatch(
            clips=clips,
            windows=windows.to(self._device, non_blocking=True),
            flips=flips.to(self._device, non_blocking=True),
            side=self._dataset.config.crop_size,
            sample_ids=torch.from_numpy(sample_ids).to(self._device),
            epoch=number,
            sources=torch.from_numpy(self._sources[pairs]).to(self._device),
            bad=[],
        )

    def _draw(self, clips: list[Tensor], number: int, sample_ids: npt.NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """What is shown of each clip this time: (B, 2, 4) windows, and (B, 2) whether they are mirrored."""
        config = self._dataset.config
        windows, flips = [], []
        for place, clip in enumerate(clips):
            rng = clip_generator(self._seed, number, int(sample_ids[place // 2]), place % 2, _SHOWN)
            windows.append(draw_crop(rng, clip.shape[4], clip.shape[3], config))
            flips.append(rng.random() < config.flip)
        return torch.tensor(windows, dtype=torch.int32).view(-1, 2, 4), torch.tensor(flips).view(-1, 2)

    def _partners(self, first: npt.NDArray[np.int64], second: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The second slots in an order in which no pair is of one video.

        Where more than half of the clips drawn are of one video there is none: then the next slots stand in that hold
        another video, and are drawn once more than others.
        """
        videos, second = self._videos(), second.copy()
        for row in np.flatnonzero(videos[first] == videos[second]):
            one = videos[first[row]]
            if videos[second[row]] != one:
                continue  # an exchange has helped it
            others = np.flatnonzero((videos[first] != one) & (videos[second] != one))
            if len(others):
                second[row], second[others[0]] = second[others[0]], second[row]
                continue
            fits = np.flatnonzero(videos != one)
            if not len(fits):
                raise DataError(
                    f"the bank of {self.plan.num_slots} clips holds one video alone, but pairs need two; raise "
                    "data.bank_clips, add videos, or cut them with data.segment_seconds"
                )
            second[row] = fits[(np.searchsorted(fits, second[row]) + row) % len(fits)]
        return second

    def _videos(self) -> npt.NDArray[np.int64]:
        """What each slot's clip must not be paired with, as a number: its source, or all of its file."""
        if self._dataset.config.same_file_pairs:
            return self._sources
        return np.array([self._dataset.sources.file_of(int(source))[0] for source in self._sources])
