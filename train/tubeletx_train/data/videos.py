"""The videos that a path means: those of a manifest, of a folder, or itself."""

from __future__ import annotations

import shlex
from pathlib import Path

from tubeletx_train.config.recipes import preparation_of
from tubeletx_train.data.datasets import DATASETS
from tubeletx_train.data.errors import DataError
from tubeletx_train.data.find import VIDEO_EXTENSIONS
from tubeletx_train.data.manifest import read_manifest, scan_folder
from tubeletx_train.data.record import VideoRecord
from tubeletx_train.data.table import VideoTable, as_table


def load_videos(path: str | Path, split: str | None = None) -> VideoTable:
    """Read a manifest, scan a folder, or take a single video, whichever `path` is.

    Args:
        path: CSV file, folder or video.
        split: Keep only a manifest's rows of this split.

    Returns:
        At least one record.

    Raises:
        DataError: There is nothing at `path`, no video in it, or no row of the split.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path}: no such manifest or folder{_how_to_make(path)}")
    if path.is_dir():
        if split is not None:
            raise DataError(f"{path}: a folder has no splits{_how_to_split(path, split)}")
        scanned = scan_folder(path)
        if not scanned:
            lists = sorted(str(file) for file in path.glob("*.csv"))
            found = f"; to read what a manifest lists, give the manifest: {lists[0]}" if lists else ""
            raise DataError(f"{path}: holds no video ({', '.join(sorted(VIDEO_EXTENSIONS))}){found}")
        return as_table(scanned)
    if path.suffix.lower() in VIDEO_EXTENSIONS:
        if split is not None:
            raise DataError(f"{path}: a video has no splits{_how_to_split(path.parent, split)}")
        return as_table([VideoRecord(str(path.absolute()))])
    records = read_manifest(path)
    if not records:
        raise DataError(f"{path}: lists no video")
    if split is None:
        return records
    codes, splits = records.codes("split")
    if split not in splits:
        known = sorted(name for name in splits if name is not None)
        raise DataError(
            f"{path}: has no row of split {split!r}; its splits: {', '.join(known) or 'none'} (they stand in the "
            "column split; null in place of a split's name takes all rows)"
        )
    return records.select(codes == splits.index(split))


def _how_to_split(folder: Path, split: str) -> str:
    """A clause that says what to give where a split was asked for and there is no manifest."""
    return (
        f", and {split!r} was asked for: give a manifest with a column split (`tubeletx-train manifest folder --root "
        f"{shlex.quote(str(folder))} --output videos.csv` writes it of folders train and test), or null in the "
        "place of the split, which takes all"
    )


def _how_to_make(path: Path) -> str:
    """A clause with the command that makes a missing manifest, as far as its name tells."""
    if path.suffix.lower() != ".csv":
        return ""
    output = shlex.quote(str(path))
    command = preparation_of(path.as_posix())
    if command is None and path.stem in DATASETS:
        command = f"tubeletx-train manifest {path.stem} --root VIDEOS --annotations LISTS --output {output}"
    if command is None:
        command = f"tubeletx-train manifest folder --root VIDEOS --output {output}"
    return f"; made by `{command}` (`tubeletx-train manifest --help` has more)"
