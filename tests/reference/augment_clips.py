"""augment_clips_ and sample_augmentation in plain NumPy: float64, step by step, one clip at a time."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from reference.sample_tubelets import MASK, integer, philox, uniform, unit
from tubeletx.augment import AugmentConfig

Floats = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.uint8]

FIRST_DRAW, DRAWS_PER_CLIP = 1 << 31, 32
TRIES, FLIP, AMOUNT, APPLIED = 10, 10, 11, 12

LUMA = np.array([0.299, 0.587, 0.114])


def resize_matrix(inside: int, outside: int) -> Floats:
    """(out, in) weights of a triangle that is widened where the result is smaller."""
    scale = inside / outside
    width = max(scale, 1.0)
    centers = (np.arange(outside) + 0.5) * scale
    distance = np.abs(np.arange(inside) + 0.5 - centers[:, None]) / width
    weights = np.maximum(1 - distance, 0)
    return weights / weights.sum(1, keepdims=True)


def resize(clip: Bytes, window: tuple[int, int, int, int], flip: bool, size: tuple[int, int]) -> Floats:
    """(T, H, W, 3) bytes to (T, *size, 3) levels that are not rounded."""
    x0, y0, x1, y1 = window
    shown = clip[:, y0:y1, x0:x1].astype(np.float64)
    rows, columns = resize_matrix(y1 - y0, size[0]), resize_matrix(x1 - x0, size[1])
    resized: Floats = np.einsum("yh,xw,thwc->tyxc", rows, columns, shown, optimize=True)
    return resized[:, :, ::-1] if flip else resized


def change_colors(clip: Bytes, factors: npt.NDArray[np.float32], normalization: tuple[float, ...]) -> Floats:
    """Brightness, contrast, saturation, hue and normalisation of (T, H, W, 3) bytes, one after the other."""
    brightness, contrast, saturation, hue = map(float, factors)
    colors = clip / 255.0
    mean_grey = (colors @ LUMA).mean()
    colors = colors * brightness
    colors = (colors - brightness * mean_grey) * contrast + brightness * mean_grey
    grey = (colors @ LUMA)[..., None]
    colors = grey + (colors - grey) * saturation
    to_yiq = np.array([LUMA, [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
    y, i, q = np.moveaxis(colors @ to_yiq.T, -1, 0)
    turned = (i + 1j * q) * np.exp(2j * np.pi * hue)
    colors = np.stack([y, turned.real, turned.imag], -1) @ np.linalg.inv(to_yiq).T
    result: Floats = (colors - np.array(normalization[:3])) / np.array(normalization[3:])
    return result


def draw(
    config: AugmentConfig, seed: int, sample_id: int, epoch: int, clip: int, height: int, width: int
) -> tuple[tuple[int, int, int, int], bool, list[float]]:
    """Window, flip and colour factors of one clip."""
    key = (seed & MASK, seed >> 32 & MASK)
    first = FIRST_DRAW + clip * DRAWS_PER_CLIP

    def words(index: int, start: int = first) -> tuple[int, ...]:
        return philox((sample_id & MASK, sample_id >> 32 & MASK, epoch, start + index), key)

    window = _window(config, [words(attempt) for attempt in range(TRIES)], height, width)
    start = FIRST_DRAW if config.same_color else first
    amount, applied = words(AMOUNT, start), words(APPLIED, start)
    factors = []
    strengths = (config.brightness, config.contrast, config.saturation)
    for word, chance, strength in zip(amount[:3], applied[:3], strengths, strict=True):
        drawn = uniform(word, max(0.0, 1 - strength), 1 + strength)
        factors.append(drawn if unit(chance) < config.jitter else 1.0)
    factors.append(uniform(amount[3], -config.hue, config.hue) if unit(applied[3]) < config.jitter else 0.0)
    if unit(words(FLIP, start)[1]) < config.grayscale:
        factors[2] = 0.0
    return window, unit(words(FLIP)[0]) < config.flip, factors


def _window(config: AugmentConfig, draws: list[tuple[int, ...]], height: int, width: int) -> tuple[int, int, int, int]:
    if config.area is None:
        return 0, 0, width, height
    low, high = (float(np.float32(math.log(ratio))) for ratio in config.ratio)
    for share, shape, x, y in draws:
        area = width * height * uniform(share, *config.area)
        ratio = math.exp(uniform(shape, low, high))
        w, h = (math.floor(math.sqrt(side) + 0.5) for side in (area * ratio, area / ratio))
        if 0 < w <= width and 0 < h <= height:
            x0, y0 = integer(x, width - w + 1), integer(y, height - h + 1)
            return x0, y0, x0 + w, y0 + h
    w = min(max(math.floor(height * config.ratio[1] + 0.5), 1), width)
    h = min(max(math.floor(width / config.ratio[0] + 0.5), 1), height)
    x0, y0 = (width - w) // 2, (height - h) // 2
    return x0, y0, x0 + w, y0 + h
