"""The order of a clip's axes, and the way to (B, C, T, H, W) and back."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = ["FLATTENED", "Axes", "axes_of", "check_layout", "is_bytes"]

FLATTENED = "(BT)CHW"
_CANONICAL = "BCTHW"
# Of decoders and of other libraries, to name the one that fits a clip.
_COMMON = ("TCHW", "CTHW", "THWC", "BTCHW", "BTHWC", "BCTHW")
_MOST_CHANNELS = 4
# Where the axes of (B, C, T, H, W) stand in each of their orders.
_PLACES = {
    "".join(letters): [letters.index(axis) for axis in _CANONICAL] for letters in itertools.permutations(_CANONICAL)
}


@dataclasses.dataclass
class Axes:
    """How the axes of clips lie, and the way to (B, C, T, H, W) and back, without copies."""

    letters: str
    given: tuple[int, ...]  # shape as it came
    whole: tuple[int, ...]  # shape with all of the letters' axes

    @property
    def batch(self) -> int:
        """B."""
        return self.whole[self.letters.index("B")]

    def arrange(self, clip: Tensor | npt.NDArray[Any], name: str = "clips") -> Tensor:
        """A view of (B, C, T, H, W)."""
        if tuple(clip.shape) != self.given:
            raise ValueError(f"{name}: got shapes {self.given} and {tuple(clip.shape)}, needs equal ones")
        if self.letters == _CANONICAL and self.given == self.whole and isinstance(clip, Tensor):
            return clip
        order = _PLACES[self.letters]
        if isinstance(clip, np.ndarray):
            # A tenth of the time that torch takes for it. It only splits axes, which never copies.
            return torch.from_numpy(clip.reshape(self.whole).transpose(order))
        return clip.view(self.whole).permute(order)

    def restore(self, clip: Tensor) -> Tensor:
        """The axes as they came."""
        return clip.permute([_CANONICAL.index(axis) for axis in self.letters]).reshape(self.given)


def is_bytes(clip: Tensor | npt.NDArray[Any]) -> bool:
    """Whether the clip holds uint8."""
    # Comparing a NumPy dtype with one of torch would cost microseconds.
    return bool(clip.dtype == (np.uint8 if isinstance(clip, np.ndarray) else torch.uint8))


def check_layout(layout: str | None) -> None:
    """Refuses what is no layout."""
    if layout is None or layout == FLATTENED:
        return
    if not isinstance(layout, str):
        raise TypeError(f"layout: got {layout!r}, needs a string, such as 'BTHWC', or None")
    if set(layout) | {"B"} != set(_CANONICAL):
        raise ValueError(f"layout: got {layout!r}, needs an order of the letters BCTHW, of CTHW, or '{FLATTENED}'")
    if len(set(layout)) != len(layout):
        raise ValueError(f"layout: got {layout!r}, which repeats an axis")


def axes_of(clip: Tensor | npt.NDArray[Any], layout: str | None, batch: int, name: str = "clips") -> Axes:
    """The axes of a clip of `batch` samples.

    Raises:
        ValueError: The clip has other axes than `layout`; or no layout is given and the usual one would take another
            axis of a uint8 clip for its channels.
    """
    shape = tuple(clip.shape)
    letters = layout or (_CANONICAL if len(shape) == 5 else "THWC")
    if letters == FLATTENED:
        if len(shape) != 4 or batch == 0 or shape[0] % batch:
            raise ValueError(f"{name}: got shape {shape}, needs (B T, C, H, W) with B = {batch} samples")
        return Axes("BTCHW", shape, (batch, shape[0] // batch, *shape[1:]))
    if len(shape) == 4:
        letters = letters.replace("B", "")
    if len(shape) != len(letters):
        raise ValueError(f"{name}: got shape {shape}, needs the axes {letters}")
    channels = shape[letters.index("C")]
    if layout is None and is_bytes(clip) and not 1 <= channels <= _MOST_CHANNELS:
        fitting = [
            f"{other!r}"
            for other in _COMMON
            if len(other) == len(shape) and 1 <= shape[other.index("C")] <= _MOST_CHANNELS
        ]
        needs = f"layout={' or '.join(fitting)}" if fitting else "`layout`, the order of its axes"
        raise ValueError(f"{name}: got shape {shape}, of {channels} channels if the axes are {letters}; needs {needs}")
    return Axes(letters, shape, shape) if "B" in letters else Axes("B" + letters, shape, (1, *shape))
