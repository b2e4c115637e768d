"""The labels: which elements follow each other, and which way each goes."""

from __future__ import annotations

import itertools
from dataclasses import dataclass


@dataclass(frozen=True)
class Capture:
    """How a captured motion shows an element in its first way.

    Attributes:
        motion: Name of the captured motion.
        stretch: Where in it the element begins and ends, as shares of its time.
        backwards: Played from its end.
        mirrored: Left and right exchanged.
    """

    motion: str
    stretch: tuple[float, float]
    backwards: bool = False
    mirrored: bool = False


@dataclass(frozen=True)
class Element:
    """What turns.

    Attributes:
        name: Of the element.
        ways: The two ways it goes; the second is the first played backwards, so that both show the same poses.
        captures: The motion that is trained on, and another that is only tested on.
        heading: Degrees that the figure is turned to its left of facing the picture's right.
    """

    name: str
    ways: tuple[str, str]
    captures: tuple[Capture, Capture]
    heading: float


_BACKFLIP, _ROLL, _CARTWHEEL = (0.26, 0.82), (0.1, 0.85), (0.2, 0.84)
FLIP = Element(
    "flip",
    ("back", "forward"),
    (Capture("backflip", _BACKFLIP), Capture("backflip", _BACKFLIP, mirrored=True)),
    heading=0,
)
ROLL = Element("roll", ("forward", "back"), (Capture("roll", _ROLL), Capture("roll", _ROLL, mirrored=True)), heading=0)
CARTWHEEL = Element(
    "cartwheel",
    ("left", "right"),
    (Capture("cartwheel", _CARTWHEEL), Capture("cartwheel", _CARTWHEEL, backwards=True, mirrored=True)),
    heading=-90,
)
TURN = Element(
    "turn",
    ("left", "right"),
    (Capture("spinkick", (0.1, 0.96)), Capture("dance_a", (0.08, 0.92), backwards=True)),
    heading=-90,
)
ELEMENTS = (FLIP, ROLL, CARTWHEEL, TURN)


@dataclass(frozen=True)
class Step:
    """One element, once.

    Attributes:
        element: What turns.
        way: 0 or 1, an index into the element's ways.
    """

    element: Element
    way: int

    @property
    def name(self) -> str:
        """Such as flip_back."""
        return f"{self.element.name}_{self.element.ways[self.way]}"


@dataclass(frozen=True)
class GymClass:
    """A label.

    Attributes:
        name: Of the class.
        steps: What is done, one after the other.
    """

    name: str
    steps: tuple[Step, ...]


# How often an element is done in a row.
_COUNTS = (1, 2)


def _repeated() -> list[GymClass]:
    return [
        GymClass(f"{step.name}_{count}", (step,) * count)
        for element in ELEMENTS
        for step in (Step(element, 0), Step(element, 1))
        for count in _COUNTS
    ]


def _there_and_back() -> list[GymClass]:
    return [
        GymClass(
            f"{element.name}_{element.ways[way]}_then_{element.ways[1 - way]}",
            (Step(element, way), Step(element, 1 - way)),
        )
        for element in ELEMENTS
        for way in (0, 1)
    ]


def _in_order() -> list[GymClass]:
    pairs = [(Step(CARTWHEEL, 0), Step(FLIP, 0)), (Step(ROLL, 0), Step(TURN, 0))]
    return [
        GymClass(f"{first.name}_then_{second.name}", (first, second))
        for pair in pairs
        for first, second in itertools.permutations(pair)
    ]


CLASSES = (*_repeated(), *_there_and_back(), *_in_order())

# Classes that differ in one thing only, which no set of frames without their order tells.
WAYS = tuple(
    (f"{element.name}_{element.ways[0]}_{count}", f"{element.name}_{element.ways[1]}_{count}")
    for element in ELEMENTS
    for count in _COUNTS
)


def _often() -> tuple[tuple[str, str], ...]:
    once, twice = _COUNTS
    steps = [Step(element, way) for element in ELEMENTS for way in (0, 1)]
    return tuple((f"{step.name}_{once}", f"{step.name}_{twice}") for step in steps)


def _elements() -> tuple[tuple[str, str], ...]:
    return tuple(
        (f"{Step(one, way).name}_{count}", f"{Step(other, way).name}_{count}")
        for one, other in itertools.combinations(ELEMENTS, 2)
        for way in (0, 1)
        for count in _COUNTS
    )


def _orders() -> tuple[tuple[str, str], ...]:
    """Of two steps either comes first."""
    names = [item.name for item in (*_there_and_back(), *_in_order())]
    return tuple(zip(names[::2], names[1::2], strict=True))


# By what they differ in; a frame may tell the last.
PAIRS = {"way": WAYS, "how often": _often(), "which first": _orders(), "what": _elements()}
