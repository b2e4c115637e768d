"""UCF101."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from tubeletx_train.data.datasets.lists import PublishedDataset, find_list, read_text
from tubeletx_train.data.errors import ManifestError
from tubeletx_train.data.record import VideoRecord

# v_Archery_g08_c01: scene 8 of 25, all clips of which share people and place.
_NAME = re.compile(r"v_\w+_(g\d+)_c\d+\.avi")


def _read(folder: Path, split: str, fold: int) -> list[VideoRecord]:
    """`trainlist01.txt` (`Class/v_Class_g08_c01.avi 1`) and `testlist01.txt` (the same without the number)."""
    path = find_list(folder, f"{split}list{fold:02d}.txt")
    records = []
    for line, text in enumerate(read_text(path).splitlines(), 1):
        if not text.strip():
            continue
        name = text.split()[0]
        match = _NAME.fullmatch(PurePosixPath(name).name)
        if match is None or len(PurePosixPath(name).parts) != 2:
            raise ManifestError(f"{path}:{line}: got {text!r}, needs one that starts as Class/v_Class_g01_c01.avi")
        records.append(VideoRecord(name, label=PurePosixPath(name).parts[0], split=split, group=match[1]))
    return records


UCF101 = PublishedDataset(
    title="UCF101",
    list_files="trainlist01.txt, testlist01.txt (01 to 03: the fold)",
    read=_read,
    published={"train": 9_537, "test": 3_783},
    num_classes=101,
    folds=3,
)
