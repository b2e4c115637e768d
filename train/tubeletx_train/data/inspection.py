"""Looks at video files in processes that a broken file may crash or hang."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

import numpy as np

from tubeletx_train.common.errors import LoaderError
from tubeletx_train.common.processes import exit_with_parent, forkserver_context
from tubeletx_train.data.errors import VideoError
from tubeletx_train.data.readers import ClipReader, open_video

# Seconds for a process to start; it imports torch from what may be a slow network disk.
_START_TIMEOUT = 120.0


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


def _serve(connection: Connection, inspect: Callable[[str], Finding]) -> None:
    """Body of a checking process: paths in, findings out, until it is killed."""
    exit_with_parent()
    # Decoders write their own complaints to standard error, where they would tear the progress bar.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    connection.send("ready")
    while True:
        connection.send(inspect(connection.recv()))


@dataclass
class _Checker:
    """A checking process that may be lost at any time."""

    inspect: Callable[[str], Finding]
    timeout: float
    path: str | None = None
    deadline: float = 0.0
    connection: Connection = field(init=False)
    process: BaseProcess = field(init=False)

    def __post_init__(self) -> None:
        context = forkserver_context("tubeletx_train.data")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, self.inspect), daemon=True)
        self.process.start()
        theirs.close()  # so that the death of the process reads as end of file here
        try:
            ready = self.connection.poll(_START_TIMEOUT) and self.connection.recv()
        except (EOFError, ConnectionError):
            ready = None
        if not ready:
            self.close()
            raise LoaderError(
                "a process that checks videos did not start (a script that starts runs must do so below "
                "if __name__ == '__main__', as child processes import it)"
            )

    def submit(self, path: str) -> None:
        self.path, self.deadline = path, time.monotonic() + self.timeout
        self.connection.send(path)

    def collect(self) -> Finding | None:
        """The finding for `path`, None while it is not there yet. A lost process gives one too; replace it then."""
        try:
            if self.connection.poll():
                finding: Finding = self.connection.recv()
                return finding
        except (EOFError, ConnectionError):
            self.process.join()
            return Finding(reason=f"crashed the decoder (exit code {self.process.exitcode})", lasting=False)
        if time.monotonic() > self.deadline:
            self.close()
            return Finding(reason=f"hung the decoder for {self.timeout:g} s", lasting=False)
        return None

    def close(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()


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
    pending = iter(paths)
    checkers: list[_Checker] = []
    try:
        for path in itertools.islice(pending, max(workers, 1)):
            checkers.append(_Checker(inspect, timeout))
            checkers[-1].submit(path)
        busy = list(checkers)
        while busy:
            next_deadline = min(checker.deadline for checker in busy)
            wait([checker.connection for checker in busy], max(next_deadline - time.monotonic(), 0.0) + 0.01)
            for checker in list(busy):
                finding = checker.collect()
                if finding is None:
                    continue
                assert checker.path is not None
                yield checker.path, finding
                busy.remove(checker)
                upcoming = next(pending, None)
                if upcoming is None:
                    continue
                if not checker.process.is_alive():
                    checkers.remove(checker)
                    checker = _Checker(inspect, timeout)
                    checkers.append(checker)
                checker.submit(upcoming)
                busy.append(checker)
    finally:
        for checker in checkers:
            checker.close()
