"""Lists of videos: manifests (CSV) and folders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class VideoRecord:
    """One video, or the stretch of one that counts as a video.

    Attributes:
        path: Absolute path.
        label: Class name or number, None where unknown.
        start: First second that counts, None for the beginning.
        end: Second at which it ends (exclusive), None for the end of the file.
        split: Name of the split, None where unknown.
        num_frames: Frames of the whole file, None until it was checked.
        fps: Average frames per second, None until it was checked.
    """

    path: str
    label: str | None = None
    start: float | None = None
    end: float | None = None
    split: str | None = None
    num_frames: int | None = None
    fps: float | None = None


def read_manifest(path: str | Path) -> list[VideoRecord]:
    """Read a manifest. Raises ManifestError with the line number."""
    raise NotImplementedError


def write_manifest(path: str | Path, records: Sequence[VideoRecord]) -> None:
    """Write a manifest; paths below its folder become relative."""
    raise NotImplementedError


def scan_folder(root: str | Path, *, label_from_folder: bool = False) -> list[VideoRecord]:
    """Find the videos below a folder, sorted by path."""
    raise NotImplementedError


def load_videos(path: str | Path, split: str | None = None) -> list[VideoRecord]:
    """Read a manifest file or scan a folder, whichever `path` is. Raises DataError when it is neither or empty."""
    raise NotImplementedError
