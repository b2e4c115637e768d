"""Renders clips of the gym set."""

from __future__ import annotations

from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from tubeletx_train.rendered.gym.backdrop import Backdrop, View
from tubeletx_train.rendered.gym.classes import Step
from tubeletx_train.rendered.gym.draw import Camera, GymClip
from tubeletx_train.rendered.gym.figure import Figure
from tubeletx_train.rendered.gym.motions import Cycle, Poses

_FIELD = 40.0  # degrees
_FINER = 2  # pixels that are drawn for one, along each side


class Stage:
    """Renders one clip after the other."""

    def __init__(self) -> None:
        """Loads the figure. Raises UsageError where pybullet is not installed."""
        self._figure = Figure()
        self._cycles: dict[str, Cycle] = {}

    def __enter__(self) -> Stage:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._figure.close()

    def poses(self, clip: GymClip, num_frames: int) -> tuple[Poses, list[Step]]:
        """The figure's pose in each frame, and the step of the action that it is of."""
        steps = clip.gym_class.steps
        progress = np.clip((np.arange(num_frames) / (num_frames - 1) - clip.begins) / clip.lasts, 0, 1) * len(steps)
        at = np.minimum(progress.astype(int), len(steps) - 1)
        parts = [
            self._step_poses(steps[index], clip.capture, progress[at == index] - index) for index in range(len(steps))
        ]
        joined = Poses(*(np.concatenate([getattr(p, name) for p in parts]) for name in ("heights", "turns", "hinges")))
        return joined, [steps[index] for index in at]

    def _step_poses(self, step: Step, capture: int, phases: npt.NDArray[np.float64]) -> Poses:
        shown = step.element.captures[capture]
        if shown.motion not in self._cycles:
            folder = self._figure.data / "data" / "motions"
            self._cycles[shown.motion] = Cycle(folder, shown.motion, shown.stretch)
        backwards = shown.backwards != bool(step.way)
        poses = self._cycles[shown.motion].at(1 - phases if backwards else phases)
        return poses.mirrored() if shown.mirrored else poses

    def render(self, clip: GymClip, num_frames: int, size: int) -> npt.NDArray[np.uint8]:
        """Frames (num_frames, size, size, 3) of a clip, RGB."""
        poses, steps = self.poses(clip, num_frames)
        backdrop = Backdrop.of(clip.floor, clip.wall)
        self._figure.dress(clip.shirt, clip.trousers, clip.skin)
        frames = np.empty((num_frames, size, size, 3), np.uint8)
        for index in range(num_frames):
            moment = index / (num_frames - 1)
            self._figure.place(clip.distractors, moment)
            self._figure.pose(poses, index, steps[index].element.heading + clip.heading)
            view = _view(clip.camera, moment)
            colors, shown = self._figure.draw(view, clip.light, size * _FINER)
            # Only what has edges is drawn finer; the patterns are smooth as they are read.
            seen, share = _mean(np.where(shown[..., None], colors, 0)), _mean(shown[..., None])
            frames[index] = (seen + (1 - share) * 255 * clip.light.walls * backdrop.draw(view, size)).round()
        return frames


def _mean(fine: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """What is drawn finer (S * 2, S * 2, C), at the size that it is drawn for."""
    rows, columns, channels = fine.shape
    mean: npt.NDArray[np.float64] = fine.reshape(rows // _FINER, _FINER, columns // _FINER, _FINER, channels).mean(
        (1, 3)
    )
    return mean


def _view(camera: Camera, moment: float) -> View:
    start, end = np.asarray(camera.target)
    target = start + moment * (end - start)
    azimuth = np.radians(camera.azimuth[0] + moment * (camera.azimuth[1] - camera.azimuth[0]))
    elevation = np.radians(camera.elevation)
    away = [-np.sin(azimuth) * np.cos(elevation), np.sin(elevation), np.cos(azimuth) * np.cos(elevation)]
    return View(target + camera.distance * np.asarray(away), target, _FIELD)
