"""Parts of a training split, drawn per class from a seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

import numpy as np

from tubeletx_train.data import DataError, VideoRecord

T = TypeVar("T")


def _by_class(records: Sequence[VideoRecord]) -> dict[Hashable, list[int]]:
    """Places of the records of each class; a video with several labels counts towards the first of them."""
    places: dict[Hashable, list[int]] = {}
    for place, record in enumerate(records):
        key = record.label if record.label is not None else next((item.label for item in record.labels), None)
        places.setdefault(key, []).append(place)
    return places


def _draw(records: Sequence[VideoRecord], count: Callable[[int, Hashable], int], seed: int) -> set[int]:
    """Places of `count(size, class)` records of each class."""
    generator = np.random.default_rng(seed)
    drawn: set[int] = set()
    for key, places in sorted(_by_class(records).items(), key=lambda item: str(item[0])):
        drawn.update(generator.permutation(places)[: count(len(places), key)].tolist())
    return drawn


def draw_subset(
    records: Sequence[VideoRecord], *, per_class: int | None = None, share: float | None = None, seed: int
) -> list[VideoRecord]:
    """Some of each class's videos, in their order.

    Args:
        records: Labelled records.
        per_class: Videos of each class (low-shot UCF101: 10, FineGym: 11).
        share: Share of each class's videos, at least one (SSv2-Sub: 0.25).
        seed: Seed of the draw.

    Raises:
        DataError: A class has fewer than `per_class` videos.
    """

    def count(size: int, key: Hashable) -> int:
        if per_class is None:
            return size if share is None else max(round(share * size), 1)
        if size < per_class:
            raise DataError(f"class {key!r} has {size} videos, per_class={per_class} are needed")
        return per_class

    chosen = _draw(records, count, seed)
    return [record for place, record in enumerate(records) if place in chosen]


def hold_out(
    records: Sequence[VideoRecord], share: float, seed: int
) -> tuple[list[VideoRecord], list[VideoRecord]]:
    """Split into what is trained on and a share of each class that is not, both in their order.

    A class of one video keeps it for training.
    """

    def count(size: int, _: Hashable) -> int:
        return min(math.ceil(share * size), size - 1)

    held = _draw(records, count, seed)
    return (
        [record for place, record in enumerate(records) if place not in held],
        [record for place, record in enumerate(records) if place in held],
    )
