"""The sets that can be rendered, behind one small protocol."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import AbstractContextManager
from typing import Any, Protocol, get_args

import numpy as np
import numpy.typing as npt

from tubeletx_train.rendered.config import SetName


class DrawnClip(Protocol):
    """All that a clip is rendered from.

    Attributes:
        split: Name of the split.
        group: What it shares with others of its class, such as the place of the camera.
    """

    @property
    def split(self) -> str: ...  # noqa: D102

    @property
    def group(self) -> str: ...  # noqa: D102


class Renderer(Protocol):
    """Renders clips of one set."""

    def render(self, clip: Any, num_frames: int, size: int) -> npt.NDArray[np.uint8]:
        """Frames (num_frames, size, size, 3), RGB, of a clip that the set has drawn."""


class RenderedSet(Protocol):
    """A set of labelled videos.

    Attributes:
        class_names: Classes.
        pairs: Classes that differ in one thing, by what that is.
        opposites: Those that are each other played backwards.
    """

    class_names: tuple[str, ...]
    pairs: dict[str, tuple[tuple[str, str], ...]]
    opposites: tuple[tuple[str, str], ...]

    def draw(self, seed: int, label: int, number: int) -> DrawnClip:
        """Draw a clip of a class; needs none of the packages that render."""

    def open(self) -> AbstractContextManager[Renderer]:
        """What renders. Raises UsageError where the package that does is missing or cannot run."""


def rendered_set(name: SetName) -> RenderedSet:
    """A set by its name; its modules are imported when it is asked for."""
    if name == "gym":
        from tubeletx_train.rendered.gym.gym import Gym

        return Gym()
    from tubeletx_train.rendered.manipulate.manipulate import Manipulate

    return Manipulate()


def rendered_set_of(class_names: Collection[str]) -> RenderedSet | None:
    """The set that has these classes and no others; None where there is none."""
    found = (rendered_set(name) for name in get_args(SetName))
    return next((rendered for rendered in found if set(rendered.class_names) == set(class_names)), None)
