"""The manipulate set."""

from __future__ import annotations

from tubeletx_train.rendered.manipulate.classes import CLASSES, OPPOSITES, PAIRS
from tubeletx_train.rendered.manipulate.draw import ManipulateClip, draw_clip
from tubeletx_train.rendered.manipulate.stage import Stage


class Manipulate:
    """A robot's arm that moves things, as a `RenderedSet`."""

    class_names = tuple(item.name for item in CLASSES)
    pairs = PAIRS
    opposites = OPPOSITES

    def draw(self, seed: int, label: int, number: int) -> ManipulateClip:
        """Draw a clip of a class."""
        return draw_clip(seed, label, number)

    def open(self) -> Stage:
        """What renders. Raises UsageError where metaworld is not installed or MuJoCo cannot draw."""
        return Stage()
