"""The figure and the things beside it, rendered by pybullet's software renderer."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from tubeletx_train.common.errors import UsageError
from tubeletx_train.rendered.gym.backdrop import View
from tubeletx_train.rendered.gym.draw import Color, Distractor, Light, Prop
from tubeletx_train.rendered.gym.motions import HINGES, TURNS, Poses

# Of pybullet's humanoid: links of the joints that turn, and links that are seen, by what they wear.
_LINKS = {
    "chest": 1,
    "neck": 2,
    "right_hip": 3,
    "right_knee": 4,
    "right_ankle": 5,
    "right_shoulder": 6,
    "right_elbow": 7,
    "left_hip": 9,
    "left_knee": 10,
    "left_ankle": 11,
    "left_shoulder": 12,
    "left_elbow": 13,
}
_SHIRT, _TROUSERS, _SKIN = (1, 6, 12), (0, 3, 4, 9, 10), (2, 5, 7, 8, 11, 13, 14)
_SCALE = 0.25  # of the model, to a height of 1.6 metres
_NEAR, _FAR = 0.1, 20.0

# Height of a prop's middle above the floor, metres.
_PROPS: dict[Prop, float] = {"ball": 0.22, "box": 0.2, "capsule": 0.4}
_AWAY = (0.0, -100.0, 0.0)
_MOST_PROPS = 3  # of one kind in one clip


def import_pybullet() -> tuple[Any, Path]:
    """The package pybullet, and the folder of its data. Raises UsageError where it is missing."""
    try:
        with _silent():
            import pybullet
            import pybullet_data
    except ImportError as error:
        raise UsageError(
            "the gym set is rendered by the package pybullet, which is not installed: pip install 'tubeletx[render]'"
        ) from error
    return pybullet, Path(pybullet_data.getDataPath())


@contextmanager
def _silent() -> Iterator[None]:
    """Keeps off the terminal what pybullet's library prints: its build date, and remarks on its own models."""
    saved = [os.dup(descriptor) for descriptor in (1, 2)]
    nothing = os.open(os.devnull, os.O_WRONLY)
    try:
        for descriptor in (1, 2):
            os.dup2(nothing, descriptor)
        yield
    finally:
        for descriptor, copy in zip((1, 2), saved, strict=True):
            os.dup2(copy, descriptor)
            os.close(copy)
        os.close(nothing)


class Figure:
    """A world of pybullet with the figure and some props in it."""

    def __init__(self) -> None:
        """Loads it. Raises UsageError where pybullet is not installed."""
        self._bullet, self.data = import_pybullet()
        self._world = self._bullet.connect(self._bullet.DIRECT)
        with _silent():
            self._body = self._bullet.loadURDF(
                str(self.data / "humanoid" / "humanoid.urdf"),
                globalScaling=_SCALE,
                useFixedBase=True,
                flags=self._bullet.URDF_MAINTAIN_LINK_ORDER,
                physicsClientId=self._world,
            )
        self._props = {prop: [self._make(prop) for _ in range(_MOST_PROPS)] for prop in _PROPS}

    def close(self) -> None:
        """Ends the world."""
        if self._bullet.isConnected(self._world):
            self._bullet.disconnect(self._world)

    def __enter__(self) -> Figure:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _make(self, prop: Prop) -> int:
        bullet, height = self._bullet, _PROPS[prop]
        shape = {
            "ball": {"shapeType": bullet.GEOM_SPHERE, "radius": height},
            "box": {"shapeType": bullet.GEOM_BOX, "halfExtents": [height] * 3},
            "capsule": {
                "shapeType": bullet.GEOM_CAPSULE,
                "radius": 0.12,
                "length": 2 * (height - 0.12),
                "visualFrameOrientation": bullet.getQuaternionFromEuler([np.pi / 2, 0, 0]),
            },
        }[prop]
        visual = bullet.createVisualShape(physicsClientId=self._world, **shape)
        body: int = bullet.createMultiBody(baseVisualShapeIndex=visual, basePosition=_AWAY, physicsClientId=self._world)
        return body

    def dress(self, shirt: Color, trousers: Color, skin: Color) -> None:
        """Give the figure its colours."""
        for links, color in ((_SHIRT, shirt), (_TROUSERS, trousers), (_SKIN, skin)):
            for link in links:
                self._paint(self._body, link, color)

    def _paint(self, body: int, link: int, color: Color) -> None:
        self._bullet.changeVisualShape(body, link, rgbaColor=[*color, 1], physicsClientId=self._world)

    def pose(self, poses: Poses, frame: int, heading: float) -> None:
        """Put the figure into one of some poses, turned to its left by so many degrees."""
        bullet = self._bullet
        turned = bullet.getQuaternionFromEuler([0, np.radians(heading), 0])
        _, root = bullet.multiplyTransforms([0, 0, 0], turned, [0, 0, 0], poses.turns[frame, 0])
        bullet.resetBasePositionAndOrientation(
            self._body, [0, poses.heights[frame], 0], root, physicsClientId=self._world
        )
        for joint, turn in zip(TURNS[1:], poses.turns[frame, 1:], strict=True):
            bullet.resetJointStateMultiDof(self._body, _LINKS[joint], turn, physicsClientId=self._world)
        for joint, angle in zip(HINGES, poses.hinges[frame], strict=True):
            bullet.resetJointStateMultiDof(self._body, _LINKS[joint], [angle], physicsClientId=self._world)

    def place(self, distractors: Sequence[Distractor], moment: float) -> None:
        """Put the props where they are at a moment in [0, 1] of the clip; all others leave."""
        free = {prop: list(bodies) for prop, bodies in self._props.items()}
        for distractor in distractors:
            body = free[distractor.prop].pop()
            start, end = np.asarray(distractor.places)
            x, z = start + moment * (end - start)
            self._move(body, (x, _PROPS[distractor.prop], z))
            self._paint(body, -1, distractor.color)
        for body in (body for bodies in free.values() for body in bodies):
            self._move(body, _AWAY)

    def _move(self, body: int, place: Sequence[float]) -> None:
        self._bullet.resetBasePositionAndOrientation(body, place, [0, 0, 0, 1], physicsClientId=self._world)

    def draw(self, view: View, light: Light, size: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
        """Colours (size, size, 3) as a camera sees them, and which pixels (size, size) show the figure or a prop."""
        bullet = self._bullet
        seen = bullet.getCameraImage(
            size,
            size,
            bullet.computeViewMatrix(view.eye, view.target, [0, 1, 0]),
            bullet.computeProjectionMatrixFOV(view.field, 1, _NEAR, _FAR),
            renderer=bullet.ER_TINY_RENDERER,
            lightDirection=light.direction,
            lightAmbientCoeff=light.ambient,
            lightDiffuseCoeff=light.diffuse,
            lightSpecularCoeff=0.05,
            shadow=0,
            physicsClientId=self._world,
        )
        colors = np.asarray(seen[2], np.uint8).reshape(size, size, 4)[..., :3]
        return colors, np.asarray(seen[4]).reshape(size, size) >= 0
