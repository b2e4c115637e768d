"""The labels: what is moved, and which way in which order."""

from __future__ import annotations

import itertools
from dataclasses import dataclass


@dataclass(frozen=True)
class Capture:
    """How a scripted policy shows a thing moved in its first way.

    Attributes:
        task: Of metaworld.
        backwards: Played from its end.
    """

    task: str
    backwards: bool = False


@dataclass(frozen=True)
class Thing:
    """What is moved.

    Attributes:
        name: Of the thing.
        ways: The two ways it is moved; the second is the first played backwards, so that both show the same pictures.
        captures: The motion that is trained on, and another that is only tested on.
    """

    name: str
    ways: tuple[str, str]
    captures: tuple[Capture, Capture]


def _thing(name: str, first: str, second: str, tasks: str) -> Thing:
    """A thing whose tasks in metaworld are called TASKS-FIRST and TASKS-SECOND."""
    captures = Capture(f"{tasks}-{first}-v3"), Capture(f"{tasks}-{second}-v3", backwards=True)
    return Thing(name, (first, second), captures)


THINGS = (
    _thing("door", "open", "close", "door"),
    _thing("drawer", "open", "close", "drawer"),
    _thing("window", "open", "close", "window"),
    _thing("faucet", "open", "close", "faucet"),
    _thing("mug", "push", "pull", "coffee"),
    _thing("handle", "press", "pull", "handle"),
)

# Ways, one after the other, that each thing is moved in.
_ORDERS = ((0,), (1,), (0, 1), (1, 0), (0, 1, 0), (1, 0, 1))


@dataclass(frozen=True)
class ManipulateClass:
    """A label.

    Attributes:
        thing: What is moved.
        order: Which way it is moved, one after the other.
    """

    thing: Thing
    order: tuple[int, ...]

    @property
    def name(self) -> str:
        """Such as door_open_close."""
        return "_".join([self.thing.name, *(self.thing.ways[way] for way in self.order)])


CLASSES = tuple(ManipulateClass(thing, order) for thing in THINGS for order in _ORDERS)

# Classes that are each other played backwards, which no set of frames without their order tells apart. There and back,
# played backwards, is itself: it differs from back and there in where it begins.
OPPOSITES = tuple(
    (ManipulateClass(thing, order).name, ManipulateClass(thing, tuple(1 - way for way in order)).name)
    for thing in THINGS
    for order in _ORDERS
    if len(order) % 2 and order[0] == 0
)


def _of_each_thing(*pairs: tuple[tuple[int, ...], tuple[int, ...]]) -> tuple[tuple[str, str], ...]:
    return tuple(
        (ManipulateClass(thing, one).name, ManipulateClass(thing, other).name)
        for thing in THINGS
        for one, other in pairs
    )


# By what they differ in; a frame may tell the last.
PAIRS = {
    "way": OPPOSITES,
    "how often": _of_each_thing(((0,), (0, 1, 0)), ((1,), (1, 0, 1))),
    "which first": _of_each_thing(((0, 1), (1, 0))),
    "what": tuple(
        (ManipulateClass(one, order).name, ManipulateClass(other, order).name)
        for one, other in itertools.combinations(THINGS, 2)
        for order in _ORDERS
    ),
}
