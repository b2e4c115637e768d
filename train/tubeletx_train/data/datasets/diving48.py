"""Diving48, version 2 of its labels."""

from __future__ import annotations

from pathlib import Path

from tubeletx_train.data.datasets.lists import PublishedDataset, find_list, read_entries, whole_number
from tubeletx_train.data.record import VideoRecord


def _read(folder: Path, split: str, fold: int) -> list[VideoRecord]:
    """A list of objects with `vid_name` and `label`; each file is one dive, whole."""
    del fold
    path = find_list(folder, f"Diving48_V2_{split}.json")
    return [
        VideoRecord(
            str(entry["vid_name"]),
            label=str(whole_number(entry["label"], f"{path}: label of {entry['vid_name']}")),
            split=split,
        )
        for entry in read_entries(path, "vid_name", "label")
    ]


DIVING48 = PublishedDataset(
    title="Diving48",
    list_files="Diving48_V2_train.json, Diving48_V2_test.json",
    read=_read,
    published={"train": 15_027, "test": 1_970},
    num_classes=48,
)
