"""A part of the training split that weights are chosen by."""

from __future__ import annotations

from collections.abc import Sequence

from tubeletx_train.data import VideoRecord
from tubeletx_train.data.subsets import draw_share


def hold_out(records: Sequence[VideoRecord], share: float, seed: int) -> tuple[list[VideoRecord], list[VideoRecord]]:
    """Split into what is trained on and what is not, both in their order.

    Args:
        records: The training split.
        share: Share of each class that is held out, rounded down.
        seed: Seed of the draw.
    """
    if share == 0:
        return list(records), []
    # Several rows of a manifest may be stretches of one video: places tell them apart, paths do not.
    kept = {id(record) for record in draw_share(records, 1 - share, seed)}
    return (
        [record for record in records if id(record) in kept],
        [record for record in records if id(record) not in kept],
    )
