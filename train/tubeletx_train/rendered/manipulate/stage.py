"""Renders clips of the manipulate set."""

from __future__ import annotations

from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from tubeletx_train.common.errors import UsageError
from tubeletx_train.rendered.manipulate.actions import Scene, import_metaworld
from tubeletx_train.rendered.manipulate.classes import ManipulateClass
from tubeletx_train.rendered.manipulate.draw import ManipulateClip

_FINER = 2  # pixels that are drawn for one, along each side
_MOST_SCENES = 2  # that are kept: those of one class


def progress(action: ManipulateClass, stretch: tuple[float, float], num_frames: int) -> npt.NDArray[np.float64]:
    """How far the thing has moved in each frame, as a share of its way."""
    ends = np.array([float(action.order[0]), *(1.0 - way for way in action.order)])
    shares = np.interp(np.linspace(0, len(action.order), num_frames), np.arange(len(ends)), ends)
    moved: npt.NDArray[np.float64] = stretch[0] + shares * (stretch[1] - stretch[0])
    return moved


class _Picture:
    """A scene with what draws it, and its surfaces as they came."""

    def __init__(self, scene: Scene, mujoco: Any, size: int) -> None:
        self.scene, self._mujoco = scene, mujoco
        model = scene.model
        model.vis.quality.offsamples = 0
        model.vis.global_.offwidth = model.vis.global_.offheight = max(size, 640)
        self.size = size
        self.renderer = mujoco.Renderer(model, size, size)
        for flag in (mujoco.mjtRndFlag.mjRND_REFLECTION, mujoco.mjtRndFlag.mjRND_SHADOW):
            self.renderer.scene.flags[flag] = 0
        self._options = mujoco.MjvOption()
        self._options.sitegroup[:] = 0  # marks of where things are to go
        self._materials, self._geoms = model.mat_rgba.copy(), model.geom_rgba.copy()
        self._lights = model.light_diffuse.copy()

    def dress(self, clip: ManipulateClip) -> None:
        model, tints = self.scene.model, np.asarray(clip.tints)
        model.mat_rgba[:, :3] = self._materials[:, :3] * tints[np.arange(model.nmat) % len(tints)]
        # What has no material is tinted by its colour, so that the parts of the arm stay alike.
        bare = model.geom_matid < 0
        _, kinds = np.unique(self._geoms, axis=0, return_inverse=True)
        kinds = kinds.reshape(-1)
        model.geom_rgba[bare, :3] = self._geoms[bare, :3] * tints[-1 - kinds[bare] % len(tints)]
        model.light_diffuse[:] = self._lights * clip.light

    def draw(self, state: npt.NDArray[np.float64], camera: Any) -> npt.NDArray[np.uint8]:
        data, model = self.scene.data, self.scene.model
        data.qpos[:] = state
        self._mujoco.mj_normalizeQuat(model, data.qpos)
        self._mujoco.mj_forward(model, data)
        self.renderer.update_scene(data, camera, self._options)
        frame: npt.NDArray[np.uint8] = self.renderer.render()
        return frame


class Stage:
    """Renders one clip after the other."""

    def __init__(self) -> None:
        """Makes sure that it can. Raises UsageError where metaworld is missing or MuJoCo cannot draw."""
        _, self._mujoco = import_metaworld()
        try:
            self._mujoco.Renderer(self._mujoco.MjModel.from_xml_string("<mujoco/>"), 16, 16).close()
        except Exception as error:  # of OpenGL's many layers, each with exceptions of its own
            raise UsageError(
                f"MuJoCo cannot draw here ({type(error).__name__}): install EGL (libegl1 and Mesa's drivers), or set "
                "MUJOCO_GL to osmesa (libosmesa6) or, on a desktop, to glfw"
            ) from error
        self._pictures: dict[str, _Picture] = {}

    def __enter__(self) -> Stage:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for picture in self._pictures.values():
            picture.renderer.close()

    def _picture(self, task: str, size: int) -> _Picture:
        picture = self._pictures.pop(task, None)
        if picture is None or picture.size != size:
            picture = _Picture(Scene(task), self._mujoco, size)
        self._pictures[task] = picture
        while len(self._pictures) > _MOST_SCENES:
            self._pictures.pop(next(iter(self._pictures))).renderer.close()
        return picture

    def render(self, clip: ManipulateClip, num_frames: int, size: int) -> npt.NDArray[np.uint8]:
        """Frames (num_frames, size, size, 3) of a clip, RGB."""
        shown = clip.action.thing.captures[clip.capture]
        picture = self._picture(shown.task, size * _FINER)
        action = picture.scene.put(clip.place)
        picture.dress(clip)
        shares = progress(clip.action, clip.stretch, num_frames)
        states = action.at(1 - shares if shown.backwards else shares)
        frames = np.empty((num_frames, size, size, 3), np.uint8)
        for index, state in enumerate(states):
            fine = picture.draw(state, self._camera(clip, index / (num_frames - 1)))
            frames[index] = fine.reshape(size, _FINER, size, _FINER, 3).mean((1, 3)).round()
        return frames

    def _camera(self, clip: ManipulateClip, moment: float) -> Any:
        camera = self._mujoco.MjvCamera()
        camera.lookat[:] = clip.target
        camera.distance, camera.elevation = clip.distance, clip.elevation
        camera.azimuth = clip.azimuth[0] + moment * (clip.azimuth[1] - clip.azimuth[0])
        return camera
