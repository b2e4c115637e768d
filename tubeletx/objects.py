"""Images of objects, with their own opacity, as patches of tubelets."""

from __future__ import annotations

import pathlib
import warnings
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from tubeletx.ops._arguments import check_shape, require_integer, require_tensors
from tubeletx.ops.paste_objects import choose_objects, fit_objects
from tubeletx.tubelets import Tubelets

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["ObjectPatches"]


class ObjectPatches(nn.Module):
    """RGBA images to paste in place of patches of the clip, decoded once.

    Every image is cut to what it shows, shrunk to fit `size`, and kept as uint8 in that size and in halves of it, so
    that a small tubelet takes its colours from a small image and does not flicker. The cache lies in shared memory:
    loader workers, forked or spawned, read the one copy. It moves with `to(device)`.

    Example:
        >>> paste = PasteTubelets(TubeletConfig.preset("smile"), patches=ObjectPatches("objects/"))

    Attributes:
        names: Files of the images, sorted; the index of an object is that in this list.
        size: Longest side that an object is kept in, pixels.
    """

    _texels: Tensor
    _first_row: Tensor
    _sizes: Tensor

    def __init__(self, folder: str | pathlib.Path, size: int = 128) -> None:
        """Decodes every PNG of a folder.

        Args:
            folder: Holds `*.png` (or `*.PNG`), of any size; images without an alpha channel are opaque. A warning
                names what else it holds, folders included, which is left out.
            size: Longest side to keep, pixels: that of the largest tubelets, or less to save memory. An object takes
                about 7 size^2 bytes.

        Raises:
            ValueError: The folder holds no PNG, or one that cannot be read or that shows nothing; the message names it.
            ImportError: Pillow is not installed; tubeletx itself does not need it.
        """
        if not pathlib.Path(folder).is_dir():
            raise ValueError(f"folder: {folder} is no folder")
        entries = sorted(entry for entry in pathlib.Path(folder).glob("*") if not entry.name.startswith("."))
        files = [entry for entry in entries if entry.suffix.lower() == ".png" and entry.is_file()]
        if not files:
            raise ValueError(f"folder: {folder} holds no *.png")
        others = [entry.name for entry in entries if entry not in set(files)]
        if others:
            names = ", ".join(others[:_NAMES_SHOWN]) + (" ..." if len(others) > _NAMES_SHOWN else "")
            warnings.warn(f"folder: {folder} holds what is no PNG, and left out: {names}", stacklevel=2)
        super().__init__()
        self._fill([file.name for file in files], (_read(file) for file in files), size)

    @classmethod
    def from_images(cls, images: Sequence[npt.NDArray[np.uint8]], size: int = 128) -> ObjectPatches:
        """Takes images from memory.

        Args:
            images: Arrays of (H, W, 4) uint8, RGBA, not premultiplied.
            size: Longest side to keep, pixels.

        Raises:
            ValueError: An image has another shape or dtype, or shows nothing; the message names it.
        """
        if not len(images):
            raise ValueError("images: got none, needs at least one")
        objects = cls.__new__(cls)
        nn.Module.__init__(objects)
        names = [f"images[{index}]" for index in range(len(images))]
        objects._fill(names, (_from_array(*pair) for pair in zip(names, images, strict=True)), size)
        return objects

    def __len__(self) -> int:
        """Number of objects."""
        return len(self.names)

    def draw(
        self, tubelets: Tubelets, sample_ids: Tensor, *, seed: int = 0, epoch: int | Tensor = 0
    ) -> tuple[Tensor, Tubelets]:
        """Draws an object for each tubelet, each with the same chance, from (seed, sample id, epoch) and nothing else.

        Args:
            tubelets: Drawn for the samples; B of them.
            sample_ids: What tells the samples apart; (B,) int64.
            seed: Any 64-bit integer, signed or not.
            epoch: From 0 to 2^32 - 1, or a tensor of one such integer, int64.

        Returns:
            RGBA patches, (B, M, 4, size, size) uint8, and the tubelets fitted to them: `fitted.paste(clips, patches)`
            stretches each object to the box of its tubelet. Boxes and coverage stay those of `tubelets`.

        Raises:
            ValueError: An argument is out of range, or there is not one sample id for each of the tubelets' samples.
            TypeError: An argument has another type.
        """
        require_tensors(sample_ids=sample_ids)
        check_shape(sample_ids, "sample_ids", (len(tubelets),), "one id for each sample of tubelets")
        objects = self.choose(sample_ids, tubelets.num_tubelets, seed=seed, epoch=epoch)
        patches, size = fit_objects(*self.images, objects, tubelets.patch_size)
        return patches, tubelets.fitted(size, (self.size, self.size))

    def choose(self, sample_ids: Tensor, num_tubelets: int, *, seed: int = 0, epoch: int | Tensor = 0) -> Tensor:
        """Indices of the objects that `draw` gives to the tubelets of these samples; (B, M) int64."""
        return choose_objects(sample_ids, num_tubelets, len(self), seed=seed, epoch=epoch)

    @property
    def images(self) -> tuple[Tensor, Tensor, Tensor]:
        """All images, as `tubeletx.ops.paste_objects_` takes them."""
        return self._texels, self._sizes, self._first_row

    def extra_repr(self) -> str:
        """Their number and size, for `print`."""
        return f"{len(self)} objects, size={self.size}"

    def _fill(self, names: list[str], images: Iterable[Image.Image], size: int) -> None:
        size = require_integer(size, "size")
        if size < 1:
            raise ValueError(f"size: got {size}, needs a positive number of pixels")
        self.names = names
        self.size = size
        heights = [size]
        while heights[-1] > _SMALLEST:
            heights.append((heights[-1] + 1) // 2)
        rows_per_object = sum(heights)
        # The last object's rows are read past their end as if it were `size` high.
        texels = np.zeros((len(names) * rows_per_object + size, size, 4), np.uint8)
        sizes = np.zeros((len(names), len(heights), 2), np.int32)
        for index, image in enumerate(images):
            row = index * rows_per_object
            for level, height in enumerate(heights):
                shrunk = _shrink(image, height)
                texels[row : row + shrunk.height, : shrunk.width] = np.asarray(shrunk)
                sizes[index, level] = shrunk.size
                row += height
        first_row = np.cumsum([0, *heights[:-1]])
        for name, array in (("_texels", texels.reshape(len(texels), -1)), ("_first_row", first_row), ("_sizes", sizes)):
            shared = torch.from_numpy(array).share_memory_()  # type: ignore[no-untyped-call]
            self.register_buffer(name, shared, persistent=False)


_SMALLEST = 16  # pixels: tubelets are not much smaller
_NAMES_SHOWN = 5


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError("tubeletx.ObjectPatches needs Pillow: pip install pillow") from error
    return Image


def _read(file: pathlib.Path) -> Image.Image:
    pillow = _pillow()
    try:
        with pillow.open(file) as image:
            return _cut(str(file), image.convert("RGBA"))
    except (OSError, SyntaxError, pillow.DecompressionBombError) as error:  # what Pillow raises for broken PNGs
        raise ValueError(f"folder: {file} cannot be read as an image: {error}") from error


def _from_array(name: str, image: npt.NDArray[np.uint8]) -> Image.Image:
    if not isinstance(image, np.ndarray):
        raise TypeError(f"{name}: got {type(image).__name__}, needs a NumPy array")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 4:
        raise ValueError(f"{name}: got {image.dtype} of shape {image.shape}, needs uint8 of (H, W, 4)")
    return _cut(name, _pillow().fromarray(np.ascontiguousarray(image)))


def _cut(name: str, image: Image.Image) -> Image.Image:
    box = image.getchannel("A").getbbox() if image.width and image.height else None
    if box is None:
        raise ValueError(f"{name}: shows nothing, its alpha is 0 everywhere")
    return image.crop(box)


def _shrink(image: Image.Image, size: int) -> Image.Image:
    """Fits the image into a square; a smaller one stays as it is. Colours weigh by their alpha."""
    scale = size / max(image.size)
    if scale >= 1:
        return image
    width, height = (max(1, round(side * scale)) for side in image.size)
    return image.resize((width, height), _pillow().Resampling.BOX)
