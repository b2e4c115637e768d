"""Any folder of videos: labels from the names of folders, splits too where they are named so."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from tubeletx_train.data.errors import DataError
from tubeletx_train.data.manifest import scan_folder
from tubeletx_train.data.record import VideoRecord

SPLIT_FOLDERS = ("train", "val", "test")


def read_folder(root: Path, group_pattern: str | None = None) -> list[VideoRecord]:
    """List the videos of `root/[SPLIT/][...LABEL/]VIDEO`.

    Args:
        root: Folder. Where it holds folders called train, val or test, those are the splits.
        group_pattern: Regular expression searched in the path below `root`; what its first parentheses match is the
            video's group.

    Returns:
        Records with absolute paths, sorted.

    Raises:
        DataError: The pattern is none, or does not match a video's path.
    """
    try:
        pattern = re.compile(group_pattern) if group_pattern is not None else None
    except re.error as error:
        raise DataError(f"group_pattern {group_pattern!r} is not a regular expression ({error})") from error
    if pattern is not None and pattern.groups < 1:
        raise DataError(f"group_pattern {group_pattern!r} needs parentheses around what tells the group")
    root = root.absolute()
    records = []
    for record in scan_folder(root):
        relative = Path(record.path).relative_to(root)
        folders = list(relative.parts[:-1])
        split = folders.pop(0) if folders and folders[0] in SPLIT_FOLDERS else None
        group = None
        if pattern is not None:
            match = pattern.search(relative.as_posix())
            if match is None or match[1] is None:
                raise DataError(f"group_pattern {group_pattern!r} does not match {relative.as_posix()}")
            group = match[1]
        records.append(replace(record, label=folders[-1] if folders else None, split=split, group=group))
    return records
