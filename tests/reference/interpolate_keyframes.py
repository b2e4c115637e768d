"""Keyframe interpolation, one frame at a time in float64."""

import numpy as np


def interpolate_keyframes(
    frames: np.ndarray, values: np.ndarray, easing: np.ndarray | None, num_frames: int
) -> np.ndarray:
    """(N, K), (N, K, D) and (N, K - 1) to (N, T, D)."""
    rows, keys = frames.shape
    output = np.empty((rows, num_frames, values.shape[2]))
    for row in range(rows):
        for frame in range(num_frames):
            reached = np.flatnonzero(frames[row] <= frame)
            key = reached[-1] if len(reached) else 0
            start = values[row, key].astype(np.float64)
            output[row, frame] = start
            if len(reached) and key + 1 < keys:
                u = (frame - int(frames[row, key])) / (int(frames[row, key + 1]) - int(frames[row, key]))
                mode = 0 if easing is None else easing[row, key]
                way = (u, u * u, 1 - (1 - u) ** 2)[mode]
                output[row, frame] = start + way * (values[row, key + 1].astype(np.float64) - start)
    return output
