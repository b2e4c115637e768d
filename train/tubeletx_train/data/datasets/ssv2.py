"""Something-Something V2."""

from __future__ import annotations

from pathlib import Path

from tubeletx_train.data.datasets.lists import PublishedDataset, find_list, read_entries, read_json, whole_number
from tubeletx_train.data.errors import ManifestError
from tubeletx_train.data.record import VideoRecord

_PREFIX = "something-something-v2-"
_LIST_FILES = {"train": "train.json", "val": "validation.json"}


def _read(folder: Path, split: str, fold: int) -> list[VideoRecord]:
    """A list of objects with `id` and `template`, and the templates' numbers; files are called by their id."""
    del fold
    labels_path = find_list(folder, f"{_PREFIX}labels.json", "labels.json")
    numbers = read_json(labels_path)
    if not isinstance(numbers, dict):
        raise ManifestError(f"{labels_path}: needs an object from template to number")
    path = find_list(folder, _PREFIX + _LIST_FILES[split], _LIST_FILES[split])
    records = []
    for entry in read_entries(path, "id", "template"):
        template = str(entry["template"]).replace("[", "").replace("]", "")
        if template not in numbers:
            raise ManifestError(f"{path}: video {entry['id']}: {template!r} is not in {labels_path}")
        number = whole_number(numbers[template], f"{labels_path}: {template!r}")
        records.append(VideoRecord(str(entry["id"]), label=str(number), split=split))
    return records


SSV2 = PublishedDataset(
    title="Something-Something V2",
    list_files=f"{_PREFIX}train.json, {_PREFIX}validation.json, {_PREFIX}labels.json",
    read=_read,
    published={"train": 168_913, "val": 24_777},
    num_classes=174,
)
