"""Packs videos into tar shards, as they are or encoded anew, and lists them so that each stays one that readers open.

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
import logging
import os
import shutil
import statistics
import tarfile
import zipfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import webdataset
from tqdm import tqdm

from tubeletx_train.common.errors import LoaderError
from tubeletx_train.common.files import file_digest, replaced_file, writable_folder, write_json, write_text
from tubeletx_train.common.limits import require_at_least, require_positive
from tubeletx_train.common.lock import locked_folder
from tubeletx_train.common.processes import ctrl_c_held, exit_with_parent, forkserver_context
from tubeletx_train.data.bad_videos import BadVideo, name_some
from tubeletx_train.data.check import with_finding
from tubeletx_train.data.errors import DataError, NoUsableVideos, VideoError
from tubeletx_train.data.find import ZIP_EXTENSION, is_frame_name
from tubeletx_train.data.manifest import write_manifest
from tubeletx_train.data.readers import Media, ShardMember
from tubeletx_train.data.record import VideoRecord
from tubeletx_train.data.transcode import TranscodeConfig
from tubeletx_train.data.transcode_list import PARTS, Part, transcode_list
from tubeletx_train.data.videos import load_videos

_log = logging.getLogger(__name__)

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
        num_workers: Processes that encode and write.
        transcode: Whether, and how, videos are encoded anew.
    """

    videos: str
    output: str
    split: str | None = None
    shard_mb: float = 1000.0
    num_workers: int = 2
    transcode: TranscodeConfig = field(default_factory=TranscodeConfig)

    def __post_init__(self) -> None:
        require_positive(self, "shard_mb")
        require_at_least(self, 1, "num_workers")


@dataclass(frozen=True)
class PackedVideo:
    """A video to pack.

    Attributes:
        key: Its name in the shard.
        path: The video as the list names it.
        file: Where what is packed lies now.
        size: Its bytes.
        rows: What the manifest says of it, one entry a row.
    """

    key: str
    path: str
    file: str
    size: int
    rows: list[dict[str, Any]]


def pack_shards(config: ShardsConfig, *, progress: bool = True) -> Path:
    """Write the shards, their manifest, `index.json` (counts, sizes, checksums) and `SHA256SUMS`.

    Each shard is complete or absent: it is written under another name first. Shards that are there already, of the same
    videos, are left alone.

    Where videos are encoded anew each is encoded whole, whatever stretches of it the rows name: the rows then still
    hold, and say what a check of the file finds. `transcoded.jsonl` keeps the quality of each, or why it was left out.

    Args:
        config: What is packed.
        progress: Show a progress bar (on a terminal).

    Returns:
        The manifest.

    Raises:
        DataError: A video is missing, or the folder holds shards of other videos.
        TooManyBadVideos: Of videos to be encoded more than the allowed share cannot be read.
        UsageError: The folder cannot be written to, or another process packs into it.
        CommandError: The disk is full.
    """
    records = load_videos(config.videos, config.split)
    files = {path: (path, _size(path)) for path in dict.fromkeys(record.path for record in records)}
    folder = writable_folder(config.output)
    with locked_folder(folder, "packed into"):
        if config.transcode.short_side is not None:
            return _pack_transcoded(config, folder, records, files, progress)
        shards = list(_plan(records, files, config.shard_mb * 1e6))
        _claim(folder, config.videos, [[(video.path, video.size, video.rows) for video in shard] for shard in shards])
        _write_lists(folder, records, shards, _write_all(folder, shards, config.num_workers, progress), {})
        return folder / MANIFEST


def _pack_transcoded(
    config: ShardsConfig,
    folder: Path,
    records: Sequence[VideoRecord],
    files: dict[str, tuple[str, int]],
    progress: bool,
) -> Path:
    claimed = {item: getattr(config.transcode, item) for item in ("short_side", "gop", "crf")}
    sizes = {path: size for path, (_, size) in files.items()}
    _claim(folder, config.videos, [claimed, config.shard_mb, [_known(record) for record in records], sizes])
    parts = transcode_list(
        folder, _rates(records), sizes, config.transcode, num_workers=config.num_workers, progress=progress
    )
    seen = [with_finding(record, parts[record.path].finding) for record in records]
    good = [record for record in seen if not isinstance(record, BadVideo)]
    bad = {video.path: video for video in seen if isinstance(video, BadVideo)}
    if not good:
        raise NoUsableVideos(
            f"{config.videos}: not one of its {len(files)} videos can be read:\n{name_some([*bad.values()])}"
        )
    for path, video in bad.items():
        if parts[path].finding.reason is None:  # else the log has it
            _log.warning("left out a stretch of %s", video)
    made = {path: (str(folder / PARTS / part.file), part.size) for path, part in parts.items() if part.file is not None}
    shards = list(_plan(good, made, config.shard_mb * 1e6))
    done = _write_all(folder, shards, config.num_workers, progress, consume=True)
    quality = _quality(parts)
    _log.info(
        "%d videos of %.2f GB became %.2f GB; their frames' PSNR to the resized source is %.1f dB on average, %.1f dB "
        "at worst (%s)",
        len(made),
        sum(sizes[path] for path in made) / 1e9,
        sum(size for _, size in made.values()) / 1e9,
        quality["mean"],
        quality["worst"],
        quality["worst_video"],
    )
    left_out = [{"path": video.path, "reason": video.reason} for video in bad.values()]
    _write_lists(folder, good, shards, done, {"transcode": claimed, "psnr": quality, "left_out": left_out})
    shutil.rmtree(folder / PARTS, ignore_errors=True)
    return folder / MANIFEST


