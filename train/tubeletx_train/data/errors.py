"""Errors of the data side, each one clear line that a command can show without a traceback."""

from __future__ import annotations

from tubeletx_train.common.errors import UsageError


class VideoError(Exception):
    """A video, or part of it, cannot be read.

    Attributes:
        path: The file, as it was asked for.
        reason: One line that says why.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class DataError(UsageError):
    """The input as a whole cannot be trained on; the message is one a user can act upon."""


class ManifestError(DataError):
    """A manifest is malformed; the message names the file and the line."""


class NoUsableVideos(DataError):  # noqa: N818 - reads as what it says
    """Not one video could be read."""


class TooManyBadVideos(DataError):  # noqa: N818
    """More videos than allowed could not be read; the message lists them."""
