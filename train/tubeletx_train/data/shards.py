"""Packs videos into tar shards, and lists them so that each stays a video of its own that any reader opens.

The shards are ordinary ones of the webdataset package: a sample is `KEY.EXT`, the video's bytes as they were (a folder
of frames as a zip), and `KEY.json`, what the manifest says of it (a list, where several rows are of one file). Beside
them stands a manifest whose paths hold the place of each video in its shard. Training from that manifest reads single
videos at their places, so that a sample stays a function of (seed, epoch, sample id) alone and a run resumes exactly,
which a stream of shards cannot offer.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tarfile
import zipfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import webdataset
from tqdm import tqdm

from tubeletx_train.common.errors import LoaderError
from tubeletx_train.common.files import file_digest, replaced_file, writable_folder, write_json, write_text
from tubeletx_train.common.limits import require_at_least, require_positive
from tubeletx_train.common.processes import exit_with_parent, forkserver_context
from tubeletx_train.data.errors import DataError, VideoError
from tubeletx_train.data.find import ZIP_EXTENSION, is_frame_name
from tubeletx_train.data.manifest import write_manifest
from tubeletx_train.data.readers import Media, ShardMember
from tubeletx_train.data.record import VideoRecord
from tubeletx_train.data.videos import load_videos

INDEX = "index.json"
MANIFEST = "manifest.csv"
CHECKSUMS = "SHA256SUMS"

# Shards hold videos in this order, so that who reads them as a stream does not meet one class after the other.
_SHUFFLE_SEED = 0


@dataclass(frozen=True)
class ShardsConfig:
    """What is packed.

    Attributes:
        videos: A manifest (CSV) or a folder of videos.
        output: Folder for the shards; a call that was stopped is taken up again with the same folder.
        split: Keep only the manifest's rows of this split.
        shard_mb: Size of a shard, MB (1e6 bytes), reached by the first video that passes it.
        num_workers: Processes that write.
    """

    videos: str
    output: str
    split: str | None = None
    shard_mb: float = 1000.0
    num_workers: int = 2

    def __post_init__(self) -> None:
        require_positive(self, "shard_mb")
        require_at_least(self, 1, "num_workers")


@dataclass(frozen=True)
class PackedVideo:
    """A video to pack.

    Attributes:
        key: Its name in the shard.
        path: Where it lies now.
        size: Its bytes.
        rows: What the manifest says of it, one entry a row.
    """

    key: str
    path: str
    size: int
    rows: list[dict[str, Any]]


def pack_shards(config: ShardsConfig, *, progress: bool = True) -> Path:
    """Write the shards, their manifest, `index.json` (counts, sizes, checksums) and `SHA256SUMS`.

    Each shard is complete or absent: it is written under another name first. Shards that are there already, of the same
    videos, are left alone.

    Args:
        config: What is packed.
        progress: Show a progress bar (on a terminal).

    Returns:
        The manifest.

    Raises:
        DataError: A video is missing, or the folder holds shards of other videos.
        UsageError: The folder cannot be written to.
        CommandError: The disk is full.
    """
    records = load_videos(config.videos, config.split)
    shards = list(_plan(records, config.shard_mb * 1e6))
    folder = writable_folder(config.output)
    _claim(folder, config.videos, shards)
    done = _write_all(folder, shards, config.num_workers, progress)
    _write_lists(folder, records, shards, done)
    return folder / MANIFEST


def _plan(records: Sequence[VideoRecord], shard_bytes: float) -> Iterator[list[PackedVideo]]:
    """Which videos go into which shard: depends on the list and the files' sizes alone."""
    rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for record in records:
        known = {name: value for name, value in asdict(record).items() if value not in (None, ())}
        rows[record.path].append({**known, "path": Path(record.path).name})
    paths = list(rows)
    order = np.random.Generator(np.random.Philox(key=_SHUFFLE_SEED)).permutation(len(paths))
    shard: list[PackedVideo] = []
    filled = 0
    for place in order.tolist():
        path = paths[place]
        shard.append(PackedVideo(f"{place:08d}", path, _size(path), rows[path]))
        filled += shard[-1].size
        if filled >= shard_bytes:
            yield shard
            shard, filled = [], 0
    if shard:
        yield shard


def _size(path: str) -> int:
    member = ShardMember.parse(path)
    try:
        if member is not None:
            return member.size
        if os.path.isdir(path):
            return sum(entry.stat().st_size for entry in os.scandir(path) if is_frame_name(entry.name))
        return os.path.getsize(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); nothing was packed") from error


def _claim(folder: Path, videos: str, shards: list[list[PackedVideo]]) -> None:
    """Make sure that what the folder holds, if anything, belongs to the same videos."""
    plan = json.dumps([[(video.path, video.size, video.rows) for video in shard] for shard in shards])
    identity = hashlib.sha256(plan.encode()).hexdigest()
    index = folder / INDEX
    if index.exists():
        try:
            earlier = json.loads(index.read_text(encoding="utf-8"))["plan"]
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise DataError(f"{index}: is not an index of shards; choose another output folder") from error
        if earlier != identity:
            raise DataError(
                f"{folder}: holds shards of other videos than {videos} now lists, or of another shard_mb; "
                "choose another output folder, or delete this one"
            )
    elif any(folder.glob("*.tar")):
        raise DataError(f"{folder}: holds tar files but no {INDEX}; choose another output folder")
    else:
        write_json(index, {"plan": identity, "complete": False})


def _shard_path(folder: Path, number: int) -> Path:
    return folder / f"shard-{number:06d}.tar"


