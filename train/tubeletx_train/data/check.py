"""Finds the unreadable videos of a list before it is trained on."""

from __future__ import annotations

import bisect
import json
import logging
import os
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from tubeletx_train.common.files import append_line
from tubeletx_train.config.data import DataConfig
from tubeletx_train.data.bad_videos import BadVideo, BadVideoTracker
from tubeletx_train.data.errors import NoUsableVideos
from tubeletx_train.data.inspection import Finding, inspect_all, inspect_video, uneven_seconds
from tubeletx_train.data.readers import ClipReader, require_reader, storage_path, tells_rate
from tubeletx_train.data.readers.decord_or_pyav import HAS_DECORD
from tubeletx_train.data.record import VideoRecord
from tubeletx_train.data.table import VideoTable, as_table
from tubeletx_train.data.videos import load_videos

_log = logging.getLogger(__name__)

# A line that an older version wrote holds others, and is not used.
_FINDING_FIELDS = {item.name for item in fields(Finding)}


class _Index:
    """Findings of earlier checks, a file of JSON lines that only grows; a line counts while its file is unchanged.

    What one reader cannot read another may, and they may count frames differently: a finding is of its reader.
    """

    def __init__(self, path: Path, reader: str) -> None:
        self._path = path
        self._reader = reader
        self._known: dict[str, dict[str, Any]] = {}
        if path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    entry = json.loads(line)
                    if entry["reader"] == reader and set(entry["finding"]) == _FINDING_FIELDS:
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
        entry = {"path": path, "reader": self._reader, "stamp": self._stamp(path), "finding": asdict(finding)}
        append_line(self._path, entry)


def check_videos(
    records: Sequence[VideoRecord],
    *,
    reader: str = "decord",
    workers: int = 1,
    timeout: float = 60.0,
    index: str | Path | None = None,
    again: bool = False,
    progress: bool = True,
) -> tuple[VideoTable, list[BadVideo]]:
    """Open every video and decode its first and last frame, in child processes.

    A decoder that crashes or hangs on a file costs that file, not the run. Rows of a manifest that state what a check
    finds, as `tubeletx-train manifest` writes them, were checked: of a million videos the files are not touched again.

    Args:
        records: What to check.
        reader: Decoder.
        workers: Child processes.
        timeout: Seconds for one video.
        index: JSON-lines file that remembers results by (path, size, modification time, reader);
            None remembers nothing.
        again: Look at the files of rows that were checked, too.
        progress: Show a progress bar (on a terminal).

    Returns:
        The good records in their order, with `num_frames`, `fps`, `width`, `height`, and where they are needed
        `first_frame`, `stop_frame` and `reader` filled in (an `fps` that the manifest states for pictures stays); and
        the bad ones, one for each file.

    Raises:
        DataError: The reader is not installed.
    """
    require_reader(reader)
    table = as_table(records)
    checked = np.zeros(len(table), np.bool_) if again else table.are_checked()
    if len(table) and checked.all():
        return table, []
    remembered = _Index(Path(index), reader) if index is not None else None
    findings: dict[str, Finding] = {}
    open_paths = []
    for path in dict.fromkeys(path for path in table.select(~checked).texts("path") if path is not None):
        known = remembered.get(path) if remembered else None
        if known is None:
            open_paths.append(path)
        else:
            findings[path] = known
    found = inspect_all(open_paths, partial(inspect_video, reader=reader), min(workers, len(open_paths)), timeout)
    for path, finding in tqdm(
        found, "checking videos", len(open_paths), unit="video", disable=None if progress and open_paths else True
    ):
        findings[path] = finding
        if remembered:
            remembered.add(path, finding)

    good: list[VideoRecord] = []
    bad: dict[str, BadVideo] = {}
    for record, is_checked in zip(table, checked, strict=True):
        if is_checked:
            good.append(record)
            continue
        seen = with_finding(record, findings[record.path])
        if isinstance(seen, BadVideo):
            bad.setdefault(record.path, seen)
        else:
            good.append(seen)
    left = sum(finding.reader is not None for finding in findings.values())
    if left:
        reason = "which decord does not read, or not exactly" if HAS_DECORD else "as decord is not installed"
        _log.info("%d of %d videos are read by PyAV, %s", left, len(findings), reason)
    return as_table(good), list(bad.values())


def with_finding(record: VideoRecord, finding: Finding) -> VideoRecord | BadVideo:
    """A record with what a check of its file found, or why it cannot be used."""
    finding = _at_stated_rate(record, finding)
    reason = finding.reason
    if reason is None and record.start is not None and record.start >= _length(finding):
        reason = f"starts at {record.start:g} s but ends at {_length(finding):.2f} s"
    if reason is not None:
        return BadVideo(record.path, reason)
    seen = _with_frames(record, finding)
    return replace(seen, width=finding.width, height=finding.height, reader=finding.reader)


def measured(record: VideoRecord, video: ClipReader) -> VideoRecord:
    """An unchecked record with what its open video tells: frames, rate, and where the stretch that counts lies."""
    finding = Finding(video.num_frames, video.fps, seconds=uneven_seconds(video))
    return _with_frames(record, _at_stated_rate(record, finding))


def _at_stated_rate(record: VideoRecord, finding: Finding) -> Finding:
    """Pictures do not tell their rate: the manifest's holds, where it has one."""
    if finding.reason is None and record.fps is not None and not tells_rate(record.path):
        return replace(finding, fps=record.fps)
    return finding


def _with_frames(record: VideoRecord, finding: Finding) -> VideoRecord:
    first, stop = _uneven_range(record, finding)
    return replace(record, num_frames=finding.num_frames, fps=finding.fps, first_frame=first, stop_frame=stop)


def _length(finding: Finding) -> float:
    """Seconds of a file."""
    frame = 1 / finding.fps
    return finding.num_frames * frame if finding.seconds is None else finding.seconds[-1] + frame


def _uneven_range(record: VideoRecord, finding: Finding) -> tuple[int | None, int | None]:
    """The stretch that counts by the time stamps of a file whose rate is not constant; None and None for others."""
    if finding.seconds is None or (record.start is None and record.end is None):
        return None, None
    # The frame that is on show at the start, up to the last that comes before the end.
    first = 0 if record.start is None else max(bisect.bisect_right(finding.seconds, record.start) - 1, 0)
    stop = finding.num_frames if record.end is None else bisect.bisect_left(finding.seconds, record.end)
    return first, max(stop, first + 1)


def prepare_videos(
    config: DataConfig, *, index: str | Path | None = None, progress: bool = True
) -> tuple[VideoTable, BadVideoTracker]:
    """`load_videos`, `check_videos` and the report: what a run calls before it makes its data set.

    Bad videos are logged by name. Rows of a manifest were promised, so bad ones count towards `max_bad_share`; files
    that a folder happens to hold are only reported.

    Args:
        config: Data settings.
        index: See `check_videos`.
        progress: Show a progress bar.

    Returns:
        The good records, none where clips are drawn, and the tracker that counts what goes bad later.

    Raises:
        NoUsableVideos: Nothing can be read (one line; a command exits with code 2).
        TooManyBadVideos: Past `config.max_bad_share`.
        DataError: No such file or folder, a malformed manifest.
    """
    if config.source == "leaves":
        return as_table([]), BadVideoTracker(0, config.max_bad_share)
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
        return good, BadVideoTracker(good.num_files(), config.max_bad_share)
    tracker = BadVideoTracker(records.num_files(), config.max_bad_share)
    tracker.update(bad)
    return good, tracker
