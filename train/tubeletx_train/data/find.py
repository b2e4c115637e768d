"""Finds videos below a folder, and listed videos among them whatever their layout and file type."""

from __future__ import annotations

import itertools
import logging
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from tubeletx_train.data.errors import DataError

_log = logging.getLogger(__name__)

VIDEO_EXTENSIONS = frozenset(
    ".3gp .asf .avi .flv .m2ts .m4v .mkv .mov .mp4 .mpeg .mpg .mts .mxf .ogv .ts .vob .webm .wmv".split()  # noqa: SIM905 - reads better
)
ZIP_EXTENSION = ".zip"

# Frames as tools write them: img_00001.jpg, image_00001.png, frame000001.jpg, 1.jpeg.
_FRAME_NAME = re.compile(r".*\d\.(bmp|jpe?g|png|tiff?|webp)", re.IGNORECASE)


def is_frame_name(name: str) -> bool:
    """Whether a file's name is that of a numbered picture."""
    return _FRAME_NAME.fullmatch(name) is not None


def find_videos(root: str | Path) -> Iterator[Path]:
    """Find videos to any depth, in no certain order.

    A video is a file with one of `VIDEO_EXTENSIONS`, a zip, or a folder that holds numbered pictures and no other video
    to any depth; numbered pictures beside videos are left out and logged. Hidden files and folders are left out, links
    to folders followed; names that are not UTF-8, and links that lead nowhere, are left out and logged.

    Args:
        root: Folder.

    Yields:
        Absolute paths.

    Raises:
        DataError: `root` is no folder, or one below it cannot be read.
    """
    root = Path(root).absolute()
    if not root.is_dir():
        raise DataError(f"{root}: is not a folder")
    return _walk(str(root), set())


def _walk(folder: str, seen: set[tuple[int, int]]) -> Iterator[Path]:
    try:
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:  # links may go in circles
            return
        seen.add((status.st_dev, status.st_ino))
        with os.scandir(folder) as listing:
            entries = [entry for entry in listing if not entry.name.startswith(".") and _is_printable(entry)]
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror})") from error
    folders = []
    videos = []
    frames = 0
    for entry in entries:
        # By name first: asking for the kind of each of the frames of a large data set takes its time.
        if is_frame_name(entry.name):
            frames += 1
            continue
        named_video = os.path.splitext(entry.name)[1].lower() in VIDEO_EXTENSIONS | {ZIP_EXTENSION}
        try:
            if named_video and entry.is_file():
                videos.append(Path(entry.path))
            elif entry.is_dir():
                folders.append(entry.path)
            elif named_video:
                _log.warning("left out %s: a link to nothing, or neither a file nor a folder", entry.path)
        except OSError as error:  # a link that leads to itself, or where nobody may look
            _log.warning("left out %s: %s", entry.path, error.strerror)
    found = itertools.chain(videos, itertools.chain.from_iterable(_walk(inner, seen) for inner in folders))
    if not frames:
        yield from found
        return
    first = next(found, None)
    if first is None:
        yield Path(folder)
        return
    _log.warning("left out the %d numbered pictures in %s: videos lie there too, such as %s", frames, folder, first)
    yield first
    yield from found


def _is_printable(entry: os.DirEntry[str]) -> bool:
    """Whether a name can be written in a manifest; one that cannot is reported."""
    try:
        entry.name.encode()
    except UnicodeEncodeError:
        _log.warning("left out %a: its name is not UTF-8", entry.path)
        return False
    return True


def video_stem(name: str) -> str:
    """A listed name or path without the extension of a video; other dots stay."""
    stem, extension = os.path.splitext(name)
    return stem if extension.lower() in VIDEO_EXTENSIONS | {ZIP_EXTENSION} else name


class VideoIndex:
    """Looks up listed videos: by path, else by name wherever they lie and whatever their extension."""

    def __init__(self, paths: Iterable[Path]) -> None:
        """Make an index of what `find_videos` found."""
        self._by_name: dict[str, list[str]] = defaultdict(list)
        for path in paths:
            self._by_name[video_stem(path.name)].append(str(path))

    def find(self, listed: str) -> str | None:
        """The path of a listed video, such as `Archery/v_Archery_g01_c01.avi` or `kIRmvrmc2nM_000020_000030`.

        Returns:
            Its path, None where there is none.

        Raises:
            DataError: Several files may be meant.
        """
        found = self._by_name.get(video_stem(PurePosixPath(listed).name), [])
        if len(found) > 1:
            ending = "/" + video_stem(listed)
            found = [path for path in found if video_stem(path).endswith(ending)] or found
        if len(found) > 1:
            raise DataError(
                f"{listed} may be any of {', '.join(sorted(found))}; leave one of them, or give a root that holds one"
            )
        return found[0] if found else None
