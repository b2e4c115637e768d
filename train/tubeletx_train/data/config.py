"""Configuration of the data side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class DataConfig:
    """What is read, how clips are drawn from it, and with how many processes.

    Attributes:
        videos: A manifest (CSV, see `tubeletx_train.data.manifest`) or a folder that is searched for videos.
        split: Keep only the manifest's rows of this split; None keeps all.
        num_frames: Frames of a clip, T.
        strides: Frame strides; each clip draws one (the paper and the released code use 1 to 4).
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
        reader: What decodes video files; folders and zips of frames need none.
        cache_frames: Decode everything once and keep the frames in shared memory, for a few short videos.
        cache_limit_gb: Largest size of that cache, GB (1e9 bytes); more than this is refused.
        num_workers: Decoding processes; 0 decodes in the training process.
        prefetch: Batches that each worker prepares ahead.
        timeout: Seconds without a batch after which a worker counts as hung.
        check_timeout: Seconds that the check before training waits for one video.
        max_bad_share: Share of the videos that may turn out unreadable before the run stops with the list.
    """

    videos: str
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
    reader: Literal["decord", "pyav", "torchcodec"] = "decord"
    cache_frames: bool = False
    cache_limit_gb: float = 2.0
    num_workers: int = 2
    prefetch: int = 4
    timeout: float = 300.0
    check_timeout: float = 60.0
    max_bad_share: float = 0.5

    def __post_init__(self) -> None:
        least = {
            "num_frames": 1,
            "crop_size": 1,
            "samples_per_video": 1,
            "cache_limit_gb": 0,
            "num_workers": 0,
            "prefetch": 1,
            "timeout": 0,
            "check_timeout": 0,
        }
        for name, bound in least.items():
            if not getattr(self, name) >= bound:
                raise ValueError(f"{name} must be {bound} or more, not {getattr(self, name)}")
        for name in ("decode_size", "segment_seconds"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be positive or none, not {value}")
        for name in ("flip", "max_bad_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in [0, 1], not {getattr(self, name)}")
        if not self.strides or min(self.strides) < 1:
            raise ValueError(f"strides must be one or more whole numbers of 1 or more, not {self.strides}")
        if not 0 < self.crop_area[0] <= self.crop_area[1] <= 1:
            raise ValueError(f"crop_area must be two shares in (0, 1], the smaller first, not {self.crop_area}")
        if not 0 < self.crop_ratio[0] <= self.crop_ratio[1]:
            raise ValueError(f"crop_ratio must be two positive numbers, the smaller first, not {self.crop_ratio}")