def _rates(records: Sequence[VideoRecord]) -> dict[str, float | None]:
    """The paths, each with the rate that its first row states which states one."""
    rates: dict[str, float | None] = {}
    for record in records:
        rates[record.path] = rates.get(record.path) or record.fps
    return rates


def _quality(parts: Mapping[str, Part]) -> dict[str, Any]:
    """PSNR over the videos, dB."""
    known = {path: part.psnr for path, part in parts.items() if part.psnr is not None}
    worst = min(known, key=known.__getitem__)
    return {"mean": round(statistics.fmean(known.values()), 3), "worst": known[worst], "worst_video": worst}


def _plan(
    records: Sequence[VideoRecord], files: Mapping[str, tuple[str, int]], shard_bytes: float
) -> Iterator[list[PackedVideo]]:
    """Which videos go into which shard: depends on the list and the sizes of the files to pack alone."""
    rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for record in records:
        rows[record.path].append({**_known(record), "path": Path(record.path).name})
    paths = list(rows)
    order = np.random.Generator(np.random.Philox(key=_SHUFFLE_SEED)).permutation(len(paths))
    shard: list[PackedVideo] = []
    filled = 0
    for place in order.tolist():
        path = paths[place]
        shard.append(PackedVideo(f"{place:08d}", path, *files[path], rows[path]))
        filled += shard[-1].size
        if filled >= shard_bytes:
            yield shard
            shard, filled = [], 0
    if shard:
        yield shard


def _known(record: VideoRecord) -> dict[str, Any]:
    return {name: value for name, value in asdict(record).items() if value not in (None, ())}


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


def _claim(folder: Path, videos: str, plan: Any) -> None:
    """Make sure that what the folder holds, if anything, belongs to the same plan: what is packed, and how."""
    identity = hashlib.sha256(json.dumps(plan).encode()).hexdigest()
    index = folder / INDEX
    if index.exists():
        try:
            earlier = json.loads(index.read_text(encoding="utf-8"))["plan"]
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise DataError(f"{index}: is not an index of shards; choose another output folder") from error
        if earlier != identity:
            raise DataError(
                f"{folder}: holds shards of other videos than {videos} now lists, or of another shard_mb or transcode; "
                "choose another output folder, or delete this one"
            )
    elif any(folder.glob("*.tar")):
        raise DataError(f"{folder}: holds tar files but no {INDEX}; choose another output folder")
    else:
        write_json(index, {"plan": identity, "complete": False})


def _shard_path(folder: Path, number: int) -> Path:
    return folder / f"shard-{number:06d}.tar"


def _write_all(
    folder: Path, shards: list[list[PackedVideo]], num_workers: int, progress: bool, *, consume: bool = False
) -> list[dict[str, Any]]:
    """Write the shards that are not there; what `write_shard` returned for each of all.

    Args:
        folder: Where to.
        shards: What goes into which.
        num_workers: Processes.
        progress: Show a progress bar (on a terminal).
        consume: Delete the packed files, shard by shard, so that their room is needed once.
    """
    done: dict[int, dict[str, Any]] = {}
    for number in range(len(shards)):
        earlier = _finished(_shard_path(folder, number))
        if earlier is not None:
            done[number] = earlier
    sizes = [sum(video.size for video in shard) for shard in shards]
    open_sizes = sorted(size for number, size in enumerate(sizes) if number not in done)
    needed = sum(open_sizes[-num_workers:] if consume else open_sizes)
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
        with ctrl_c_held():
            waiting = {
                executor.submit(write_shard, _shard_path(folder, number), shard): number
                for number, shard in enumerate(shards)
                if number not in done
            }
        for future in as_completed(waiting):
            number = waiting[future]
            done[number] = future.result()
            for video in shards[number] if consume else ():
                Path(video.file).unlink(missing_ok=True)
            bar.update(sizes[number])
    except VideoError as error:
        if consume:
            raise DataError(f"{error}, though it was written here; delete {folder} and start again") from error
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
            extension, content = _content(video.file)
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
    folder: Path,
    records: Sequence[VideoRecord],
    shards: list[list[PackedVideo]],
    done: list[dict[str, Any]],
    remarks: dict[str, Any],
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
    write_json(folder / INDEX, {"plan": plan, "complete": True, **totals, **remarks, "shards": listed})
