"""Settings of rendering."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tubeletx_train.common.limits import require_at_least, require_seed

SetName = Literal["gym", "manipulate"]

_LEAST_SIZE = 16


@dataclass(frozen=True)
class RenderConfig:
    """What is rendered, and where to.

    Attributes:
        set: "gym" (one figure; needs pybullet) or "manipulate" (a robot's arm and things it opens, closes, pushes and
            pulls; needs metaworld).
        output: Folder for the videos, `manifest.csv` and `classes.png`; a call that was stopped is taken up again with
            the same folder, and one with more clips a class adds to it.
        clips_per_class: Videos of each class. Four of six are of split "train", one is of "test" and one of a harder
            test, as the documentation says.
        num_frames: Frames of a video.
        size: Side of a frame, pixels; even, as H.264 wants it.
        seed: Of everything drawn; each video is a function of it, its class and its number.
        num_workers: Processes that render.
    """

    set: SetName
    output: str
    clips_per_class: int = 60
    num_frames: int = 16
    size: int = 112
    seed: int = 0
    num_workers: int = 2

    def __post_init__(self) -> None:
        require_at_least(self, 1, "clips_per_class", "num_workers")
        require_at_least(self, 2, "num_frames")
        require_at_least(self, _LEAST_SIZE, "size")
        require_seed(self)
        if self.size % 2:
            raise ValueError(f"size: got {self.size}, needs an even number")
