"""Smoothed paths with SciPy."""

import numpy as np
from scipy import ndimage


def downsample_indices(num_frames: int, num_points: int) -> np.ndarray:
    """Which point stands for each frame."""
    if num_frames == 1:
        return np.zeros(1, dtype=np.int64)
    return np.array([(2 * t * (num_points - 1) + num_frames - 1) // (2 * (num_frames - 1)) for t in range(num_frames)])


def smooth_path(
    points: np.ndarray, sigma: float, extent: np.ndarray | None, offset: np.ndarray | None, num_frames: int
) -> np.ndarray:
    """(N, P, D), with extent and offset (N, D), to (N, T, D) in float64."""
    path = points.astype(np.float64)
    if sigma > 0:
        path = ndimage.gaussian_filter1d(path, sigma, axis=1, mode="reflect", truncate=4.0)
    if extent is not None:
        low, high = path.min(axis=1, keepdims=True), path.max(axis=1, keepdims=True)
        span = high - low
        path = np.where(span > 0, (path - low) / np.where(span > 0, span, 1), 0)
        path = path * extent[:, None]
    if offset is not None:
        path = path + offset[:, None]
    return path[:, downsample_indices(num_frames, points.shape[1])]
