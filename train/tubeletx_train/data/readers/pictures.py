"""Videos that are sequences of numbered pictures: folders of them, and zips."""

from __future__ import annotations

import os
import re
import zipfile
import zlib
from abc import abstractmethod
from collections.abc import Iterable
from typing import IO

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from tubeletx_train.data.errors import VideoError
from tubeletx_train.data.find import is_frame_name
from tubeletx_train.data.readers.media import Media
from tubeletx_train.data.readers.protocol import DEFAULT_FPS, BaseReader, scaled_size

# No frame of a video is as large; what claims to be is a trap.
_MAX_PICTURE_BYTES = 1 << 28
# The EXIF field that says how a camera was held.
_ORIENTATION = 0x0112


class PictureReader(BaseReader):
    """Numbered pictures in the order of their numbers, whichever the first is."""

    def __init__(self, path: str, names: Iterable[str], short_side: int | None) -> None:
        super().__init__(path)
        self._short_side = short_side
        self._names = sorted((name for name in names if is_frame_name(os.path.basename(name))), key=_by_number)
        if not self._names:
            raise VideoError(path, "holds no numbered pictures")

    @property
    def num_frames(self) -> int:
        """Pictures there are."""
        return len(self._names)

    @property
    def fps(self) -> float:
        """Pictures do not tell their rate: always 25."""
        return DEFAULT_FPS

    @abstractmethod
    def _open(self, name: str) -> IO[bytes]:
        """A picture's bytes."""

    def _decode(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        frames = [self._picture(self._names[index]) for index in indices.tolist()]
        if len({frame.shape for frame in frames}) > 1:
            raise VideoError(self._path, "its pictures differ in size")
        return np.stack(frames)

    def _picture(self, name: str) -> npt.NDArray[np.uint8]:
        try:
            with self._open(name) as file, Image.open(file) as image:
                width, height = scaled_size(image.width, image.height, self._short_side)
                # A JPEG is decoded at half or a quarter of its size where that is enough.
                image.draft("RGB", (width, height))
                on_its_side = image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
                size = (height, width) if on_its_side else (width, height)
                picture = _eight_bits(ImageOps.exif_transpose(image)).convert("RGB")
                if picture.size != size:
                    picture = picture.resize(size, Image.Resampling.BILINEAR)
                return np.asarray(picture)
        except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
            raise VideoError(self._path, f"{name} cannot be decoded ({_line(error)})") from None
        except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError) as error:
            raise VideoError(self._path, f"{name} cannot be unpacked ({_line(error)})") from None


class FolderReader(PictureReader):
    """A folder of pictures, such as `img_00001.jpg`."""

    def __init__(self, path: str, short_side: int | None) -> None:
        try:
            names = os.listdir(path)
        except OSError as error:
            raise VideoError(path, f"cannot be read ({error.strerror})") from None
        super().__init__(path, (name for name in names if not name.startswith(".")), short_side)

    def _open(self, name: str) -> IO[bytes]:
        return open(os.path.join(self._path, name), "rb")


class ZipReader(PictureReader):
    """A zip of pictures, stored or compressed, as the released code keeps its videos."""

    def __init__(self, media: Media, short_side: int | None) -> None:
        try:
            self._zip = zipfile.ZipFile(media.source())
            names = [
                info.filename for info in self._zip.infolist() if not os.path.basename(info.filename).startswith(".")
            ]
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            raise VideoError(media.path, f"cannot be opened as a zip ({_line(error)})") from None
        super().__init__(media.path, names, short_side)

    def _open(self, name: str) -> IO[bytes]:
        if self._zip.getinfo(name).file_size > _MAX_PICTURE_BYTES:
            raise ValueError(f"claims to hold more than {_MAX_PICTURE_BYTES} bytes")
        return self._zip.open(name)


def _eight_bits(image: Image.Image) -> Image.Image:
    """A picture of 16-bit grey levels in 8 bits, which Pillow would cut off at 255; others as they are."""
    if not image.mode.startswith("I"):
        return image
    levels = np.clip(np.asarray(image).astype(np.int64), 0, 65535)
    return Image.fromarray(((levels + 128) // 257).astype(np.uint8))


def _by_number(name: str) -> list[tuple[int, str]]:
    """Orders frame2 before frame10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
