"""Looks at video files in processes that a broken file may crash or hang."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from tubeletx_train.common.pool import Lost, SignOfLife, work_through
from tubeletx_train.data.errors import VideoError
from tubeletx_train.data.readers import ClipReader, open_video


@dataclass(frozen=True)
class Finding:
    """What a look at one file brought: its measures, or a reason why it is bad."""

    num_frames: int = 0
    fps: float = 0.0
    width: int = 0
    height: int = 0
    # What reads the file where the reader that was asked for does not, or not exactly.
    reader: str | None = None
    # When each frame is shown, where the average rate tells it wrong by over half a frame.
    seconds: list[float] | None = None
    reason: str | None = None
    # A file that hung or crashed its decoder may do better on another day: such findings are not remembered.
    lasting: bool = True


def inspect_video(path: str, reader: str) -> Finding:
    """Open a file, decode its first and last frame."""
    try:
        video = open_video(path, None, reader)
        judge = video.judge
        frames = judge.read([0])
        if judge.num_frames > 1:
            judge.read([judge.num_frames - 1])
    except VideoError as error:
        return Finding(reason=error.reason)
    height, width = frames.shape[1:3]
    other = video.decoder if video.decoder not in (None, reader) else None
    return Finding(judge.num_frames, judge.fps, int(width), int(height), other, uneven_seconds(judge))


def uneven_seconds(video: ClipReader) -> list[float] | None:
    """When each frame is shown, None where its number and the average rate tell that to half a frame."""
    seconds = video.seconds
    if seconds is None or np.abs(seconds * video.fps - np.arange(len(seconds))).max() <= 0.5:
        return None
    rounded: list[float] = seconds.round(6).tolist()
    return rounded


def inspect_all(
    paths: Sequence[str], inspect: Callable[[str], Finding], workers: int, timeout: float
) -> Iterator[tuple[str, Finding]]:
    """Inspect files in child processes that may crash or hang.

    Args:
        paths: Files, each once.
        inspect: Looks at one file; must be importable by a child process.
        workers: Child processes.
        timeout: Seconds for one file, after which its process is killed.

    Yields:
        (path, finding) in the order they come in.
    """
    look = partial(_look, inspect=inspect)
    for path, found in work_through(paths, look, workers, timeout, "tubeletx_train.data"):
        yield path, Finding(reason=found.reason("decoder"), lasting=False) if isinstance(found, Lost) else found


def _look(path: str, sign_of_life: SignOfLife, inspect: Callable[[str], Finding]) -> Finding:  # noqa: ARG001
    return inspect(path)
