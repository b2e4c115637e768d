"""Clips without video: "dead leaves" that move, turn, grow and hide each other."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tubeletx._library import operator
from tubeletx.ops import _arguments as arguments

__all__ = ["draw_leaves"]

_operator = operator("draw_leaves")


def draw_leaves(
    sample_ids: Tensor,
    *,
    num_frames: int,
    height: int,
    width: int,
    seed: int = 0,
    epoch: int | Tensor = 0,
    num_leaves: int = 500,
    radius: Sequence[float] = (0.02, 0.4),
    motion: float = 0.25,
    camera: float = 0.1,
    turn: float = 90.0,
    growth: float = 0.3,
) -> Tensor:
    """Draws clips of textured shapes, from nothing but numbers.

    The model is that of dead leaves (Lee, Mumford, Huang, "Occlusion models for natural images", IJCV 2001): shapes at
    uniform places, whose radii have a density that falls with their cube, so that the picture has details at all
    scales, each before the ones after it. Here each moves, turns and grows along a smooth path of its own (a segment of
    a cubic B-spline), and all of them with a camera. Rectangles, ellipses and rhombi carry value noise between two
    shades of a colour, whose lightness differs more from leaf to leaf than its hue; a textured backdrop fills what they
    leave.

    A clip is a pure function of (seed, sample id, epoch) and the other arguments: the same on every device, at any
    batch size. With more leaves the ones in front stay as they were. Lengths are shares of the frame's shorter side, so
    that another size shows other pixels of a like scene.

    Args:
        sample_ids: What tells the samples apart, any integers; (B,), int64.
        num_frames: T, frames of a clip.
        height: H, pixels.
        width: W, pixels.
        seed: Key of the random stream, any 64-bit integer, signed or not.
        epoch: From 0 to 2^32 - 1; another epoch draws other clips. A tensor of one element, int64, as for
            `sample_tubelets`.
        num_leaves: Shapes before the backdrop, up to 32768.
        radius: The smallest and the largest radius; half the sides are the radius times and over a ratio.
        motion: How far the control points of the fastest leaves' paths lie from their places, up to.
        camera: The same for the path that all share.
        turn: The same for the angle, degrees.
        growth: The same for the logarithm of the scale.

    Returns:
        (B, 3, T, H, W) uint8 in channels_last_3d order, on the device of `sample_ids`.

    Raises:
        ValueError: `sample_ids` is not (B,) int64, or a number is out of range; the message names it.
        TypeError: `sample_ids` is no tensor, or a size, `seed` or `epoch` no integer.
    """
    arguments.require_tensors(sample_ids=sample_ids)
    if not isinstance(radius, Sequence):
        raise TypeError(f"radius: got {type(radius).__name__}, needs the smallest and the largest")
    epoch_tensor, epoch = (epoch, 0) if isinstance(epoch, Tensor) else (None, arguments.require_integer(epoch, "epoch"))
    return _operator(  # type: ignore[no-any-return]
        sample_ids,
        arguments.signed_seed(seed),
        epoch,
        arguments.require_integer(num_frames, "num_frames"),
        arguments.require_integer(height, "height"),
        arguments.require_integer(width, "width"),
        arguments.require_integer(num_leaves, "num_leaves"),
        list(radius),
        motion,
        camera,
        turn,
        growth,
        epoch_tensor,
    )


def _fake(
    sample_ids: Tensor,
    seed: int,  # noqa: ARG001
    epoch: int,
    num_frames: int,
    height: int,
    width: int,
    num_leaves: int,  # noqa: ARG001
    radius: Sequence[float],
    motion: float,  # noqa: ARG001
    camera: float,  # noqa: ARG001
    turn: float,  # noqa: ARG001
    growth: float,  # noqa: ARG001
    epoch_tensor: Tensor | None = None,
) -> Tensor:
    arguments.check_samples(sample_ids, epoch, epoch_tensor)
    for name, value in (("num_frames", num_frames), ("height", height), ("width", width)):
        arguments.check_positive(value, name)
    if len(radius) != 2:
        raise ValueError(f"radius: got {len(radius)} numbers, needs the smallest and the largest")
    shape = (sample_ids.shape[0], num_frames, height, width, 3)
    return sample_ids.new_empty(shape, dtype=torch.uint8).permute(0, 4, 1, 2, 3)


torch.library.register_fake("tubeletx::draw_leaves", _fake)
