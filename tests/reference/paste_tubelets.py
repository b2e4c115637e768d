"""Tubelet pasting in float64 NumPy: every pixel of every frame is looked at, one sample, clip and tubelet at a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


@dataclass
class Pasted:
    """The clips, (V, B, C, T, H, W), and the pixels, (V, B, T, H, W), that lie on the outline of a hard-edged tubelet.

    There the float32 and the float64 arithmetic may differ about what is inside.
    """

    clips: Array
    undecided: npt.NDArray[np.bool_]


def _distance(shape: int, x: Array, y: Array) -> Array:
    if shape == 0:
        return np.maximum(np.abs(x), np.abs(y))
    if shape == 1:
        return np.hypot(x, y)
    return np.abs(x) + np.abs(y)


def _sample(image: Array, u: Array, v: Array) -> Array:
    """Bilinear sample of (C, h, w) at texel coordinates, the border extended outwards."""
    _, height, width = image.shape
    left, top = np.floor(u), np.floor(v)
    result = np.zeros((image.shape[0], *u.shape))
    for dy in (0, 1):
        for dx in (0, 1):
            weight = np.abs(1 - dx - (u - left)) * np.abs(1 - dy - (v - top))
            column = np.clip(left + dx, 0, width - 1).astype(np.int64)
            row = np.clip(top + dy, 0, height - 1).astype(np.int64)
            result += weight * image[:, row, column]
    return result


def paste_tubelets(
    clips: Array,
    patches: Array,
    patch_size: npt.NDArray[np.int32],
    centers: Array,
    linear: Array,
    shape: npt.NDArray[np.int32],
    edge: Array,
    opacity: Array,
    order: npt.NDArray[np.int32],
    offsets: Array | None = None,
    byte_pixels: bool = False,
) -> Pasted:
    """Pastes onto (V, B, C, T, H, W); patches (B, M, ...) or (B, V, M, ...); the rest as the operator takes it.

    With `byte_pixels` every layer is rounded to 0..255, and alpha counts in 255ths.
    """
    clips = clips.astype(np.float64).copy()
    count, batch, channels, frames, height, width = clips.shape
    undecided = np.zeros((count, batch, frames, height, width), dtype=bool)
    py, px = np.meshgrid(np.arange(height) + 0.5, np.arange(width) + 0.5, indexing="ij")
    for v, b, t in np.ndindex(count, batch, frames):
        for m in np.argsort(order[b], kind="stable"):
            w, h = (int(side) for side in patch_size[b, m])
            matrix = linear[b, m, t].astype(np.float64)
            center = centers[b, m, t].astype(np.float64)
            if offsets is not None:
                center = center + offsets[b, v, m]
            strength = min(float(opacity[b, m, t]), 1.0)
            if w == 0 or h == 0 or not strength > 0 or not (np.isfinite(matrix).all() and np.isfinite(center).all()):
                continue
            if matrix[0, 0] * matrix[1, 1] == matrix[0, 1] * matrix[1, 0]:
                continue
            q = np.einsum("ij,jhw->ihw", np.linalg.inv(matrix), np.stack([px - center[0], py - center[1]]))
            distance = _distance(int(shape[b, m]), q[0] / (w / 2), q[1] / (h / 2))
            if edge[b, m] > 0:
                mask = np.clip((1 - distance) / float(edge[b, m]), 0, 1)
            else:
                mask = (distance < 1).astype(np.float64)
                undecided[v, b, t] |= np.abs(distance - 1) < 1e-5
            patch = (patches[b, v, m] if patches.ndim == 6 else patches[b, m])[:, :h, :w].astype(np.float64)
            if patch.shape[0] == channels + 1:
                alpha = patch[-1:] / (255 if byte_pixels else 1)
                patch = np.concatenate([patch[:-1] * alpha, alpha])
            else:
                patch = np.concatenate([patch, np.ones_like(patch[:1])])
            warped = _sample(patch, q[0] + w / 2 - 0.5, q[1] + h / 2 - 0.5) * (mask * strength)
            frame = clips[v, b, :, t] * (1 - warped[-1]) + warped[:-1]
            if byte_pixels:
                frame = np.floor(np.clip(frame, 0, 255) + 0.5)
            clips[v, b, :, t] = frame
    return Pasted(clips, undecided)
