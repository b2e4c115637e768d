"""What a clip differs in besides its class, drawn from (seed, class, number) alone."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np

from tubeletx_train.rendered.manipulate.classes import CLASSES, ManipulateClass
from tubeletx_train.rendered.splits import OTHER_MOTION, TEST, TRAIN, begin_clip

# Where cameras stand, on the side that the arm's elbow does not hide: azimuth and elevation as MuJoCo has them, in
# degrees. Those that are tested by lie between those that are trained by.
_CAMERAS = {
    TRAIN: {
        "behind": (116, -35),
        "half_behind": (135, -20),
        "half_beside": (152, -33),
        "beside": (170, -22),
    },
    TEST: {"first_between": (126, -28), "second_between": (144, -27), "third_between": (161, -28)},
}
# Of the fifty places that metaworld has for a thing.
_PLACES = {TRAIN: range(40), TEST: range(40, 50)}
# Least and most of the way that a thing is moved, as a share of all of it.
_REACHES = {TRAIN: (0.75, 1.0), TEST: (0.8, 0.95)}
# Hues, in turns, that what is seen is tinted with.
_HUES = {TRAIN: ((0.0, 0.22), (0.36, 0.58), (0.72, 0.92)), TEST: ((0.24, 0.34), (0.60, 0.70), (0.94, 0.98))}
_TINTS = 16


@dataclass(frozen=True)
class ManipulateClip:
    """All that a clip is rendered from.

    Attributes:
        action: What is done.
        split: See `split_of`.
        group: Name of the place that the camera stands at, but for a little.
        capture: Which of a thing's captures is played.
        place: Which of the places that metaworld has for it.
        stretch: Where the thing's way begins and ends, as shares of all of it.
        azimuth: Of the camera at the first and at the last frame, degrees.
        elevation: Of the camera, degrees.
        distance: Of the camera from what it looks at, metres.
        target: What it looks at (x, y, z), metres.
        light: Brightness.
        tints: Red, green and blue that colours are multiplied with, for one kind of surface after the other.
    """

    action: ManipulateClass
    split: str
    group: str
    capture: int
    place: int
    stretch: tuple[float, float]
    azimuth: tuple[float, float]
    elevation: float
    distance: float
    target: tuple[float, float, float]
    light: float
    tints: tuple[tuple[float, float, float], ...]


def draw_clip(seed: int, label: int, number: int) -> ManipulateClip:
    """Draw a clip.

    Args:
        seed: Of the set.
        label: Index of its class.
        number: Of the clip among those of its class.
    """
    split, conditions, rng = begin_clip(seed, label, number)
    group = str(rng.choice(list(_CAMERAS[conditions])))
    standing, elevation = _CAMERAS[conditions][group]
    azimuth = standing + rng.uniform(-3, 3)
    pan = rng.uniform(-6, 6)
    reach = rng.uniform(*_REACHES[conditions])
    begin = rng.uniform(0, 1 - reach)
    x, y, z = (np.array([0.0, 0.72, 0.12]) + rng.uniform(-1, 1, 3) * (0.06, 0.06, 0.05)).tolist()
    return ManipulateClip(
        action=CLASSES[label],
        split=split,
        group=group,
        capture=int(split == OTHER_MOTION),
        place=int(rng.choice(_PLACES[conditions])),
        stretch=(float(begin), float(begin + reach)),
        azimuth=(azimuth - pan / 2, azimuth + pan / 2),
        elevation=elevation + rng.uniform(-2, 2),
        distance=rng.uniform(1.0, 1.3),
        target=(x, y, z),
        light=rng.uniform(0.9, 1.4),
        tints=tuple(_tint(rng, conditions) for _ in range(_TINTS)),
    )


def _tint(rng: np.random.Generator, held_out: str) -> tuple[float, float, float]:
    hues = _HUES[held_out]
    return colorsys.hsv_to_rgb(rng.uniform(*hues[rng.integers(len(hues))]), rng.uniform(0, 0.6), rng.uniform(0.6, 1))
