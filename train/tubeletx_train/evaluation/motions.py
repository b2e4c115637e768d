"""Labelled motions: tubelets made by hand, one a clip, each moving in one of twenty ways.

Many come in pairs that differ by one thing only, such as the sense of a turn, so that the frames of a clip in any order
say nothing about which of the two it is; but for "left then up" and "up then left", which pass different corners.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from tubeletx.tubelets import Tubelets

# Sides of a patch as shares of the frame's shorter side.
_SIDES = (0.375, 0.625)


@dataclass
class _Draws:
    """What the motions are made of, each (B, 1) unless said; lengths as shares of the frame's shorter side.

    Attributes:
        time: (1, T) from 0 to 1.
        travel: Length of a straight path.
        radius: Of a circle.
        turn: Radians that a spin turns through.
        phase: Where a circle or zig-zag begins, radians.
    """

    time: Tensor
    travel: Tensor
    radius: Tensor
    turn: Tensor
    phase: Tensor


def _along(draws: _Draws, progress: Tensor, *, x: int = 0, y: int = 0) -> dict[str, Tensor]:
    """A straight path about the place: progress 0 to 1 from one end to the other."""
    step = draws.travel * (progress - 0.5)
    return {"x": x * step, "y": y * step}


def _corner(draws: _Draws, *, x_first: bool) -> dict[str, Tensor]:
    """Left and up, one after the other."""
    first, second = (2 * draws.time).clamp(max=1), (2 * draws.time - 1).clamp(min=0)
    horizontal, vertical = (first, second) if x_first else (second, first)
    return {"x": draws.travel * (0.5 - horizontal), "y": draws.travel * (0.5 - vertical)}


def _circle(draws: _Draws, turns: int) -> dict[str, Tensor]:
    """Whole turns, clockwise on the screen if positive."""
    angle = draws.phase + turns * 2 * math.pi * draws.time
    return {"x": draws.radius * torch.cos(angle), "y": draws.radius * torch.sin(angle)}


def _swing(draws: _Draws, times: int) -> dict[str, Tensor]:
    """There and back so many times: twice as often is twice as fast over the same places."""
    return {"x": 0.5 * draws.travel * torch.cos(draws.phase + times * 2 * math.pi * draws.time)}


def _there_and_back(draws: _Draws) -> Tensor:
    return 1 - (2 * draws.time - 1).abs()


# Gives x and y displacement, rotation and scale by name; what is not named stays 0 (scale: 1).
Motion = Callable[[_Draws], dict[str, Tensor]]

MOTIONS: dict[str, Motion] = {
    "right": lambda d: _along(d, d.time, x=1),
    "left": lambda d: _along(d, d.time, x=-1),
    "down": lambda d: _along(d, d.time, y=1),
    "up": lambda d: _along(d, d.time, y=-1),
    "accelerating": lambda d: _along(d, d.time**3, x=1),
    "decelerating": lambda d: _along(d, 1 - (1 - d.time) ** 3, x=1),
    "out and back": lambda d: _along(d, _there_and_back(d), x=1),
    "back and out": lambda d: _along(d, 1 - _there_and_back(d), x=1),
    "left then up": lambda d: _corner(d, x_first=True),
    "up then left": lambda d: _corner(d, x_first=False),
    "one turn clockwise": lambda d: _circle(d, 1),
    "one turn anticlockwise": lambda d: _circle(d, -1),
    "two turns clockwise": lambda d: _circle(d, 2),
    "two turns anticlockwise": lambda d: _circle(d, -2),
    "spin clockwise": lambda d: {"rotation": d.turn * (d.time - 0.5)},
    "spin anticlockwise": lambda d: {"rotation": -d.turn * (d.time - 0.5)},
    "growing": lambda d: {"scale": 0.6 + 0.8 * d.time},
    "shrinking": lambda d: {"scale": 1.4 - 0.8 * d.time},
    "zig-zag": lambda d: _along(d, d.time, x=1) | {"y": 0.125 * torch.sign(torch.sin(6 * (2 * d.time - 1) + d.phase))},
    "still": lambda _: {},
}

MOTION_NAMES = tuple(MOTIONS)

# The same places at another speed.
SPEEDS: dict[str, Motion] = {"slow": lambda d: _swing(d, 1), "fast": lambda d: _swing(d, 2)}

# Pairs of motions that differ by one thing only.
MOTION_PAIRS = (
    ("right", "left"),
    ("down", "up"),
    ("accelerating", "decelerating"),
    ("out and back", "back and out"),
    ("left then up", "up then left"),
    ("one turn clockwise", "one turn anticlockwise"),
    ("two turns clockwise", "two turns anticlockwise"),
    ("one turn clockwise", "two turns clockwise"),
    ("one turn anticlockwise", "two turns anticlockwise"),
    ("spin clockwise", "spin anticlockwise"),
    ("growing", "shrinking"),
)


def motion_tubelets(
    labels: Tensor,
    *,
    num_frames: int,
    height: int,
    width: int,
    generator: torch.Generator,
    motions: Mapping[str, Motion] = MOTIONS,
) -> Tubelets:
    """One tubelet a clip that moves as its label says.

    Args:
        labels: (B,) int64, places in `motions`.
        num_frames: T.
        height: H, pixels.
        width: W, pixels.
        generator: Draws place, size, speed and shape, from the same distributions for every label.
        motions: The ways to move.
    """
    batch, side = len(labels), min(height, width)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(batch, *shape, generator=generator)

    draws = _Draws(
        time=torch.linspace(0, 1, num_frames)[None],
        travel=uniform(1 / 3, 2 / 3, 1),
        radius=uniform(0.15, 0.27, 1),
        turn=uniform(3.0, 6.0, 1),
        phase=uniform(0, 2 * math.pi, 1),
    )
    track = {name: torch.zeros(batch, num_frames) for name in ("x", "y", "rotation")}
    track["scale"] = torch.ones(batch, num_frames)
    for index, motion in enumerate(motions.values()):
        rows = labels == index
        for name, values in motion(draws).items():
            track[name][rows] = values.expand(batch, num_frames)[rows]

    frame = torch.tensor([width, height], dtype=torch.float32)
    place = uniform(1 / 3, 2 / 3, 1, 2) * frame
    centers = place + side * torch.stack([track["x"], track["y"]], -1)
    cos, sin = track["scale"] * track["rotation"].cos(), track["scale"] * track["rotation"].sin()
    linear = torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2)

    size = (uniform(*_SIDES, 2) * side).round().clamp(min=1)
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
        max_patch_size=(math.ceil(_SIDES[1] * side),) * 2,
    )
