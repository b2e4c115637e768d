"""Parts of a list of videos, drawn class by class: Figure 5's shares, low-shot sets (section 4), a part held out."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence

import numpy as np

from tubeletx_train.data.errors import DataError
from tubeletx_train.data.record import VideoRecord


def draw_share(records: Sequence[VideoRecord], share: float, seed: int) -> list[VideoRecord]:
    """Keep a share of every class, rounded up (Figure 5; "SSv2-sub" of the ablations is a share of 0.25).

    The smaller of two shares is part of the larger, given the same seed. Records without a label count as one class.

    Args:
        records: List to draw from.
        share: In (0, 1].
        seed: Seed of the draw, 0 or more.

    Returns:
        The records drawn, in their order.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share: got {share}, needs one in (0, 1]")
    # A share such as 0.07 is no binary number: without rounding, 0.07 * 100 would count as more than 7.
    return _draw(records, lambda _, count: math.ceil(round(count * share, 6)), seed)


def draw_per_class(records: Sequence[VideoRecord], count: int, seed: int) -> list[VideoRecord]:
    """Keep `count` videos of every class (10 for the 1,010 videos of UCF 10^3, 11 for the 1,089 of Gym 10^3).

    Args:
        records: List to draw from, all labelled.
        count: Videos of a class, 1 or more.
        seed: Seed of the draw, 0 or more.

    Returns:
        The records drawn, in their order.

    Raises:
        DataError: A class has fewer videos, or a record has no label.
    """
    if count < 1:
        raise ValueError(f"count: got {count}, needs 1 or more")

    def wanted(label: str | None, there: int) -> int:
        if label is None:
            raise DataError(f"{there} of the videos have no label; a number of videos per class needs labels")
        if there < count:
            raise DataError(f"class {label} has {there} videos, fewer than the {count} per class asked for")
        return count

    return _draw(records, wanted, seed)


def hold_out(records: Sequence[VideoRecord], share: float, seed: int) -> tuple[list[VideoRecord], list[VideoRecord]]:
    """Split into what is trained on and what is not, both in their order.

    Videos of one group (the clips of one scene of UCF101, say) stay together: apart, the ones would give the others
    away.

    Args:
        records: The training split.
        share: Share of each class's groups, or videos where there are no groups, that is held out, rounded down.
        seed: Seed of the draw.
    """
    if share == 0:
        return list(records), []

    def unit(place: int) -> Hashable:
        record = records[place]
        return place if record.group is None else (record.label, record.group)

    # The first record of each unit stands for it in the draw.
    first = {unit(place): records[place] for place in reversed(range(len(records)))}
    drawn = {id(record) for record in draw_share(list(first.values()), 1 - share, seed)}
    kept = [id(first[unit(place)]) in drawn for place in range(len(records))]
    return (
        [record for record, keep in zip(records, kept, strict=True) if keep],
        [record for record, keep in zip(records, kept, strict=True) if not keep],
    )


def _draw(records: Sequence[VideoRecord], wanted: Callable[[str | None, int], int], seed: int) -> list[VideoRecord]:
    classes: dict[str | None, list[int]] = defaultdict(list)
    for place, record in enumerate(records):
        classes[record.label].append(place)
    rng = np.random.Generator(np.random.Philox(key=seed))
    kept: list[int] = []
    for label in sorted(classes, key=lambda name: name or ""):
        places = classes[label]
        kept += (places[i] for i in rng.permutation(len(places))[: wanted(label, len(places))])
    return [records[place] for place in sorted(kept)]
