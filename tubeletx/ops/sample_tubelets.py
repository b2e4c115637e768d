"""The fused tubelet sampler."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from tubeletx import _C
from tubeletx._library import operator
from tubeletx.ops import _arguments as arguments

__all__ = ["FIELDS", "PackedTubelets", "sample_packed", "sample_tubelets", "setting_lengths"]

_operator = operator("sample_tubelets")

TubeletFields = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


class PackedTubelets(NamedTuple):
    """All fields of B x M tubelets over T frames as the operators give them: a tensor more costs a microsecond a call.

    Attributes:
        numbers: The float32 fields one after the other, each contiguous; (B M (7 T + 1),).
        integers: The int32 fields likewise; (7 B M,).
        batch: B.
        tubelets: M.
        frames: T.
    """

    numbers: Tensor
    integers: Tensor
    batch: int
    tubelets: int
    frames: int

    def field(self, name: str) -> Tensor:
        """A view of one of `FIELDS`."""
        is_integer, start, has_frames, axes = _PLACES[name]
        frames = 1 if is_integer else self.frames
        count = self.batch * self.tubelets
        shape = (self.batch, self.tubelets, *((self.frames,) if has_frames else ()), *axes)
        first = start * count * frames
        block = self.integers if is_integer else self.numbers
        return block[first : first + math.prod(shape)].view(shape)

    def fields(self) -> TubeletFields:
        """Views of all of `FIELDS`, in that order."""
        return tuple(self.field(name) for name in FIELDS)  # type: ignore[return-value]


FIELDS = ("centers", "linear", "patch_frame", "patch_box", "shape", "edge", "opacity", "order")

# Whether the field is of integers, how many of a tubelet's stand before it (where of numbers, times T), whether it has
# an axis of frames, and its further axes: as fields_in of csrc/core/tubelet_sampler.h lays them out.
_PLACES: dict[str, tuple[bool, int, bool, tuple[int, ...]]] = {
    "centers": (False, 0, True, (2,)),
    "linear": (False, 2, True, (2, 2)),
    "opacity": (False, 6, True, ()),
    "edge": (False, 7, False, ()),
    "patch_frame": (True, 0, False, ()),
    "patch_box": (True, 1, False, (4,)),
    "shape": (True, 5, False, ()),
    "order": (True, 6, False, ()),
}


def setting_lengths() -> dict[str, int]:
    """Names of the sampler's settings and how many numbers each has, in the order of the list that it takes."""
    return dict(_C.sampler_settings())


def sample_tubelets(
    sample_ids: Tensor,
    settings: Sequence[float],
    *,
    num_frames: int,
    height: int,
    width: int,
    seed: int = 0,
    epoch: int | Tensor = 0,
) -> TubeletFields:
    """Draws the M tubelets of each sample in one launch (sections 3.1 to 3.3 of the paper).

    The draws are a pure function of (seed, sample id, epoch, settings, T, H, W): the same on every device, at any batch
    size and position in the batch. `TubeletConfig.settings()` makes the list of settings, and `TubeletSampler` calls
    this with it.

    Args:
        sample_ids: What tells the samples apart, any integers; (B,), int64.
        settings: The sampler's settings, flattened in the order of `setting_lengths()`.
        num_frames: T, frames of a clip.
        height: H, pixels.
        width: W, pixels.
        seed: Key of the random stream, any 64-bit integer, signed or not.
        epoch: From 0 to 2^32 - 1; another epoch draws other tubelets. A tensor of one element, int64, is read by the
            operator: on the device of `sample_ids` a captured graph draws anew when it changes. There it is taken
            modulo 2^32, since its value cannot be looked at.

    Returns:
        The fields of `Tubelets` on the device of `sample_ids`, contiguous:
            centers: (B, M, T, 2) float32, pixels, [x, y].
            linear: (B, M, T, 2, 2) float32, from patch axes to image axes.
            patch_frame: (B, M) int32, the frame of clip 1 that the patch is cropped from.
            patch_box: (B, M, 4) int32, x0, y0, x1, y1 of the patch in that frame, half open, inside the frame.
            shape: (B, M) int32, 0 rectangle, 1 ellipse, 2 rhombus.
            edge: (B, M) float32, width of the soft edge in units of the half size, 0 for a hard one.
            opacity: (B, M, T) float32.
            order: (B, M) int32, paint rank; rank 0, painted first, has the largest mean area.

    Raises:
        ValueError: `sample_ids` is not (B,) int64, a size is not positive, `epoch` is out of range, or a setting is
            missing or out of its range; the message names it.
        TypeError: `sample_ids` is no tensor, or a size, `seed` or `epoch` no integer.
    """
    return sample_packed(sample_ids, settings, num_frames, height, width, seed, epoch).fields()


def sample_packed(
    sample_ids: Tensor,
    settings: Sequence[float],
    num_frames: int,
    height: int,
    width: int,
    seed: int,
    epoch: int | Tensor,
) -> PackedTubelets:
    """What `sample_tubelets` does, with fields that are cut out when they are wanted."""
    arguments.require_tensors(sample_ids=sample_ids)
    num_frames = arguments.require_integer(num_frames, "num_frames")
    epoch_tensor, epoch = (epoch, 0) if isinstance(epoch, Tensor) else (None, arguments.require_integer(epoch, "epoch"))
    numbers, integers = _operator(
        sample_ids,
        arguments.signed_seed(seed),
        epoch,
        num_frames,
        arguments.require_integer(height, "height"),
        arguments.require_integer(width, "width"),
        settings,
        epoch_tensor,
    )
    return PackedTubelets(numbers, integers, sample_ids.shape[0], int(settings[0]), num_frames)


def fake(
    sample_ids: Tensor,
    seed: int,  # noqa: ARG001
    epoch: int,
    num_frames: int,
    height: int,
    width: int,
    settings: Sequence[float],
    epoch_tensor: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The operator on tensors without values."""
    arguments.check_samples(sample_ids, epoch, epoch_tensor)
    for name, value in (("num_frames", num_frames), ("height", height), ("width", width)):
        arguments.check_positive(value, name)
    needed = sum(setting_lengths().values())
    if len(settings) != needed:
        raise ValueError(f"settings: got {len(settings)} numbers, needs {needed}")
    count = sample_ids.shape[0] * int(settings[0])  # the first setting is the number of tubelets
    return (
        sample_ids.new_empty(count * (7 * num_frames + 1), dtype=torch.float32),
        sample_ids.new_empty(count * 7, dtype=torch.int32),
    )


torch.library.register_fake("tubeletx::sample_tubelets", fake)
