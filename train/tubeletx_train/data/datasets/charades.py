"""Charades: several actions a video, each with its times."""

from __future__ import annotations

import re
from pathlib import Path

from tubeletx_train.data.datasets.lists import PublishedDataset, find_list, read_table
from tubeletx_train.data.errors import ManifestError
from tubeletx_train.data.record import TimedLabel, VideoRecord

_ACTION = re.compile(r"c(\d{3}) (\d+(?:\.\d+)?) (\d+(?:\.\d+)?)")


def _read(folder: Path, split: str, fold: int) -> list[VideoRecord]:
    """`id` and `actions` (`c092 11.90 21.20;c147 0.00 12.60`) of a CSV file; files are called by their id."""
    del fold
    path = find_list(folder, f"Charades_v1_{split}.csv")
    records = []
    for line, row in read_table(path, "id", "actions"):
        labels = []
        for text in filter(None, row["actions"].strip().split(";")):
            match = _ACTION.fullmatch(text.strip())
            if match is None:
                raise ManifestError(f"{path}:{line}: action: got {text!r}, needs one as c092 11.90 21.20")
            labels.append(TimedLabel(str(int(match[1])), float(match[2]), float(match[3])))
        records.append(VideoRecord(row["id"], split=split, labels=tuple(labels)))
    return records


CHARADES = PublishedDataset(
    title="Charades",
    list_files="Charades_v1_train.csv, Charades_v1_test.csv",
    read=_read,
    published={"train": 7_985, "test": 1_863},
    num_classes=157,
)
