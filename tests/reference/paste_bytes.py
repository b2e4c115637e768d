"""Tubelet pasting onto uint8 in NumPy integers: the definition of csrc/core/paste_bytes.h, written a second time.

Every pixel of every frame is looked at, one sample, clip, tubelet and frame at a time; coverage is in NumPy's float32.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Whole = npt.NDArray[np.int64]

_FULL = 65535
_F32 = np.float32


def _halves_up(value: float) -> int:
    return math.floor(value + 0.5)


class _Pose:
    """A patch of w x h texels in one frame, in fixed point."""

    def __init__(self, center: npt.NDArray[np.float64], linear: npt.NDArray[np.float64], size: tuple[int, int]) -> None:
        (xx, xy), (yx, yy) = linear
        determinant = xx * yy - xy * yx
        inverse = np.array([[yy, -xy], [-yx, xx]]) / determinant
        largest = max(1.0, float(np.abs(inverse).max()))
        shrinking = (math.ceil(largest) - 1).bit_length()
        place_bits = (max(size) + 2).bit_length()
        self.fraction = min(30 - place_bits, 27 - shrinking)
        if self.fraction < 16:
            self.fraction = min(36 - shrinking, 32)
        self.coarseness = max(self.fraction + place_bits - 30, 0)
        self.anchor = [int(np.clip(math.floor(value), -(2**24), 2**24)) for value in center]
        rest = [(anchor - value) + 0.5 for anchor, value in zip(self.anchor, center, strict=True)]
        unit = float(2**self.fraction)
        self.extent = [side << self.fraction for side in size]
        self.steps = [[_halves_up(entry * unit) for entry in row] for row in inverse.tolist()]
        starts = [_halves_up((across * rest[0] + down * rest[1]) * unit) for across, down in inverse.tolist()]
        self.visible = all(abs(start) <= 2**61 for start in starts)
        self.start = [start + extent // 2 for start, extent in zip(starts, self.extent, strict=True)]

    def places(self, height: int, width: int) -> tuple[Whole, Whole]:
        """Where every pixel lies in the patch, from its upper left corner."""
        row, column = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
        x, y = (
            across * (column - self.anchor[0]) + down * (row - self.anchor[1]) + start
            for (across, down), start in zip(self.steps, self.start, strict=True)
        )
        return x, y

    def from_center(self, place: Whole, axis: int) -> npt.NDArray[np.float32]:
        return ((place - self.extent[axis] // 2) >> self.coarseness).astype(_F32)


def _strength(pose: _Pose, x: Whole, y: Whole, shape: int, edge: np.float32, opacity: np.float32) -> Whole:
    """Of a layer at every pixel, in 65535ths; NumPy rounds float32 as the definition asks."""
    in_patch = (x >= 0) & (x < pose.extent[0]) & (y >= 0) & (y < pose.extent[1])
    full = _F32(_FULL) * min(opacity, _F32(1))
    px = np.where(in_patch, pose.from_center(x, 0), _F32(0)).astype(_F32)
    py = np.where(in_patch, pose.from_center(y, 1), _F32(0)).astype(_F32)
    half = [_F32(extent >> pose.coarseness) * _F32(0.5) for extent in pose.extent]
    across, down = px * (_F32(1) / half[0]), py * (_F32(1) / half[1])
    with np.errstate(divide="ignore", over="ignore"):
        slope = _F32(1) / edge if edge > 0 else _F32(np.inf)
    if np.isinf(slope):
        if shape == 0:
            inside = in_patch
        elif shape == 1:
            inside = across * across + down * down < 1
        else:
            limit, along, against = half[0] * half[1], px * half[1], py * half[0]
            inside = (-limit <= along + against) & (along + against < limit)
            inside &= (-limit <= along - against) & (along - against < limit)
        mask = inside.astype(_F32)
    else:
        across, down = np.abs(across), np.abs(down)
        distance = (np.maximum(across, down), np.sqrt(across * across + down * down), across + down)[shape]
        ramp = (_F32(1) - distance) * slope
        mask = np.where(distance < 1, np.minimum(ramp, _F32(1)), _F32(0)).astype(_F32)
    return np.where(in_patch, np.rint(mask * full), 0).astype(np.int64)


def _texels(patch: Bytes, has_alpha: bool) -> Whole:
    """(h + 2, w + 2, channels + 1): premultiplied, the alpha last, the border repeated."""
    texels = patch.astype(np.int64).transpose(1, 2, 0)
    if has_alpha:
        alpha = texels[..., -1:]
        product = texels[..., :-1] * alpha + 128
        texels = np.concatenate([(product + (product >> 8)) >> 8, alpha], -1)
    else:
        texels = np.concatenate([texels, np.full_like(texels[..., :1], 255)], -1)
    return np.pad(texels, ((1, 1), (1, 1), (0, 0)), mode="edge")


def _paste_layer(frame: Bytes, patch: Bytes, pose: _Pose, shape: int, edge: np.float32, opacity: np.float32) -> Bytes:
    """One patch, (C or C + 1, h, w), onto one frame, (C, H, W)."""
    channels, height, width = frame.shape
    has_alpha = patch.shape[0] == channels + 1
    x, y = pose.places(height, width)
    strength = _strength(pose, x, y, shape, edge, opacity)
    covered = strength > 0
    x, y, strength = x[covered], y[covered], strength[covered]
    x, y = x + (1 << pose.fraction >> 1), y + (1 << pose.fraction >> 1)
    column, row = x >> pose.fraction, y >> pose.fraction
    right, lower = (x >> (pose.fraction - 16)) & _FULL, (y >> (pose.fraction - 16)) & _FULL
    diagonal = right * lower >> 16
    weights = [np.maximum(_FULL - right - lower + diagonal, 0), right - diagonal, lower - diagonal, diagonal]
    texels = _texels(patch, has_alpha)
    sums = sum(weight[:, None] * (texels[row + k // 2, column + k % 2] - 128) for k, weight in enumerate(weights)) + (
        128 << 16
    )
    background = frame[:, covered].T.astype(np.int64)
    hard = not edge > 0 or np.isinf(_F32(1) / edge)
    if not hard or opacity < 1:
        sums = (sums + 256) >> 8
        scaled = sums * strength[:, None] >> 16
        mixed = scaled[:, :-1] + 127 + (background * 257 * (65281 - scaled[:, -1:]) >> 16)
        result = mixed + ((mixed >> 8) & 1) >> 8
    elif has_alpha:
        sums = (sums + (1 << 15)) >> 8
        result = sums[:, :-1] + (background * 257 * (65408 - sums[:, -1:]) >> 16) >> 8
    else:
        result = sums[:, :-1] + (1 << 15) >> 16
    assert result.min(initial=0) >= 0
    assert result.max(initial=255) == 255
    pasted = frame.copy()
    pasted[:, covered] = result.T
    return pasted


def paste_bytes(
    clips: Bytes,
    patches: Bytes,
    patch_size: npt.NDArray[np.int32],
    centers: npt.NDArray[np.float32],
    linear: npt.NDArray[np.float32],
    shape: npt.NDArray[np.int32],
    edge: npt.NDArray[np.float32],
    opacity: npt.NDArray[np.float32],
    order: npt.NDArray[np.int32],
    offsets: npt.NDArray[np.float32] | None = None,
) -> Bytes:
    """Pastes onto (V, B, C, T, H, W); patches (B, M, ...) or (B, V, M, ...); the rest as the operator takes it."""
    clips = clips.copy()
    count, batch, _, frames = clips.shape[:4]
    for v, b, t in np.ndindex(count, batch, frames):
        for m in np.argsort(order[b], kind="stable"):
            w, h = (int(side) for side in patch_size[b, m])
            matrix, center = linear[b, m, t].astype(np.float64), centers[b, m, t].astype(np.float64)
            if offsets is not None:
                center = center + offsets[b, v, m]
            if w == 0 or h == 0 or not opacity[b, m, t] > 0 or not np.isfinite([*matrix.flat, *center]).all():
                continue
            determinant = matrix[0, 0] * matrix[1, 1] - matrix[0, 1] * matrix[1, 0]
            if determinant == 0 or not np.abs(matrix / determinant).max() <= 2**20:
                continue
            pose = _Pose(center, matrix, (w, h))
            if pose.visible:
                patch = (patches[b, v, m] if patches.ndim == 6 else patches[b, m])[:, :h, :w]
                clips[v, b, :, t] = _paste_layer(
                    clips[v, b, :, t], patch, pose, int(shape[b, m]), edge[b, m], opacity[b, m, t]
                )
    return clips
