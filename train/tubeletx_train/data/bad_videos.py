"""Unreadable videos: named, counted, and too many of them refused."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tubeletx_train.data.errors import TooManyBadVideos

_log = logging.getLogger(__name__)

# A list of thousands of names helps nobody; the log has them all.
_NAMES_SHOWN = 20


@dataclass(frozen=True)
class BadVideo:
    """An unreadable video.

    Attributes:
        path: The file.
        reason: One line why.
    """

    path: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


def name_some(bad: Sequence[BadVideo]) -> str:
    """The first of many unreadable videos, a line each, and how many more there are."""
    lines = [f"  {video}" for video in bad[:_NAMES_SHOWN]]
    if len(bad) > _NAMES_SHOWN:
        lines.append(f"  and {len(bad) - _NAMES_SHOWN} more")
    return "\n".join(lines)


class BadVideoTracker:
    """Logs every bad video once and stops the run when there are too many.

    Lives in the training process; feed it `PairBatch.bad` of every batch.
    """

    def __init__(self, num_videos: int, max_bad_share: float) -> None:
        """Make a tracker.

        Args:
            num_videos: Videos the share is of.
            max_bad_share: Largest share of them that may be bad, in [0, 1].
        """
        if not 0.0 <= max_bad_share <= 1.0:
            raise ValueError(f"max_bad_share: got {max_bad_share}, needs one in [0, 1]")
        self._num_videos = num_videos
        self._limit = max_bad_share
        self._bad: dict[str, BadVideo] = {}

    @property
    def bad(self) -> list[BadVideo]:
        """The distinct bad videos so far, in order of appearance."""
        return list(self._bad.values())

    def log_count(self) -> None:
        """Log how many there were, at the end of a run."""
        if self._bad:
            _log.warning("%d of %d videos could not be read; they are named above", len(self._bad), self._num_videos)

    def update(self, bad: Iterable[BadVideo]) -> None:
        """Count, and log once each, bad videos. Raises TooManyBadVideos past the allowed share."""
        for video in bad:
            if video.path not in self._bad:
                self._bad[video.path] = video
                _log.warning("unreadable video %s", video)
        if len(self._bad) > self._limit * self._num_videos:
            raise TooManyBadVideos(
                f"{len(self._bad)} of {self._num_videos} videos cannot be read, more than the allowed share "
                f"max_bad_share={self._limit:g}:\n{name_some(self.bad)}"
            )
