"""Finds unreadable videos before training, in processes that a broken file may crash or hang."""

from __future__ import annotations

import itertools
import json
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from tqdm import tqdm

from tubeletx_train.data.config import DataConfig
from tubeletx_train.data.errors import LoaderError, NoUsableVideos, TooManyBadVideos, VideoError
from tubeletx_train.data.manifest import VideoRecord, load_videos
from tubeletx_train.data.processes import exit_with_parent, forkserver_context
from tubeletx_train.data.readers import open_video, require_reader, storage_path, tells_rate

_log = logging.getLogger(__name__)

# Seconds for a process to start; it imports torch from what may be a slow network disk.
_START_TIMEOUT = 120.0

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
            raise ValueError(f"max_bad_share must lie in [0, 1], not {max_bad_share}")
        self._num_videos = num_videos
        self._limit = max_bad_share
        self._bad: dict[str, BadVideo] = {}

    @property
    def bad(self) -> list[BadVideo]:
        """The distinct bad videos so far, in order of appearance."""
        return list(self._bad.values())

    def update(self, bad: Iterable[BadVideo]) -> None:
        """Count, and log once each, bad videos. Raises TooManyBadVideos past the allowed share."""
        for video in bad:
            if video.path not in self._bad:
                self._bad[video.path] = video
                _log.warning("unreadable video %s", video)
        if len(self._bad) > self._limit * self._num_videos:
            shown = [f"  {video}" for video in self.bad[:_NAMES_SHOWN]]
            if len(self._bad) > _NAMES_SHOWN:
                shown.append(f"  and {len(self._bad) - _NAMES_SHOWN} more")
            raise TooManyBadVideos(
                f"{len(self._bad)} of {self._num_videos} videos cannot be read, more than the allowed share "
                f"max_bad_share={self._limit:g}:\n" + "\n".join(shown)
            )


@dataclass(frozen=True)
class Finding:
    """What a look at one file brought: its measures, or a reason why it is bad."""

    num_frames: int = 0
    fps: float = 0.0
    width: int = 0
    height: int = 0
    reason: str | None = None
    # A file that hung or crashed its decoder may do better on another day: such findings are not remembered.
    lasting: bool = True


def inspect_video(path: str, reader: str) -> Finding:
    """Open a file, decode its first and last frame."""
    try:
        video = open_video(path, None, reader)
        frames = video.read([0])
        if video.num_frames > 1:
            video.read([video.num_frames - 1])
    except VideoError as error:
        return Finding(reason=error.reason)
    return Finding(video.num_frames, video.fps, int(frames.shape[2]), int(frames.shape[1]))


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
        context = forkserver_context()
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


class _Index:
    """Findings of earlier checks, a file of JSON lines that only grows; a line counts while its file is unchanged."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, dict[str, Any]] = {}
        if path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    entry = json.loads(line)
                    self._known[entry["path"]] = entry
                except (ValueError, KeyError, TypeError):
                    continue  # cut off by a stopped run: the file is looked at again

    @staticmethod
    def _stamp(path: str) -> list[int] | None:
        try:
            status = os.stat(storage_path(path))
        except OSError:
            return None
        return [status.st_size, status.st_mtime_ns]

    def get(self, path: str) -> Finding | None:
        entry = self._known.get(path)
        if entry is None or entry["stamp"] is None or entry["stamp"] != self._stamp(path):
            return None
        return Finding(**entry["finding"])

    def add(self, path: str, finding: Finding) -> None:
        if not finding.lasting:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"path": path, "stamp": self._stamp(path), "finding": asdict(finding)}) + "\n")


def check_videos(
    records: Sequence[VideoRecord],
    *,
    reader: str = "decord",
    workers: int = 1,
    timeout: float = 60.0,
    index: str | Path | None = None,
    progress: bool = True,
) -> tuple[list[VideoRecord], list[BadVideo]]:
    """Open every video and decode its first and last frame, in child processes.

    A decoder that crashes or hangs on a file costs that file, not the run.

    Args:
        records: What to check.
        reader: Decoder.
        workers: Child processes.
        timeout: Seconds for one video.
        index: JSON-lines file that remembers results by (path, size, modification time); None remembers nothing.
        progress: Show a progress bar (on a terminal).

    Returns:
        The good records in their order, with `num_frames`, `fps`, `width` and `height` filled in (an `fps` that the
        manifest states for pictures stays); and the bad ones, one for each file.

    Raises:
        DataError: The reader is not installed.
    """
    require_reader(reader)
    remembered = _Index(Path(index)) if index is not None else None
    findings: dict[str, Finding] = {}
    open_paths = []
    for path in dict.fromkeys(record.path for record in records):
        known = remembered.get(path) if remembered else None
        if known is None:
            open_paths.append(path)
        else:
            findings[path] = known
    checked = inspect_all(open_paths, partial(inspect_video, reader=reader), min(workers, len(open_paths)), timeout)
    for path, finding in tqdm(
        checked, "checking videos", len(open_paths), unit="video", disable=None if progress and open_paths else True
    ):
        findings[path] = finding
        if remembered:
            remembered.add(path, finding)

    good: list[VideoRecord] = []
    bad: dict[str, BadVideo] = {}
    for record in records:
        finding = findings[record.path]
        if finding.reason is None and record.fps is not None and not tells_rate(record.path):
            finding = replace(finding, fps=record.fps)
        reason = finding.reason
        if reason is None and record.start is not None and record.start * finding.fps >= finding.num_frames:
            reason = f"starts at {record.start:g} s but ends at {finding.num_frames / finding.fps:.2f} s"
        if reason is None:
            good.append(
                replace(
                    record,
                    num_frames=finding.num_frames,
                    fps=finding.fps,
                    width=finding.width,
                    height=finding.height,
                )
            )
        else:
            bad.setdefault(record.path, BadVideo(record.path, reason))
    return good, list(bad.values())


def prepare_videos(
    config: DataConfig, *, index: str | Path | None = None, progress: bool = True
) -> tuple[list[VideoRecord], BadVideoTracker]:
    """`load_videos`, `check_videos` and the report: what a run calls before it makes its data set.

    Bad videos are logged by name. Rows of a manifest were promised, so bad ones count towards `max_bad_share`; files
    that a folder happens to hold are only reported.

    Args:
        config: Data settings.
        index: See `check_videos`.
        progress: Show a progress bar.

    Returns:
        The good records, and the tracker that counts what goes bad later.

    Raises:
        NoUsableVideos: Nothing can be read (one line; a command exits with code 2).
        TooManyBadVideos: Past `config.max_bad_share`.
        DataError: No such file or folder, a malformed manifest.
    """
    records = load_videos(config.videos, config.split)
    good, bad = check_videos(
        records,
        reader=config.reader,
        workers=max(config.num_workers, 1),
        timeout=config.check_timeout,
        index=index,
        progress=progress,
    )
    if not good:
        raise NoUsableVideos(f"{config.videos}: not one of its {len(records)} videos can be read (the first: {bad[0]})")
    if Path(config.videos).is_dir():
        for video in bad:
            _log.warning("left out %s", video)
        return good, BadVideoTracker(len({record.path for record in good}), config.max_bad_share)
    tracker = BadVideoTracker(len({record.path for record in records}), config.max_bad_share)
    tracker.update(bad)
    return good, tracker
