"""Exact tracks in float64 NumPy, point by point: what is painted there, and where that goes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
BACKGROUND = -1


@dataclass
class Scene:
    """One sample's tubelets, as the operator takes them."""

    patch_size: Array
    centers: Array
    linear: Array
    shape: npt.NDArray[np.int32]
    edge: Array
    opacity: Array
    order: npt.NDArray[np.int32]
    height: int
    width: int

    def mask(self, m: int, patch_place: Array) -> tuple[float, float]:
        """How strongly tubelet m covers there, opacity aside, and the distance from its outline in half sizes."""
        if (self.patch_size[m] < 1).any():
            return 0.0, np.inf
        u, v = np.abs(patch_place) / (self.patch_size[m] / 2)
        distance = (max(u, v), np.hypot(u, v), u + v)[self.shape[m]]
        if self.edge[m] > 0:
            return float(np.clip((1 - distance) / self.edge[m], 0, 1)), np.inf
        return float(distance < 1), abs(distance - 1)

    def in_patch(self, m: int, t: int, place: Array) -> Array | None:
        matrix = self.linear[m, t]
        if np.linalg.det(matrix) == 0 or not (np.isfinite(matrix).all() and np.isfinite(self.centers[m, t]).all()):
            return None
        return np.linalg.solve(matrix, place - self.centers[m, t])

    def strength(self, m: int, t: int, place: Array) -> tuple[float, float]:
        patch_place = self.in_patch(m, t, place)
        if patch_place is None:
            return 0.0, np.inf
        mask, margin = self.mask(m, patch_place)
        return mask * float(np.clip(self.opacity[m, t], 0, 1)), margin

    def shares(self, t: int, place: Array) -> tuple[dict[int, float], float]:
        """Share of each surface in the colour of a place, the uppermost first, and how near an outline is."""
        shares, left, nearest = {}, 1.0, np.inf
        for m in np.argsort(self.order, kind="stable")[::-1]:
            strength, margin = self.strength(m, t, place)
            shares[int(m)] = left * strength
            left, nearest = left * (1 - strength), min(nearest, margin)
        shares[BACKGROUND] = left
        return shares, nearest


def track_points(
    scene: Scene, points: Array, point_frame: npt.NDArray[np.int32], frames: npt.NDArray[np.int32]
) -> tuple[Array, Array, npt.NDArray[np.int32], Array]:
    """Places (N, S, 2), visibility (N, S) and owner (N,) of one sample; how near the nearest outline was, (N, S)."""
    count, targets = frames.shape
    places, visibility = np.empty((count, targets, 2)), np.zeros((count, targets))
    owner, nearest = np.empty(count, np.int32), np.empty((count, targets))
    clip = scene.centers.shape[1]
    for n, (place, start) in enumerate(zip(points, point_frame, strict=True)):
        shares, margin = scene.shares(start, place)
        owner[n] = max(shares, key=lambda surface: shares[surface])
        for s, t in enumerate(frames[n]):
            places[n, s], nearest[n, s] = place, margin
            if not 0 <= t < clip:
                continue
            if owner[n] != BACKGROUND:
                patch_place = scene.in_patch(owner[n], start, place)
                places[n, s] = scene.centers[owner[n], t] + scene.linear[owner[n], t] @ patch_place
            x, y = places[n, s]
            if not (0 <= x < scene.width and 0 <= y < scene.height):
                continue
            at_target, margin = scene.shares(t, places[n, s])
            visibility[n, s] = at_target[owner[n]]
            nearest[n, s] = min(nearest[n, s], margin, abs(x - scene.width), abs(y - scene.height), abs(x), abs(y))
    return places, visibility, owner, nearest
