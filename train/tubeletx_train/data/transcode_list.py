"""Encodes the videos of a list anew, in processes that may crash or hang, and goes on where a killed call stopped."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from tubeletx_train.common.errors import CommandError
from tubeletx_train.common.files import append_line, explain_full_disk, replaced_file
from tubeletx_train.common.pool import Lost, SignOfLife, work_through
from tubeletx_train.data.bad_videos import BadVideo, BadVideoTracker
from tubeletx_train.data.errors import VideoError
from tubeletx_train.data.inspection import Finding
from tubeletx_train.data.readers import storage_path
from tubeletx_train.data.transcode import EXTENSION, TranscodeConfig, transcode

JOURNAL = "transcoded.jsonl"
PARTS = "parts"

_PARTS_PER_FOLDER = 1000


@dataclass(frozen=True)
class Part:
    """What came of one video; a line of the journal.

    Attributes:
        source: Path of the source.
        stamp: Its size and the time of its last change.
        file: Name of the encoded video below the folder of the parts, None where the source is unreadable.
        size: Its bytes.
        psnr: See `Transcoded`.
        finding: What a check of it finds, or why there is none.
    """

    source: str
    stamp: tuple[int, int] | None
    file: str | None
    size: int
    psnr: float | None
    finding: Finding


@dataclass(frozen=True)
class _Job:
    """A video to encode, and where to."""

    path: str
    file: str
    fps: float | None


class _Journal:
    """What came of each video, a file of JSON lines that only grows; its last line says that nothing is missing."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.complete = False
        self.parts: dict[str, Part] = {}
        if not path.exists():
            return
        for line in path.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
            try:
                entry = json.loads(line)
                if entry == {"complete": True}:
                    self.complete = True
                else:
                    part = _read_part(entry)
                    self.parts[part.source] = part
            except (ValueError, KeyError, TypeError):
                continue  # cut off by a killed call: that video is encoded again

    def add(self, entry: Part | Mapping[str, Any]) -> None:
        """Write a line."""
        if isinstance(entry, Part):
            self.parts[entry.source] = entry
            entry = asdict(entry)
        append_line(self._path, entry)


def _read_part(entry: dict[str, Any]) -> Part:
    if entry.keys() != {item.name for item in fields(Part)}:
        raise ValueError(f"got {sorted(entry)}")
    stamp = None if entry["stamp"] is None else (entry["stamp"][0], entry["stamp"][1])
    return Part(**{**entry, "stamp": stamp, "finding": Finding(**entry["finding"])})


def transcode_list(
    folder: Path,
    sources: Mapping[str, float | None],
    sizes: Mapping[str, int],
    config: TranscodeConfig,
    *,
    num_workers: int,
    progress: bool,
) -> dict[str, Part]:
    """Encode the videos that an earlier call with the same folder has not.

    Each encoded video is complete or absent: its line in the journal is written last. Once all are done nothing is
    tried again, so that what is made of them stays the same.

    Args:
        folder: Holds the journal and the folder of the parts.
        sources: Paths, each with the rate of its pictures where that is known.
        sizes: Their bytes, for the progress bar.
        config: How they are encoded.
        num_workers: Processes.
        progress: Show a progress bar (on a terminal).

    Returns:
        What came of each, in their order.

    Raises:
        TooManyBadVideos: More than the allowed share cannot be read.
        CommandError: The disk is full.
    """
    journal = _Journal(folder / JOURNAL)
    tracker = BadVideoTracker(len(sources), config.max_bad_share)
    jobs = []
    for place, (path, fps) in enumerate(sources.items()):
        known = journal.parts.get(path)
        if known is None or not (journal.complete or _holds(known, folder)):
            number = f"{place:08d}"
            jobs.append(_Job(path, f"{number[:-3]}/{number}.{EXTENSION}", fps))
    bar = tqdm(
        desc="transcoding",
        total=sum(sizes.values()),
        initial=sum(sizes.values()) - sum(sizes[job.path] for job in jobs),
        unit="B",
        unit_scale=True,
        disable=None if progress else True,
    )
    with bar, explain_full_disk(folder, "; the same command goes on when there is room"):
        todo = {job.path for job in jobs}
        for path in (path for path in sources if path not in todo):
            tracker.update(_bad(journal.parts[path]))
        for part in _encode(folder, jobs, config, num_workers):
            journal.add(part)
            bar.update(sizes[part.source])
            tracker.update(_bad(part))
        if not journal.complete:
            journal.add({"complete": True})
    tracker.log_count()
    return {path: journal.parts[path] for path in sources}


def _bad(part: Part) -> list[BadVideo]:
    return [] if part.finding.reason is None else [BadVideo(part.source, part.finding.reason)]


def _holds(part: Part, folder: Path) -> bool:
    """Whether a line still tells of its source, and its file is there."""
    if part.stamp is None or part.stamp != _stamp(part.source) or not part.finding.lasting:
        return False
    if part.file is None:
        return True
    try:
        return (folder / PARTS / part.file).stat().st_size == part.size
    except OSError:
        return False


def _stamp(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(storage_path(path))
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def _encode(folder: Path, jobs: list[_Job], config: TranscodeConfig, num_workers: int) -> Iterator[Part]:
    work = partial(_encode_one, folder=folder / PARTS, config=config)
    for job, result in work_through(jobs, work, num_workers, config.timeout, "tubeletx_train.data"):
        if isinstance(result, Lost):
            finding = Finding(reason=result.reason("decoder"), lasting=False)
            yield Part(job.path, None, None, 0, None, finding)
        elif isinstance(result, CommandError):
            raise result
        else:
            yield result


def _encode_one(job: _Job, sign_of_life: SignOfLife, folder: Path, config: TranscodeConfig) -> Part | CommandError:
    """In a child process: encode one video to its file."""
    stamp = _stamp(job.path)
    try:
        result = transcode(job.path, config, job.fps, sign_of_life)
    except VideoError as error:
        return Part(job.path, stamp, None, 0, None, Finding(reason=error.reason))
    try:
        with replaced_file(folder / job.file, binary=True) as file:
            file.write(result.content)
    except CommandError as error:
        return error
    return Part(job.path, stamp, job.file, len(result.content), result.psnr, result.finding)
