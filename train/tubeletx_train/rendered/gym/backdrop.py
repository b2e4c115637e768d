"""The room behind the figure: a round floor and a wall about it, with patterns, drawn pixel by pixel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter, map_coordinates

from tubeletx_train.rendered.gym.draw import Surface

Array = npt.NDArray[np.float64]

RADIUS = 5.0  # of the wall about the figure, metres
_TEXELS = 128
_SHADOW_RADIUS = 0.35  # metres
_SHADOW = 0.45  # share of the light that is missing under the figure


@dataclass(frozen=True)
class View:
    """A camera at one moment.

    Attributes:
        eye: Where it is (x, y, z), metres.
        target: What it looks at.
        field: Angle that the picture spans, degrees.
    """

    eye: Array
    target: Array
    field: float

    def rays(self, size: int) -> Array:
        """Directions (size, size, 3) that the pixels' centres look in, not of unit length."""
        ahead = self.target - self.eye
        ahead = ahead / np.linalg.norm(ahead)
        right = np.cross(ahead, [0.0, 1.0, 0.0])
        right /= np.linalg.norm(right)
        up = np.cross(right, ahead)
        across = ((np.arange(size) + 0.5) / size * 2 - 1) * np.tan(np.radians(self.field) / 2)
        rays: Array = ahead + across[:, None] * right - across[:, None, None] * up
        return rays


def texture(surface: Surface) -> Array:
    """Colours (128, 128, 3) of one period of a surface, which continues at its borders."""
    rng = np.random.default_rng(surface.seed)
    place = np.arange(_TEXELS) * 4 // _TEXELS
    share: Array = np.zeros((_TEXELS, _TEXELS))
    if surface.pattern == "checker":
        share += (place[:, None] + place) % 2
    elif surface.pattern == "stripes":
        share += place % 2
    elif surface.pattern == "clouds":
        noise = gaussian_filter(rng.standard_normal((_TEXELS, _TEXELS)), _TEXELS / 16, mode="wrap")
        share += (noise - noise.min()) / np.ptp(noise)
    first, second = np.asarray(surface.colors)
    colors: Array = first + share[..., None] * (second - first)
    return colors


@dataclass(frozen=True)
class Backdrop:
    """The room.

    Attributes:
        floor: Colours of one period of the floor.
        wall: Colours of one period of the wall.
        floor_period: Metres.
        wall_period: Metres.
    """

    floor: Array
    wall: Array
    floor_period: float
    wall_period: float

    @classmethod
    def of(cls, floor: Surface, wall: Surface) -> Backdrop:
        """The room with these surfaces."""
        return cls(texture(floor), texture(wall), floor.period, wall.period)

    def draw(self, view: View, size: int) -> Array:
        """Colours (size, size, 3) in [0, 1] of what a camera within the wall sees."""
        rays, eye = view.rays(size), view.eye
        with np.errstate(divide="ignore"):
            to_floor = np.where(rays[..., 1] < 0, -eye[1] / rays[..., 1], np.inf)
        # The wall is a cylinder about the y axis: the larger root, as the camera is within.
        flat, start = rays[..., [0, 2]], eye[[0, 2]]
        a = (flat**2).sum(-1)
        b = flat @ start
        to_wall = (-b + np.sqrt(b**2 + a * (RADIUS**2 - start @ start))) / a
        on_floor = to_floor < to_wall
        x, y, z = np.moveaxis(eye + np.minimum(to_floor, to_wall)[..., None] * rays, -1, 0)
        # The wall's pattern begins where cameras stand, behind them.
        around = np.arctan2(x, -z) * RADIUS
        colors = np.empty((size, size, 3))
        for part, pattern, period, first, second in (
            (on_floor, self.floor, self.floor_period, z, x),
            (~on_floor, self.wall, self.wall_period, y, around),
        ):
            places = np.stack([first[part], second[part]]) * (_TEXELS / period)
            for channel in range(3):
                colors[part, channel] = map_coordinates(pattern[..., channel], places, order=1, mode="grid-wrap")
        near = np.where(on_floor, np.exp(-(x**2 + z**2) / (2 * _SHADOW_RADIUS**2)), 0.0)
        return colors * (1 - _SHADOW * near)[..., None]
