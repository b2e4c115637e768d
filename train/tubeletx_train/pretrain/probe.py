"""Motion probe: do frozen features tell how a patch moves over a still frame?

Every clip shows one real frame, held still, and one patch of another video that moves in one of twelve ways. Neither
frame nor patch says which, so an accuracy above chance is read from motion.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from tubeletx.tubelets import Tubelets
from tubeletx_train.data import PairBatch
from tubeletx_train.pretrain.held_out import embed
from tubeletx_train.pretrain.views import freeze


@dataclass
class _Draws:
    """What the motions are made of, each (B, 1) unless said; lengths as shares of the frame's shorter side.

    Attributes:
        time: (1, T) from -1 to 1.
        travel: Half the length of a straight path.
        radius: Of a circle.
        speed: Radians, half of what a spin turns through and a quarter of what a circle does.
        phase: Where a circle or zig-zag begins, radians.
    """

    time: Tensor
    travel: Tensor
    radius: Tensor
    speed: Tensor
    phase: Tensor


# Each gives x and y displacement, rotation and scale by name; what is not named stays 0 (scale: 1).
_MOTIONS: dict[str, Callable[[_Draws], dict[str, Tensor]]] = {
    "right": lambda d: {"x": d.travel * d.time},
    "left": lambda d: {"x": -d.travel * d.time},
    "down": lambda d: {"y": d.travel * d.time},
    "up": lambda d: {"y": -d.travel * d.time},
    "circle clockwise": lambda d: _circle(d, 1),
    "circle anticlockwise": lambda d: _circle(d, -1),
    "grow": lambda d: {"scale": 1 + 0.4 * d.time},
    "shrink": lambda d: {"scale": 1 - 0.4 * d.time},
    "spin clockwise": lambda d: {"rotation": d.speed * d.time},
    "spin anticlockwise": lambda d: {"rotation": -d.speed * d.time},
    "zig-zag": lambda d: {"x": d.travel * d.time, "y": 0.125 * torch.sign(torch.sin(6 * d.time + d.phase))},
    "still": lambda _: {},
}

MOTION_NAMES = tuple(_MOTIONS)


def _circle(draws: _Draws, direction: int) -> dict[str, Tensor]:
    angle = draws.phase + direction * 2 * draws.speed * draws.time
    return {"x": draws.radius * torch.cos(angle), "y": draws.radius * torch.sin(angle)}


def motion_tubelets(
    labels: Tensor, *, num_frames: int, height: int, width: int, generator: torch.Generator
) -> Tubelets:
    """One tubelet a clip that moves as its label says.

    Args:
        labels: (B,) int64, indices into MOTION_NAMES.
        num_frames: T.
        height: H, pixels.
        width: W, pixels.
        generator: Draws place, size, speed and shape, from the same distributions for every label.
    """
    batch, side = len(labels), min(height, width)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(batch, *shape, generator=generator)

    draws = _Draws(
        time=torch.linspace(-1, 1, num_frames)[None],
        travel=uniform(1 / 6, 1 / 3, 1),
        radius=uniform(0.15, 0.27, 1),
        speed=uniform(1.5, 3.0, 1),
        phase=uniform(0, 2 * math.pi, 1),
    )
    track = {name: torch.zeros(batch, num_frames) for name in ("x", "y", "rotation")}
    track["scale"] = torch.ones(batch, num_frames)
    for index, motion in enumerate(_MOTIONS.values()):
        rows = labels == index
        for name, values in motion(draws).items():
            track[name][rows] = values.expand(batch, num_frames)[rows]

    frame = torch.tensor([width, height], dtype=torch.float32)
    start = uniform(1 / 3, 2 / 3, 1, 2) * frame
    centers = start + side * torch.stack([track["x"], track["y"]], -1)
    cos, sin = track["scale"] * track["rotation"].cos(), track["scale"] * track["rotation"].sin()
    linear = torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2)

    # Sides of .375 to .625 of the frame, and a box of that size somewhere in it.
    size = (uniform(0.375, 0.625, 2) * side).round().clamp(min=1)
    corner = (torch.rand(batch, 2, generator=generator) * (frame - size)).floor()
    return Tubelets(
        centers=centers[:, None],
        linear=linear[:, None],
        patch_frame=torch.zeros(batch, 1, dtype=torch.int32),
        patch_box=torch.cat([corner, corner + size], 1).int()[:, None],
        shape=torch.randint(3, (batch, 1), generator=generator, dtype=torch.int32),
        edge=torch.zeros(batch, 1),
        opacity=torch.ones(batch, 1, num_frames),
        order=torch.zeros(batch, 1, dtype=torch.int32),
        height=height,
        width=width,
        max_patch_size=(math.ceil(0.625 * side),) * 2,
    )


@dataclass(frozen=True)
class ProbeTask:
    """Labelled clips.

    Attributes:
        clips: (N, 3, T, H, W) uint8.
        labels: (N,) int64, indices into MOTION_NAMES.
    """

    clips: Tensor
    labels: Tensor


def draw_probe_task(batches: Iterable[PairBatch], count: int, *, seed: int = 0) -> ProbeTask:
    """Labelled clips from batches of pairs: clip 1 gives the still frame, clip 2 the patch.

    Args:
        batches: At least `count` pairs, on the CPU; an iterator is left where the task was complete.
        count: Clips N wanted; the motions come as nearly equally often as N allows.
        seed: Seed of labels and motions.
    """
    generator = torch.Generator().manual_seed(seed)
    labels = (torch.arange(count) % len(MOTION_NAMES))[torch.randperm(count, generator=generator)]
    clips: list[Tensor] = []
    done = 0
    for batch in batches:
        rows = labels[done : done + len(batch.clip_1)]
        background, source = freeze(batch.clip_1[: len(rows)]), batch.clip_2[: len(rows)]
        num_frames, height, width = background.shape[2:]
        tubelets = motion_tubelets(rows, num_frames=num_frames, height=height, width=width, generator=generator)
        clips += tubelets.paste([background], tubelets.crop(source))
        done += len(rows)
        if done == count:
            break
    if done < count:
        raise ValueError(f"batches hold {done} pairs, count={count} are needed")
    return ProbeTask(torch.cat(clips), labels)


@dataclass(frozen=True)
class ProbeResult:
    """Accuracies on held-out clips, as shares.

    Attributes:
        linear: Of logistic regression.
        knn: Of the 10 nearest neighbours by cosine.
        chance: Of the commonest label.
    """

    linear: float
    knn: float
    chance: float


def motion_probe(encoder: nn.Module, train: ProbeTask, test: ProbeTask, batch_size: int = 64) -> ProbeResult:
    """Fit classifiers on standardised frozen features of one task and measure them on another.

    Args:
        encoder: (B, 3, T, H, W) normalised floats to (B, D).
        train: Clips to fit on.
        test: Clips of other videos.
        batch_size: Clips embedded at a time.
    """
    fit, judge = (embed(encoder, task.clips, batch_size).double().numpy() for task in (train, test))
    fit_labels, judge_labels = train.labels.numpy(), test.labels.numpy()
    classifiers = (
        LogisticRegression(C=0.1, max_iter=1000),
        KNeighborsClassifier(n_neighbors=min(10, len(fit)), metric="cosine"),
    )
    linear, knn = (
        make_pipeline(StandardScaler(), classifier).fit(fit, fit_labels).score(judge, judge_labels)
        for classifier in classifiers
    )
    chance = torch.bincount(test.labels).max().item() / len(test.labels)
    return ProbeResult(float(linear), float(knn), chance)
