"""A part of the training split that weights are chosen by."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from tubeletx_train.data import VideoRecord
from tubeletx_train.data.subsets import draw_share


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
