"""What a clip differs in besides its class, drawn from (seed, class, number) alone."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tubeletx_train.rendered.gym.classes import CLASSES, GymClass
from tubeletx_train.rendered.splits import OTHER_MOTION, TEST, TRAIN, begin_clip

Color = tuple[float, float, float]  # red, green, blue in [0, 1]
Pattern = Literal["plain", "checker", "stripes", "clouds"]
Prop = Literal["ball", "box", "capsule"]

# Where cameras stand: degrees to the left of facing the stage, and above it. Those that are tested by lie between
# those that are trained by, never at one of them.
_CAMERAS = {
    TRAIN: {
        "far_left_low": (-44, 4),
        "far_left_high": (-40, 24),
        "left": (-14, 15),
        "right": (14, 5),
        "far_right_low": (40, 8),
        "far_right_high": (44, 20),
    },
    TEST: {"half_left": (-27, 10), "middle": (0, 20), "half_right": (27, 14)},
}
# Share of the clip that the action lasts, whatever it is: how long or how fast does not tell how often.
_LASTS = {TRAIN: (0.55, 0.7, 0.85, 1.0), TEST: (0.62, 0.78, 0.92)}
# Hues, in turns, of clothes, floor and wall.
_HUES = {TRAIN: ((0.0, 0.22), (0.36, 0.58), (0.72, 0.92)), TEST: ((0.24, 0.34), (0.60, 0.70), (0.94, 0.98))}


@dataclass(frozen=True)
class Surface:
    """How the floor or the wall looks.

    Attributes:
        pattern: Of the two colours.
        colors: Two.
        period: Length after which the pattern repeats, metres.
        seed: Of what is drawn in the pattern.
    """

    pattern: Pattern
    colors: tuple[Color, Color]
    period: float
    seed: int


@dataclass(frozen=True)
class Camera:
    """Where it is and how it moves, evenly, during the clip.

    Attributes:
        azimuth: Degrees to the left, at the first and at the last frame.
        elevation: Degrees above the stage.
        distance: From what it looks at, metres.
        target: What it looks at in the first and in the last frame (x, y, z), metres.
    """

    azimuth: tuple[float, float]
    elevation: float
    distance: float
    target: tuple[tuple[float, float, float], tuple[float, float, float]]


@dataclass(frozen=True)
class Light:
    """The light.

    Attributes:
        direction: Towards it (x, y, z).
        ambient: Share of the light that comes from everywhere.
        diffuse: Share that comes from there.
        walls: Brightness of floor and wall.
    """

    direction: tuple[float, float, float]
    ambient: float
    diffuse: float
    walls: float


@dataclass(frozen=True)
class Distractor:
    """A thing that has nothing to do with the action.

    Attributes:
        prop: What it is.
        color: Of it.
        places: At the first and at the last frame, (x, z) on the floor, metres.
    """

    prop: Prop
    color: Color
    places: tuple[tuple[float, float], tuple[float, float]]


@dataclass(frozen=True)
class GymClip:
    """All that a clip is rendered from.

    Attributes:
        gym_class: What is done.
        split: See `split_of`.
        group: Name of the place that the camera stands at, but for a little.
        capture: Which of an element's captures is played.
        begins: When the action begins, as a share of the clip.
        lasts: How long it lasts, likewise.
        heading: Degrees that the figure is turned besides its element's heading.
        camera: See there.
        light: See there.
        floor: See there.
        wall: See there.
        shirt: Colour.
        trousers: Colour.
        skin: Colour.
        distractors: None to three.
    """

    gym_class: GymClass
    split: str
    group: str
    capture: int
    begins: float
    lasts: float
    heading: float
    camera: Camera
    light: Light
    floor: Surface
    wall: Surface
    shirt: Color
    trousers: Color
    skin: Color
    distractors: tuple[Distractor, ...]


def draw_clip(seed: int, label: int, number: int) -> GymClip:
    """Draw a clip.

    Args:
        seed: Of the set.
        label: Index of its class.
        number: Of the clip among those of its class.
    """
    split, conditions, rng = begin_clip(seed, label, number)
    lasts = float(rng.choice(_LASTS[conditions]))
    group = str(rng.choice(list(_CAMERAS[conditions])))
    azimuth, elevation = _CAMERAS[conditions][group]
    return GymClip(
        gym_class=CLASSES[label],
        split=split,
        group=group,
        capture=int(split == OTHER_MOTION),
        begins=float(rng.uniform(0, 1 - lasts)),
        lasts=lasts,
        heading=float(rng.uniform(-10, 10)),
        camera=_camera(rng, azimuth, elevation),
        light=_light(rng),
        floor=_surface(rng, conditions, period=2.0),
        wall=_surface(rng, conditions, period=3.0),
        shirt=_color(rng, conditions, saturation=(0.55, 1.0), value=(0.55, 1.0)),
        trousers=_color(rng, conditions, saturation=(0.3, 1.0), value=(0.2, 0.8)),
        skin=colorsys.hsv_to_rgb(rng.uniform(0.03, 0.1), rng.uniform(0.25, 0.6), rng.uniform(0.4, 0.95)),
        distractors=tuple(_distractor(rng, azimuth, conditions) for _ in range(rng.integers(0, 4))),
    )


def _camera(rng: np.random.Generator, azimuth: float, elevation: float) -> Camera:
    start = azimuth + rng.uniform(-3, 3)
    pan = rng.uniform(-8, 8)
    middle = np.array([0.0, 0.9, 0.0]) + rng.uniform(-1, 1, 3) * (0.22, 0.12, 0.22)
    drift = rng.uniform(-0.12, 0.12, 3)
    return Camera(
        azimuth=(start - pan / 2, start + pan / 2),
        elevation=elevation + rng.uniform(-2, 2),
        distance=rng.uniform(2.45, 3.0),
        target=(_triple(middle - drift), _triple(middle + drift)),
    )


def _light(rng: np.random.Generator) -> Light:
    around = np.radians(rng.uniform(-80, 80))
    return Light(
        direction=(float(np.sin(around)), rng.uniform(0.6, 1.6), float(np.cos(around))),
        ambient=rng.uniform(0.4, 0.65),
        diffuse=rng.uniform(0.3, 0.6),
        walls=rng.uniform(0.7, 1.0),
    )


def _surface(rng: np.random.Generator, held_out: str, period: float) -> Surface:
    pattern: Pattern = rng.choice(["plain", "checker", "stripes", "clouds"])
    first, second = (_color(rng, held_out, saturation=(0.05, 0.5), value=(0.5, 1.0)) for _ in range(2))
    # Two colours that lie nearer together than they were drawn: the figure stands out from what is around it.
    mixed = _triple((np.array(first) + np.array(second)) / 2)
    return Surface(pattern, (first, mixed), period * rng.uniform(0.6, 1.4), int(rng.integers(2**31)))


def _distractor(rng: np.random.Generator, azimuth: float, held_out: str) -> Distractor:
    """Behind or beside the figure as the camera sees it, standing still or crossing the floor."""
    angle = np.radians(azimuth + 180 + rng.uniform(-105, 105))
    place = rng.uniform(1.2, 2.2) * np.array([np.sin(angle), np.cos(angle)])
    way = rng.uniform(-0.6, 0.6, 2) * rng.integers(0, 2)
    return Distractor(
        prop=rng.choice(["ball", "box", "capsule"]),
        color=_color(rng, held_out, saturation=(0.3, 1.0), value=(0.3, 1.0)),
        places=(_pair(place - way / 2), _pair(place + way / 2)),
    )


def _color(
    rng: np.random.Generator, held_out: str, saturation: tuple[float, float], value: tuple[float, float]
) -> Color:
    hues = _HUES[held_out]
    hue = rng.uniform(*hues[rng.integers(len(hues))])
    return colorsys.hsv_to_rgb(hue, rng.uniform(*saturation), rng.uniform(*value))


def _triple(values: np.ndarray) -> tuple[float, float, float]:
    x, y, z = values.tolist()
    return x, y, z


def _pair(values: np.ndarray) -> tuple[float, float]:
    x, z = values.tolist()
    return x, z
