"""Which videos the study trains on and which it is judged by."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from tubeletx_train.data import DataError, VideoRecord, load_videos, write_manifest

TRAIN, HELD_OUT = "train", "held_out"

# Percent of the training videos that some arms see; the smaller sets lie within the larger.
SHARES = (10, 25, 50)

_TRAIN_SHARE = 0.7
_SPLIT_SEED = 1
_SHARE_SEED = 2


def _shuffled(records: list[VideoRecord], seed: int) -> list[VideoRecord]:
    order = torch.randperm(len(records), generator=torch.Generator().manual_seed(seed))
    return [records[index] for index in order]


def write_study_manifest(videos: str, path: Path) -> Path:
    """Write the manifest that all runs read: splits "train", "train_10", "train_25", "train_50" and "held_out".

    Args:
        videos: A folder, whose files are split 7 to 3 by a fixed shuffle, or a manifest with splits "train" and
            "held_out".
        path: CSV file to write.

    Raises:
        DataError: Fewer than two videos to train on, or none to judge by.
    """
    records = list(load_videos(videos))
    if any(record.split is not None for record in records):
        train, held_out = ([r for r in records if r.split == split] for split in (TRAIN, HELD_OUT))
    else:
        records = _shuffled(records, _SPLIT_SEED)
        cut = int(_TRAIN_SHARE * len(records))
        train, held_out = records[:cut], records[cut:]
    if len(train) < 2 or not held_out:
        raise DataError(
            f"{videos}: the study needs two or more videos to train on and one or more held out, has {len(train)} and "
            f"{len(held_out)}; a manifest names them in its column split, {TRAIN!r} and {HELD_OUT!r}"
        )
    rows = [replace(record, split=TRAIN) for record in train]
    mixed = _shuffled(train, _SHARE_SEED)
    for share in SHARES:
        rows += [replace(record, split=f"{TRAIN}_{share}") for record in mixed[: max(len(mixed) * share // 100, 2)]]
    rows += [replace(record, split=HELD_OUT) for record in held_out]
    write_manifest(path, rows)
    return path
