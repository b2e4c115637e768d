"""The splits of a rendered set."""

from __future__ import annotations

import numpy as np

TRAIN, TEST, OTHER_MOTION = "train", "test", "test_other_motion"

# Of six clips in a row of a class. It does not depend on how many there are, so that a set can be added to.
_SPLITS = (TRAIN, TRAIN, TEST, TRAIN, TRAIN, OTHER_MOTION)


def split_of(number: int) -> str:
    """The split of a clip by its number among those of its class.

    "test" shows what is trained on from other cameras, at other speeds, in other colours; "test_other_motion" shows
    besides another motion of the same label.
    """
    return _SPLITS[number % len(_SPLITS)]


def begin_clip(seed: int, label: int, number: int) -> tuple[str, str, np.random.Generator]:
    """What every set draws a clip from.

    Args:
        seed: Of the set.
        label: Index of the clip's class.
        number: Of the clip among those of its class.

    Returns:
        Its split, the one whose cameras, speeds and colours it has ("train" or "test"), and its own source of draws.
    """
    split = split_of(number)
    return split, TRAIN if split == TRAIN else TEST, np.random.default_rng([seed, label, number])
