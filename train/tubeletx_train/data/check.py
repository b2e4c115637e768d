"""Finds unreadable videos before training, in processes that a broken file may crash or hang."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tubeletx_train.data.config import DataConfig
from tubeletx_train.data.manifest import VideoRecord


@dataclass(frozen=True)
class BadVideo:
    """An unreadable video and one line why."""

    path: str
    reason: str


class BadVideoTracker:
    """Logs every bad video once and stops the run when there are too many.

    Lives in the training process; feed it `PairBatch.bad` of every batch.
    """

    def __init__(self, num_videos: int, max_bad_share: float) -> None:
        raise NotImplementedError

    @property
    def bad(self) -> list[BadVideo]:
        """The distinct bad videos so far, in order of appearance."""
        raise NotImplementedError

    def update(self, bad: Iterable[BadVideo]) -> None:
        """Count (and log, once each) bad videos. Raises TooManyBadVideos past the allowed share."""
        raise NotImplementedError


def check_videos(
    records: Sequence[VideoRecord],
    *,
    reader: str = "decord",
    workers: int = 1,
    timeout: float = 60.0,
    index: str | Path | None = None,
    progress: bool = True,
) -> tuple[list[VideoRecord], list[BadVideo]]:
    """Open every video and decode frames of it in child processes.

    Args:
        records: What to check.
        reader: Decoder.
        workers: Child processes.
        timeout: Seconds for one video.
        index: JSON file that remembers results by (path, size, modification time); None remembers nothing.
        progress: Show a progress bar.

    Returns:
        The good records, in their order, with `num_frames` and `fps` filled in; and the bad ones.
    """
    raise NotImplementedError


def prepare_videos(
    config: DataConfig, *, index: str | Path | None = None, progress: bool = True
) -> tuple[list[VideoRecord], BadVideoTracker]:
    """`load_videos` + `check_videos` + the report: what a run calls before it makes its data set.

    Bad videos are logged by name. Rows of a manifest were promised, so bad ones count towards `max_bad_share`; files
    that a folder happens to hold are only reported.

    Raises:
        NoUsableVideos: Nothing can be read (one line; a command exits with code 2).
        TooManyBadVideos: Past `config.max_bad_share`.
        DataError: No such file or folder, a malformed manifest.
    """
    raise NotImplementedError
