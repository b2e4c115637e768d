"""The splits of a rendered set."""

from __future__ import annotations

TRAIN, TEST, OTHER_MOTION = "train", "test", "test_other_motion"

# Of six clips in a row of a class. It does not depend on how many there are, so that a set can be added to.
_SPLITS = (TRAIN, TRAIN, TEST, TRAIN, TRAIN, OTHER_MOTION)


def split_of(number: int) -> str:
    """The split of a clip by its number among those of its class.

    "test" shows what is trained on from other cameras, at other speeds, in other colours; "test_other_motion" shows
    besides another motion of the same label.
    """
    return _SPLITS[number % len(_SPLITS)]
