"""UCFRep: repetitions marked in videos of UCF101."""

from __future__ import annotations

import itertools
import re
import zlib
from pathlib import Path
from typing import Any

from tubeletx_train.data.datasets.lists import PublishedDataset
from tubeletx_train.data.errors import ManifestError
from tubeletx_train.data.record import VideoRecord

_NAME = re.compile(r"v_(\w+)_(g\d+)_c\d+")


def _read(folder: Path, split: str, fold: int) -> list[VideoRecord]:
    """One MATLAB file a video, `train/v_Biking_g01_c01.mat`, whose `temporal_bound` are frames counted from 1."""
    del fold
    paths = sorted((folder / split).glob("*.mat")) or sorted((folder / "annotations" / split).glob("*.mat"))
    if not paths:
        raise ManifestError(f"{folder}: holds no {split}/*.mat")
    records = []
    for path in paths:
        match = _NAME.fullmatch(path.stem)
        if match is None:
            raise ManifestError(f"{path}: needs a name as v_Class_g01_c01.mat")
        records.append(
            VideoRecord(path.stem, label=match[1], split=split, group=match[2], boundaries=_read_boundaries(path))
        )
    return records


def _read_boundaries(path: Path) -> tuple[int, ...]:
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        content: dict[str, Any] = loadmat(path, simplify_cells=True)
        boundaries = tuple(int(frame) - 1 for frame in content["label"]["temporal_bound"])
    except (MatReadError, OSError, ValueError, TypeError, LookupError, NotImplementedError, zlib.error) as error:
        raise ManifestError(f"{path}: is not a label file of UCFRep ({' '.join(str(error).split())})") from error
    if len(boundaries) < 2 or boundaries[0] < 0 or any(b <= a for a, b in itertools.pairwise(boundaries)):
        raise ManifestError(f"{path}: temporal_bound: needs two or more increasing frame numbers")
    return boundaries


UCFREP = PublishedDataset(
    title="UCFRep",
    list_files="train/*.mat, val/*.mat",
    read=_read,
    published={"train": 421, "val": 105},
    num_classes=23,
)
