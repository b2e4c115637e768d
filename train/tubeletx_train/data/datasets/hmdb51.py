"""HMDB51."""

from __future__ import annotations

from pathlib import Path

from tubeletx_train.data.datasets.lists import PublishedDataset, read_rows
from tubeletx_train.data.errors import ManifestError
from tubeletx_train.data.record import VideoRecord

# The second cell of a line; videos with 0 are in neither split of the fold.
_SPLITS = {"0": None, "1": "train", "2": "test"}


def _read(folder: Path, split: str, fold: int) -> list[VideoRecord]:
    """One file a class, `wave_test_split1.txt`, with `name.avi flag` a line."""
    ending = f"_test_split{fold}.txt"
    paths = sorted(folder.glob(f"*{ending}"))
    if not paths:
        raise ManifestError(f"{folder}: holds no CLASS{ending}")
    records = []
    for path in paths:
        label = path.name.removesuffix(ending)
        for line, (name, flag) in read_rows(path, 2):
            if flag not in _SPLITS:
                raise ManifestError(f"{path}:{line}: got {flag!r}, needs one that ends in 0, 1 or 2")
            if _SPLITS[flag] == split:
                records.append(VideoRecord(f"{label}/{name}", label=label, split=split))
    return records


HMDB51 = PublishedDataset(
    title="HMDB51",
    list_files="CLASS_test_split1.txt (1 to 3: the fold)",
    read=_read,
    published={"train": 3_570, "test": 1_530},
    num_classes=51,
    folds=3,
)
