"""Patch cropping in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def crop_patches(
    clip: npt.NDArray[Any],
    patch_frame: npt.NDArray[np.int32],
    patch_box: npt.NDArray[np.int32],
    size: tuple[int, int],
) -> npt.NDArray[Any]:
    """(B, C, T, H, W) to (B, M, C, *size), zeros outside the boxes."""
    batch, tubelets = patch_frame.shape
    patches = np.zeros((batch, tubelets, clip.shape[1], *size), dtype=clip.dtype)
    for b, m in np.ndindex(batch, tubelets):
        x0, y0, x1, y1 = patch_box[b, m]
        patches[b, m, :, : y1 - y0, : x1 - x0] = clip[b, :, patch_frame[b, m], y0:y1, x0:x1]
    return patches
