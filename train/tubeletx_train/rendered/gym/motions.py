"""Poses of the figure over time, from the motion capture that the package pybullet carries.

A motion becomes a *cycle*: from one upright pose, the same for all motions, through the motion and back to it. So
cycles can follow each other in any order, and what is seen before, between and after them tells nothing.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation, Slerp

Array = npt.NDArray[np.float64]

# Columns of a frame of pybullet's humanoid motions: seconds to the next frame, the root's place (y up), then turns as
# quaternions (w, x, y, z) and angles of hinges, in this order.
_ROOT = "root"
_TURNS = {
    _ROOT: 4,
    "chest": 8,
    "neck": 12,
    "right_hip": 16,
    "right_ankle": 21,
    "right_shoulder": 25,
    "left_hip": 30,
    "left_ankle": 35,
    "left_shoulder": 39,
}
_HINGES = {"right_knee": 20, "right_elbow": 29, "left_knee": 34, "left_elbow": 43}
TURNS, HINGES = tuple(_TURNS), tuple(_HINGES)
_COLUMNS = 44

# The motion whose first frame is the upright pose, and the share of a cycle that leads out of it, and again into it.
_UPRIGHT = "jump"
_BLEND = 0.12


@dataclass(frozen=True)
class Poses:
    """N poses of the figure, held in place: it may rise and turn, never leave.

    Attributes:
        heights: (N,) of the root above the floor, metres.
        turns: (N, 9, 4) quaternions (x, y, z, w), of the joints `TURNS` in their order; x is ahead, y up, z right.
        hinges: (N, 4) angles of the joints `HINGES`, radians.
    """

    heights: Array
    turns: Array
    hinges: Array

    def __getitem__(self, which: slice | npt.NDArray[np.bool_]) -> Poses:
        return Poses(self.heights[which], self.turns[which], self.hinges[which])

    def mirrored(self) -> Poses:
        """Left and right exchanged."""
        turns = self.turns[:, [TURNS.index(_other_side(name)) for name in TURNS]]
        # A reflection of z turns about z as before, about x and y the other way.
        turns = turns * np.array([-1.0, -1.0, 1.0, 1.0])
        return Poses(self.heights, turns, self.hinges[:, [HINGES.index(_other_side(name)) for name in HINGES]])


def _other_side(joint: str) -> str:
    for side, other in (("left_", "right_"), ("right_", "left_")):
        if joint.startswith(side):
            return other + joint[len(side) :]
    return joint


class Cycle:
    """A motion from upright to upright, at any phase."""

    def __init__(self, folder: Path, motion: str, stretch: tuple[float, float]) -> None:
        """Reads a motion.

        Args:
            folder: Holds `humanoid3d_NAME.txt`.
            motion: Its name.
            stretch: Where the part that counts begins and ends, as shares of its time.
        """
        seconds, poses = _read(folder, motion)
        _, upright = _read(folder, _UPRIGHT)
        shares = seconds / seconds[-1]
        inside = (stretch[0] <= shares) & (shares <= stretch[1])
        upright, poses, shares = upright[:1], poses[inside], shares[inside]
        inner = _BLEND + (1 - 2 * _BLEND) * (shares - shares[0]) / (shares[-1] - shares[0])
        self._phases = np.concatenate([[0.0], inner, [1.0]])
        self._heights, turns, self._hinges = (
            np.concatenate([getattr(upright, name), getattr(poses, name), getattr(upright, name)])
            for name in ("heights", "turns", "hinges")
        )
        self._turns = [Slerp(self._phases, Rotation.from_quat(turns[:, joint])) for joint in range(len(TURNS))]

    def at(self, phases: Array) -> Poses:
        """The poses at phases (N,) in [0, 1]."""
        heights = np.interp(phases, self._phases, self._heights)
        turns = np.stack([turn(phases).as_quat() for turn in self._turns], axis=1)
        hinges = [np.interp(phases, self._phases, angles) for angles in self._hinges.T]
        return Poses(heights, turns, np.stack(hinges, axis=1))


def _read(folder: Path, motion: str) -> tuple[Array, Poses]:
    """Seconds (N,) of a motion's frames since the first, and their poses."""
    content = json.loads((folder / f"humanoid3d_{motion}.txt").read_text(encoding="utf-8"))
    frames = np.asarray(content["Frames"], np.float64)
    if frames.ndim != 2 or frames.shape[1] != _COLUMNS:
        raise ValueError(f"{motion}: got frames of shape {frames.shape}, needs (N, {_COLUMNS})")
    seconds = np.concatenate([[0.0], np.cumsum(frames[:-1, 0])])
    turns = np.stack([frames[:, [place + 1, place + 2, place + 3, place]] for place in _TURNS.values()], axis=1)
    return seconds, Poses(frames[:, 2], turns, frames[:, list(_HINGES.values())])
