"""A recipe to begin with, chosen by how many videos there are."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from tubeletx_train.common.limits import require_at_least
from tubeletx_train.config.parse import parse_config
from tubeletx_train.config.pretrain import PretrainConfig
from tubeletx_train.data import DataError, VideoError, VideoRecord, open_video
from tubeletx_train.pretrain.watch import FEWEST_QUEUES

# Videos that are opened to tell how long one is.
_LOOKED_AT = 12
# From so many on a network of full width has enough to learn from; the demo and the study are of fewer.
_MANY = 200
_FEW_LONG = 16


@dataclass(frozen=True)
class Footage:
    """How much there is to train on.

    Attributes:
        videos: Files.
        seconds: Of the middle one of those that were looked at.
        frames: Likewise.
        short_side: Likewise, pixels.
    """

    videos: int
    seconds: float
    frames: int
    short_side: int

    def __post_init__(self) -> None:
        require_at_least(self, 1, "videos")

    def __str__(self) -> str:
        hours = self.videos * self.seconds / 3600
        return f"{self.videos:,} videos of about {self.seconds:.3g} s, {hours:.2g} hours in all"


@dataclass(frozen=True)
class Choice:
    """A recipe and what to change of it.

    Attributes:
        recipe: Its name.
        reasons: Why, a sentence each.
        changes: Settings by dotted name.
    """

    recipe: str
    reasons: list[str]
    changes: dict[str, object] = field(default_factory=dict)

    def options(self) -> str:
        """As they stand on a command line."""
        return "".join(f" --{name} {str(value).lower()}" for name, value in self.changes.items())


def look_at(records: Sequence[VideoRecord]) -> Footage:
    """Open a few of some videos.

    Raises:
        DataError: None of those can be read.
    """
    reason: VideoError | None = None
    chosen = [records[place] for place in np.unique(np.linspace(0, len(records) - 1, _LOOKED_AT).astype(int))]
    seen = []
    for record in chosen:
        try:
            video = open_video(record.path)
            height, width = video.read([0]).shape[1:3]
        except VideoError as error:
            reason = error
            continue
        seen.append((video.num_frames / video.fps, video.num_frames, min(height, width)))
    if not seen:
        raise DataError(f"not one of the {len(chosen)} videos that were looked at can be read (the last: {reason})")
    seconds, frames, short_side = np.median(np.array(seen), axis=0).tolist()
    return Footage(len(records), seconds, int(frames), int(short_side))


def choose_recipe(footage: Footage) -> Choice:
    """The recipe to begin with."""
    if footage.videos < _MANY:
        return _narrow(footage)
    recipe = "pretrain/mini_kinetics" if footage.videos < 150_000 else "pretrain/kinetics400"
    config = parse_config(PretrainConfig, ["--config", recipe, "--data.videos", "videos"], prog="recipes")
    reasons = [f"from {_MANY} videos on the paper's network and settings have enough to learn from"]
    changes: dict[str, object] = {}
    keys = footage.videos * config.data.samples_per_video * config.optim.epochs
    largest = 2 ** int(np.log2(keys / FEWEST_QUEUES))
    if largest < config.contrast.queue_size:
        changes["contrast.queue_size"] = largest
        reasons.append(
            f"{config.optim.epochs} epochs bring {keys:,} keys, too few to replace a queue of "
            f"{config.contrast.queue_size:,} {FEWEST_QUEUES} times, and keys that grow stale can make a run collapse"
        )
    if footage.short_side < (config.data.decode_size or 0):
        changes["data.decode_size"] = "null"
        reasons.append(f"frames have {footage.short_side} pixels on their short side: decoding need not enlarge them")
    return Choice(recipe, reasons, changes)


def _narrow(footage: Footage) -> Choice:
    config = parse_config(PretrainConfig, ["--config", "demo", "--data.videos", "videos"], prog="recipes")
    reasons = [
        f"fewer than {_MANY} videos teach a narrow network in a few hundred steps",
        "its negatives are of the same step, as the keys of a queue would grow stale",
    ]
    changes: dict[str, object] = {}
    if footage.videos > _FEW_LONG:
        changes["data.segment_seconds"] = "null"
        changes["data.samples_per_video"] = 16
        reasons.append("there are videos enough to count each as one, where the demo cuts its few into segments")
    side = min(config.data.decode_size or footage.short_side, footage.short_side)
    # Frames of 4 to 3, three bytes a pixel.
    gigabytes = footage.videos * footage.frames * side * side * 4 / 3 * 3 / 1e9
    if gigabytes > config.data.cache_limit_gb:
        changes["data.cache_frames"] = False
        reasons.append(
            f"all frames would take about {gigabytes:.2g} GB of memory, so they are decoded as they are needed"
        )
    return Choice("demo", reasons, changes)


def describe_choice(path: str, footage: Footage, choice: Choice) -> list[str]:
    """A shell script: what was found, why the recipe, and how to go on."""
    options = f"--config {choice.recipe} --data.videos {shlex.quote(path)}{choice.options()}"
    return [
        f"# {path}: {footage}",
        *(f"# {reason}" for reason in choice.reasons),
        f"tubeletx-train preview {options}",
        f"tubeletx-train pretrain {options} --run.output runs/mine",
    ]
