"""Lists of paths and labels, as SlowFast and mmaction2 keep them: `path label` a line."""

from __future__ import annotations

import re
from pathlib import Path

from tubeletx_train.data.datasets.lists import PublishedDataset, read_text
from tubeletx_train.data.errors import ManifestError
from tubeletx_train.data.record import VideoRecord

SPLITS = ("train", "val", "test")
# SlowFast takes a comma for the space, too.
_VIDEO = re.compile(r"(.+?)[\s,]+(\d+)")
_FRAMES = re.compile(r"(.+?)[\s,]+\d+[\s,]+(\d+)")


def find_path_list(folder: Path, split: str) -> Path | None:
    """The list of a split: the one text or CSV file in whose name it stands as a word, such as train.csv.

    Returns:
        Its path, None where there is none.

    Raises:
        ManifestError: Several may be meant.
    """
    word = re.compile(rf"(^|[^a-z]){split}([^a-z]|$)", re.IGNORECASE)
    files = [path for path in sorted(folder.iterdir()) if path.suffix in (".csv", ".txt") and word.search(path.stem)]
    if len(files) > 1:
        names = ", ".join(path.name for path in files)
        raise ManifestError(f"{folder}: the list of split {split} may be any of {names}; leave one of them there")
    return files[0] if files else None


def _read(folder: Path, split: str, fold: int) -> list[VideoRecord]:
    del fold
    path = find_path_list(folder, split)
    if path is None:
        raise ManifestError(f"{folder}: holds no list of split {split}, such as {split}.csv or {split}.txt")
    of_frames = "rawframes" in path.stem
    records = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if not line.strip():
            continue
        match = (_FRAMES if of_frames else _VIDEO).fullmatch(line.strip())
        if match is None:
            needed = "a folder of frames, how many, and a class number" if of_frames else "a path and a class number"
            raise ManifestError(f"{path}:{number}: got {line!r}, needs {needed}")
        records.append(VideoRecord(match[1], label=match[2], split=split))
    return records


PATH_LISTS = PublishedDataset(
    title="lists of SlowFast or mmaction2",
    list_files="train.csv or *train*.txt, val, test (`path label` a line)",
    read=_read,
    published=dict.fromkeys(SPLITS),
    num_classes=None,
    present=lambda folder: [split for split in SPLITS if find_path_list(folder, split) is not None],
)
