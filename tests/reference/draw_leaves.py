"""Dead leaves in NumPy and float64: every leaf looks at every pixel of every frame, the foremost first."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reference.sample_tubelets import MASK, integer, philox, uniform, unit

Array = npt.NDArray[np.float64]
GOLDEN = 0x9E3779B97F4A7C15
LEAF_BLOCKS, PALETTE, CAMERA = 16, 0, 2
SIZE, PLACE, CURVES, COLOURS, CELL = 0, 1, 2, 6, 8
RECTANGLE, ELLIPSE, RHOMBUS = 0, 1, 2


def mix_bits(value: int) -> int:
    """The finaliser of SplitMix64."""
    value &= (1 << 64) - 1
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 % (1 << 64)
    value = (value ^ value >> 27) * 0x94D049BB133111EB % (1 << 64)
    return value ^ value >> 31


def spline(control: list[float], frame: int, num_frames: int) -> float:
    """A segment of a uniform cubic B-spline, through the clip."""
    u = frame / (num_frames - 1) if num_frames > 1 else 0.5
    matrix = np.array([[1, 4, 1, 0], [-3, 0, 3, 0], [3, -6, 3, 0], [-1, 3, -3, 1]]) / 6
    return float(np.array([1, u, u**2, u**3]) @ matrix @ np.array(control))


def corner(x: Array, y: Array, seed: int) -> npt.NDArray[np.int64]:
    x, y = ((cell % 65536).astype(np.uint32) for cell in (x, y))
    mixed = x * np.uint32(0x9E3779B1) ^ y * np.uint32(0x85EBCA77) ^ np.uint32(seed)
    mixed = (mixed ^ mixed >> np.uint32(15)) * np.uint32(0x2C1B3C6D)
    mixed = (mixed ^ mixed >> np.uint32(12)) * np.uint32(0x297A2D39)
    return (mixed >> np.uint32(24)).astype(np.int64)


def noise(u: Array, v: Array, seed: int) -> Array:
    """Value noise, at places in cells."""
    x, y = np.floor(u), np.floor(v)
    s, t = (way * way * (3 - 2 * way) for way in (u - x, v - y))
    top = corner(x, y, seed) * (1 - s) + corner(x + 1, y, seed) * s
    bottom = corner(x, y + 1, seed) * (1 - s) + corner(x + 1, y + 1, seed) * s
    return top * (1 - t) + bottom * t


@dataclass
class Drawn:
    """A clip, (T, H, W, 3), and the pixels, (T, H, W), that no outline passes close by."""

    clip: Array
    clear: npt.NDArray[np.bool_]


def draw_leaves(
    sample_id: int,
    seed: int,
    epoch: int,
    num_frames: int,
    height: int,
    width: int,
    num_leaves: int,
    radius: tuple[float, float],
    motion: float,
    camera: float,
    turn: float,
    growth: float,
) -> Drawn:
    """One sample."""
    key = mix_bits(seed + GOLDEN)
    shorter = min(height, width)
    py, px = np.meshgrid(np.arange(height) + 0.5, np.arange(width) + 0.5, indexing="ij")

    def block(draw: int) -> tuple[int, ...]:
        return philox((sample_id & MASK, sample_id >> 32 & MASK, epoch, draw), (key & MASK, key >> 32))

    def curve(draw: int, reach: float) -> list[float]:
        return [uniform(word, -reach, reach) for word in block(draw)]

    shade, rest = block(PALETTE), block(PALETTE + 1)
    clip_tint = [integer(word, 49) - 24 for word in shade[:3]]
    darkest = integer(shade[3], 64)
    span = 128 + integer(rest[0], 128 - darkest)
    views = [curve(CAMERA + axis, camera * shorter) for axis in range(2)]
    clip = np.zeros((num_frames, height, width, 3))
    bare, clear = np.ones((num_frames, height, width), bool), np.ones((num_frames, height, width), bool)

    for number in range(num_leaves + 1):
        backdrop = number == num_leaves
        first = LEAF_BLOCKS * (1 if backdrop else 2 + number)
        sizes, places = block(first + SIZE), block(first + PLACE)
        inverse = [1 / (share * shorter) ** 2 for share in radius]
        r = shorter / 2 if backdrop else (inverse[0] + unit(sizes[0]) * (inverse[1] - inverse[0])) ** -0.5
        ratio = math.exp(uniform(sizes[1], -0.5, 0.5))
        shape, angle = integer(sizes[2], 3), uniform(sizes[3], 0, 360)
        speed = motion * shorter * unit(places[2]) ** 2
        margin = shorter / 8
        home = [uniform(places[axis], -margin, (width, height)[axis] + margin) for axis in range(2)]
        curves = [curve(first + CURVES + i, reach) for i, reach in enumerate((speed, speed, turn, growth))]
        if backdrop:
            home, angle, curves = [width / 2, height / 2], 0.0, [[0.0] * 4] * 4
        tints, levels = block(first + COLOURS), block(first + COLOURS + 1)
        tint = np.array([own + integer(word, 65) - 32 for own, word in zip(clip_tint, tints, strict=False)])
        level = darkest + integer(levels[0], span)
        colours = [np.clip(grey + tint, 0, 255) for grey in (level, level + integer(levels[1], 129) - 64)]
        contrast = 1 + integer(levels[3], 4)
        cells = block(first + CELL)
        side, stretch = r * uniform(cells[0], 0.125, 1), math.exp(uniform(cells[1], -1, 1))
        cell = max(side * stretch, 4), max(side / stretch, 4)

        for t in range(num_frames):
            x, y = (home[axis] + spline(curves[axis], t, num_frames) + spline(views[axis], t, num_frames)
                    for axis in range(2))  # fmt: skip
            scale = math.exp(spline(curves[3], t, num_frames))
            theta = math.radians(angle + spline(curves[2], t, num_frames))
            along = (math.cos(theta) * (px - x) + math.sin(theta) * (py - y)) / scale
            down = (-math.sin(theta) * (px - x) + math.cos(theta) * (py - y)) / scale
            a, b = np.abs(along) / (r * ratio), np.abs(down) / (r / ratio)
            distance = {RECTANGLE: np.maximum(a, b), ELLIPSE: np.hypot(a, b), RHOMBUS: a + b}[shape]
            covered = bare[t] & (np.full_like(bare[t], True) if backdrop else distance < 1)
            if not backdrop:
                clear[t] &= ~bare[t] | (np.abs(distance - 1) * r > 1e-3)
            u, v = along / cell[0], down / cell[1]
            value = sum(
                weight * noise(u * 2**octave, v * 2**octave, (tints[3] + octave * 0x632BE5AB) & MASK)
                for octave, weight in enumerate((146 / 256, 73 / 256, 37 / 256))
            )
            share = np.clip((value - 128) * contrast + 128, 0, 255)[..., None] / 255
            clip[t][covered] = (colours[0] * (1 - share) + colours[1] * share)[covered]
            bare[t] &= ~covered
    return Drawn(clip, clear)