def _write_all(folder: Path, shards: list[list[PackedVideo]], num_workers: int, progress: bool) -> list[dict[str, Any]]:
    """Write the shards that are not there; what `write_shard` returned for each of all."""
    done: dict[int, dict[str, Any]] = {}
    for number in range(len(shards)):
        earlier = _finished(_shard_path(folder, number))
        if earlier is not None:
            done[number] = earlier
    sizes = [sum(video.size for video in shard) for shard in shards]
    needed = sum(size for number, size in enumerate(sizes) if number not in done)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DataError(f"{folder}: {needed / 1e9:.1f} GB are to be written, {free / 1e9:.1f} GB are free")
    for leftover in folder.glob(".shard-*.tmp"):  # of a call that was killed while it wrote
        leftover.unlink(missing_ok=True)
    bar = tqdm(
        desc="packing",
        total=sum(sizes),
        initial=sum(sizes[number] for number in done),
        unit="B",
        unit_scale=True,
        disable=None if progress else True,
    )
    executor = ProcessPoolExecutor(
        num_workers, mp_context=forkserver_context("tubeletx_train.data"), initializer=exit_with_parent
    )
    try:
        waiting = {
            executor.submit(write_shard, _shard_path(folder, number), shard): number
            for number, shard in enumerate(shards)
            if number not in done
        }
        for future in as_completed(waiting):
            number = waiting[future]
            done[number] = future.result()
            bar.update(sizes[number])
    except VideoError as error:
        raise DataError(
            f"{error}; the same command goes on when that is mended; to leave it out, pack a list that "
            "`tubeletx-train manifest folder --check true --allow_missing true` has made"
        ) from error
    except BrokenProcessPool as error:
        raise LoaderError(
            "a process that writes shards was killed (out of memory?); the same command goes on"
        ) from error
    finally:
        executor.shutdown(wait=True, cancel_futures=True)
        bar.close()
    return [done[number] for number in range(len(shards))]


def _finished(path: Path) -> dict[str, Any] | None:
    """What an earlier call wrote down of a shard, None where it has to be written (again)."""
    try:
        entry: dict[str, Any] = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        return entry if path.stat().st_size == entry["bytes"] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_shard(path: Path, videos: Sequence[PackedVideo]) -> dict[str, Any]:
    """Write one shard and the JSON file that says what it holds.

    Args:
        path: Shard to write.
        videos: What goes in.

    Returns:
        Its name, number of bytes, SHA-256, and the members by key.

    Raises:
        VideoError: A video cannot be read.
        CommandError, UsageError: The shard cannot be written.
    """
    with replaced_file(path, binary=True) as file:
        _write_tar(file, videos)
    with tarfile.open(path) as tar:
        members = {
            os.path.splitext(member.name)[0]: [member.offset_data, member.size, member.name]
            for member in tar
            if not member.name.endswith(".json")
        }
    entry = {"shard": path.name, "bytes": path.stat().st_size, "sha256": file_digest(path), "members": members}
    # Last, as it says that the shard is there.
    write_json(path.with_suffix(".json"), entry, indent=None)
    return entry


def _write_tar(file: IO[bytes], videos: Sequence[PackedVideo]) -> None:
    # One owner and one time for all: the same videos give the same bytes.
    with webdataset.TarWriter(file, encoder=False, user="", group="", mtime=0.0) as writer:
        for video in videos:
            extension, content = _content(video.path)
            rows = video.rows[0] if len(video.rows) == 1 else video.rows
            writer.write({"__key__": video.key, extension: content, "json": json.dumps(rows).encode()})


def _content(path: str) -> tuple[str, bytes]:
    """A video's extension and bytes; a folder of frames becomes a zip."""
    try:
        if os.path.isdir(path):
            return ZIP_EXTENSION[1:], _zip_frames(path)
        media = Media.load(path)
        extension = os.path.splitext(path)[1].lower().lstrip(".") or "video"
        return extension, media.content if media.content is not None else Path(path).read_bytes()
    except OSError as error:
        raise VideoError(path, f"cannot be read ({error.strerror})") from error


def _zip_frames(folder: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as file:
        for name in sorted(filter(is_frame_name, os.listdir(folder))):
            # A fixed date in place of the picture's own, as for the shard.
            file.writestr(zipfile.ZipInfo(name), Path(folder, name).read_bytes())
    return buffer.getvalue()


def _write_lists(
    folder: Path, records: Sequence[VideoRecord], shards: list[list[PackedVideo]], done: list[dict[str, Any]]
) -> None:
    paths = {}
    for entry, shard in zip(done, shards, strict=True):
        for video in shard:
            offset, size, name = entry["members"][video.key]
            paths[video.path] = str(ShardMember(str(folder.absolute() / entry["shard"]), offset, size, name))
    write_manifest(folder / MANIFEST, [replace(record, path=paths[record.path]) for record in records])
    write_text(folder / CHECKSUMS, "".join(f"{entry['sha256']}  {entry['shard']}\n" for entry in done))
    listed = [
        {"shard": entry["shard"], "videos": len(entry["members"]), "bytes": entry["bytes"], "sha256": entry["sha256"]}
        for entry in done
    ]
    totals = {"videos": len(paths), "rows": len(records), "bytes": sum(entry["bytes"] for entry in done)}
    plan = json.loads((folder / INDEX).read_text(encoding="utf-8"))["plan"]
    write_json(folder / INDEX, {"plan": plan, "complete": True, **totals, "shards": listed})
