"""Kinetics-400 (the published CSV files) and the subset of 200 classes Mini-Kinetics (lists of names and numbers)."""

from __future__ import annotations

from pathlib import Path

from tubeletx_train.data.datasets.lists import PublishedDataset, find_list, read_rows, read_table, whole_number
from tubeletx_train.data.errors import ManifestError
from tubeletx_train.data.record import VideoRecord

_CSV_FILES = {
    "train": ("train.csv", "kinetics_train.csv", "kinetics_400_train.csv"),
    "val": ("val.csv", "validate.csv", "kinetics_val.csv", "kinetics_400_val.csv", "kinetics_validate.csv"),
}


def _read_kinetics(folder: Path, split: str, fold: int) -> list[VideoRecord]:
    """`label,youtube_id,time_start,time_end,split`; a file is called by its id and times, as every downloader does."""
    del fold
    path = find_list(folder, *_CSV_FILES[split])
    records = []
    for line, row in read_table(path, "label", "youtube_id", "time_start", "time_end"):
        try:
            start, end = (int(float(row[name])) for name in ("time_start", "time_end"))
        except (ValueError, OverflowError):
            raise ManifestError(f"{path}:{line}: time_start and time_end: need seconds") from None
        records.append(VideoRecord(f"{row['youtube_id']}_{start:06d}_{end:06d}", label=row["label"], split=split))
    return records


def _read_mini_kinetics(folder: Path, split: str, fold: int) -> list[VideoRecord]:
    """`train_split_1.txt` with a name and a class number a line, and `action_names.txt` with the classes' names."""
    names_path = find_list(folder, "action_names.txt")
    names = {number: name for _, (name, number) in read_rows(names_path, 2)}
    path = find_list(folder, f"{split}_split_{fold}.txt")
    records = []
    for line, (video, number) in read_rows(path, 2):
        whole_number(number, f"{path}:{line}: class", least=1)
        if number not in names:
            raise ManifestError(f"{path}:{line}: class {number} is not in {names_path}")
        records.append(VideoRecord(video, label=names[number], split=split))
    return records


KINETICS400 = PublishedDataset(
    title="Kinetics-400",
    list_files="train.csv, val.csv",
    read=_read_kinetics,
    published={"train": None, "val": None},  # the lists themselves differ, as videos leave the web
    num_classes=400,
)

MINI_KINETICS = PublishedDataset(
    title="Mini-Kinetics",
    list_files="train_split_1.txt, val_split_1.txt, action_names.txt",
    read=_read_mini_kinetics,
    published={"train": 77_266, "val": 4_907},
    num_classes=200,
)
