"""Settings of the data side: reading, clips of pairs, colour."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from tubeletx_train.common.limits import require_at_least, require_positive, require_range, require_share

ReaderName = Literal["decord", "decord_only", "pyav", "torchcodec"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class ReadingConfig:
    """How videos are read, whatever for.

    Attributes:
        reader: What decodes video files; folders and zips of frames need none. "decord" leaves to PyAV the files that
            it does not read, or not exactly; "decord_only" does not.
        num_workers: Decoding processes; 0 decodes in the training process.
        prefetch: Batches that each worker prepares ahead.
        timeout: Seconds without a batch after which a worker counts as hung.
        check_timeout: Seconds that the check before a run waits for one video.
        max_bad_share: Share of the training videos that may be unreadable before the run stops with the list.
    """

    reader: ReaderName = "decord"
    num_workers: int = 2
    prefetch: int = 4
    timeout: float = 300.0
    check_timeout: float = 60.0
    max_bad_share: float = 0.05

    def __post_init__(self) -> None:
        require_at_least(self, 0, "num_workers")
        require_at_least(self, 1, "prefetch")
        require_positive(self, "timeout", "check_timeout")
        require_share(self, "max_bad_share")


@dataclass(frozen=True)
class LeavesConfig:
    """Clips that are drawn in place of videos, see `tubeletx.ops.draw_leaves`; lengths are shares of the clip's side.

    As most videos are, they are smooth, nearly still and alike in their mean: few large shapes that hardly move. Many
    small ones that move hide tubelets among themselves, and where clips differ much in colour less is learned.

    Attributes:
        pairs: Pairs of clips in an epoch; the next one draws others.
        num_leaves: Shapes before the backdrop.
        radius: Smallest and largest radius of the shapes.
        motion: How far the paths of the fastest shapes reach.
        camera: How far the path reaches that all share.
        turn: How far the shapes turn, degrees.
        growth: How far the logarithm of their scale goes.
        spread: Share of the differences between the mean colours of clips that is kept.
    """

    pairs: int = 10000
    num_leaves: int = 30
    radius: tuple[float, float] = (0.15, 0.8)
    motion: float = 0.05
    camera: float = 0.03
    turn: float = 15.0
    growth: float = 0.05
    spread: float = 0.4

    def __post_init__(self) -> None:
        require_at_least(self, 1, "pairs")
        require_at_least(self, 0, "num_leaves", "motion", "camera", "turn", "growth")
        require_share(self, "spread")
        require_range(self, "radius", most=4)
        for name, most in (("num_leaves", 1 << 15), ("motion", 4), ("camera", 4), ("turn", 3600), ("growth", 4)):
            if not getattr(self, name) <= most:
                raise ValueError(f"{name}: got {getattr(self, name)}, needs {most} or less")


@dataclass(frozen=True)
class DataConfig(ReadingConfig):
    """What is read, how clips are drawn from it, and with how many processes.

    Attributes:
        videos: A manifest (CSV, see `tubeletx_train.data.manifest`) or a folder that is searched for videos.
        source: "videos" reads clips from `videos`; "leaves" draws them, by `leaves`, and reads no file.
        leaves: How clips are drawn where `source` is "leaves". Of the settings of `data` that say how clips are read
            and cut, `num_frames` and `crop_size` alone count then.
        split: Keep only the manifest's rows of this split; None keeps all.
        num_frames: Frames of a clip, T.
        strides: Frame strides; each clip draws one (1 to 4 in the released code; the paper gives none).
        crop_size: Side S of the square clip, pixels.
        decode_size: Short side that frames are decoded at, pixels; None keeps the file's own size.
        crop: "random_resized" draws a box by `crop_area` and `crop_ratio`; "released" stretches the frame to one of
            three sizes whatever its aspect, then cuts a window, as the released code does.
        crop_area: Smallest and largest share of the frame's area that a random-resized crop covers.
        crop_ratio: Smallest and largest width/height of a random-resized crop, drawn log-uniformly.
        flip: Probability that a clip is mirrored left to right.
        segment_seconds: Cut every video into segments of about this length that count as videos of their own;
            None keeps videos whole. Useful where there are few, long videos.
        same_file_pairs: Whether the two clips of a tubelet pair may come from two segments of one file.
        samples_per_video: How often an epoch visits each video (or segment), each time with other draws.
        cache_frames: Decode everything once and keep the frames in shared memory, for a few short videos.
        cache_limit_gb: Largest size of that cache, GB (1e9 bytes); more than this is refused.
        reuse: How often a decoded clip is drawn before it is replaced, each time with another window, partner, tubelets
            and colours. More than 1 keeps decoded clips in a bank on the training device, so that so much less is
            decoded.
        bank_clips: Clips in that bank of each process, rounded up to whole steps.
        bank_limit_gb: Largest size of the bank, GB (1e9 bytes); more than this is refused.
    """

    videos: str = ""
    source: Literal["videos", "leaves"] = field(default="videos", kw_only=True)
    leaves: LeavesConfig = field(default_factory=LeavesConfig, kw_only=True)
    split: str | None = None
    num_frames: int = 16
    strides: tuple[int, ...] = (1, 2, 3, 4)
    crop_size: int = 112
    decode_size: int | None = 128
    crop: Literal["random_resized", "released"] = "random_resized"
    crop_area: tuple[float, float] = (0.3, 1.0)
    crop_ratio: tuple[float, float] = (0.75, 4 / 3)
    flip: float = 0.5
    segment_seconds: float | None = None
    same_file_pairs: bool = True
    samples_per_video: int = 1
    cache_frames: bool = False
    cache_limit_gb: float = 2.0
    reuse: int = 1
    bank_clips: int = 1024
    bank_limit_gb: float = 8.0
    max_bad_share: float = field(default=0.5, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.source == "videos" and not self.videos:
            raise ValueError('videos: got nothing, needs a manifest or a folder of videos, or source "leaves"')
        require_at_least(self, 1, "num_frames", "crop_size", "samples_per_video", "reuse", "bank_clips")
        require_at_least(self, 0, "cache_limit_gb", "bank_limit_gb")
        require_positive(self, "decode_size", "segment_seconds")
        if self.reuse > 1 and self.source == "leaves":
            raise ValueError(f'reuse: got {self.reuse}, needs 1 where source is "leaves": drawn clips need no decoding')
        require_share(self, "flip")
        require_range(self, "crop_area", most=1)
        require_range(self, "crop_ratio")
        if not self.strides or min(self.strides) < 1:
            raise ValueError(f"strides: got {self.strides}, needs one or more whole numbers of 1 or more")

    @property
    def middle_stride(self) -> int:
        """The one of `strides` that labelled videos are judged at."""
        return sorted(self.strides)[len(self.strides) // 2]


class Normalization(NamedTuple):
    """What is subtracted from colours in [0, 1], and what they are then divided by; red, green, blue."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


IMAGENET = Normalization(IMAGENET_MEAN, IMAGENET_STD)


@dataclass(frozen=True)
class ColorConfig:
    """Strengths as in torchvision's ColorJitter; each clip draws one set of factors for all its frames.

    Attributes:
        probability: Chance that each of the four is applied at all (the released code: 0.2).
        brightness: Factor drawn from [max(0, 1 - b), 1 + b].
        contrast: Likewise, about the mean grey of the clip.
        saturation: Likewise.
        hue: Rotation drawn from [-h, h] turns, h up to 0.5.
        shared: Both clips of a pair get the same draw (the released code) or each its own.
    """

    probability: float = 0.8
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1
    shared: bool = False

    def __post_init__(self) -> None:
        require_at_least(self, 0, "brightness", "contrast", "saturation")
        require_share(self, "probability")
        if not 0 <= self.hue <= 0.5:
            raise ValueError(f"hue: got {self.hue}, needs one in [0, 0.5] turns")
