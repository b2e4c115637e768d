"""The gym set."""

from __future__ import annotations

from tubeletx_train.rendered.gym.classes import CLASSES, PAIRS, WAYS
from tubeletx_train.rendered.gym.draw import GymClip, draw_clip
from tubeletx_train.rendered.gym.stage import Stage


class Gym:
    """Gymnastics of one figure, as a `RenderedSet`."""

    class_names = tuple(item.name for item in CLASSES)
    pairs = PAIRS
    opposites = WAYS

    def draw(self, seed: int, label: int, number: int) -> GymClip:
        """Draw a clip of a class."""
        return draw_clip(seed, label, number)

    def open(self) -> Stage:
        """What renders. Raises UsageError where pybullet is not installed."""
        return Stage()
