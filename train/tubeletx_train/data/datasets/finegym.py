"""FineGym: Gym-99, Gym-288, and the two subsets whose classes belong to one element, FX-S1 and UB-S1."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from tubeletx_train.data.datasets.lists import PublishedDataset, find_list, read_rows, whole_number
from tubeletx_train.data.errors import ManifestError
from tubeletx_train.data.record import VideoRecord


def _read(folder: Path, split: str, fold: int, *, kind: str, classes: range, subset: bool) -> list[VideoRecord]:
    """`NAME 93` a line, the name with or without `.avi`; a subset's classes are numbered from 0 anew."""
    del fold
    path = find_list(folder, f"{kind}_{split}.txt", f"{kind}_{split}_element_v1.1.txt", f"{kind}_{split}_element.txt")
    records = []
    for line, (name, text) in read_rows(path, 2):
        number = whole_number(text, f"{path}:{line}: class")
        if number in classes:
            records.append(VideoRecord(name, label=str(number - classes.start), split=split))
        elif not subset:
            raise ManifestError(f"{path}:{line}: class {number} is not one of {len(classes)}, numbered from 0")
    return records


def _dataset(
    title: str, kind: str, classes: range, train: int | None, val: int | None, *, subset: bool = False
) -> PublishedDataset:
    return PublishedDataset(
        title=title,
        list_files=f"{kind}_train.txt, {kind}_val.txt (or {kind}_train_element_v1.1.txt ...)",
        read=partial(_read, kind=kind, classes=classes, subset=subset),
        published={"train": train, "val": val},
        num_classes=len(classes),
    )


GYM99 = _dataset("Gym-99", "gym99", range(99), 20_484, 8_521)
GYM288 = _dataset("Gym-288", "gym288", range(288), None, None)
FX_S1 = _dataset("FX-S1 (FineGym, leaps and jumps on the floor)", "gym99", range(6, 17), 1_882, 777, subset=True)
UB_S1 = _dataset("UB-S1 (FineGym, circles on uneven bars)", "gym99", range(74, 89), 3_511, 1_471, subset=True)
