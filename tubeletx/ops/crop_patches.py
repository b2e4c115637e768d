"""Cropping the patches of tubelets out of a clip."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tubeletx._library import operator
from tubeletx.ops import _arguments as arguments

__all__ = ["crop_patches"]

_operator = operator("crop_patches")


def crop_patches(clip: Tensor, patch_frame: Tensor, patch_box: Tensor, size: tuple[int, int]) -> Tensor:
    """Cuts M patches out of each sample, padded with zeros on the right and below.

    Differentiable in `clip`.

    Args:
        clip: (B, C, T, H, W); uint8, float16, bfloat16, float32 or float64; any strides.
        patch_frame: (B, M) int32, the frame to cut from.
        patch_box: (B, M, 4) int32, half-open pixel corners x0, y0, x1, y1 inside the frame.
        size: (Hp, Wp) of the padded patches, pixels; every box must fit.

    Returns:
        (B, M, C, Hp, Wp) of the clip's dtype, the channels of a pixel side by side in memory.

    Raises:
        ValueError: An argument has the wrong shape, dtype, device or, on the CPU, value; the message names it.
        TypeError: An argument is no tensor, or `size` not of integers.
        NotImplementedError: `clip` carries a forward-mode tangent, or is differentiated by `torch.func`.
    """
    arguments.require_tensors(clip=clip, patch_frame=patch_frame, patch_box=patch_box)
    arguments.refuse_tangents("crop_patches", clip=clip)
    sides = arguments.require_integers(size, "size")
    if len(sides) != 2:
        raise ValueError(f"size: got {sides}, needs (Hp, Wp)")
    height, width = sides
    return _operator(clip, patch_frame, patch_box, height, width)  # type: ignore[no-any-return]


def _fake(clip: Tensor, patch_frame: Tensor, patch_box: Tensor, height: int, width: int) -> Tensor:
    arguments.check_dtype(clip, "clip", *arguments.BYTES_OR_FLOATS)
    arguments.check_shape(clip, "clip", (None,) * 5, "(B, C, T, H, W)")
    arguments.check_positive(height, "height")
    arguments.check_positive(width, "width")
    batch, channels = clip.shape[:2]
    arguments.check_dtype(patch_frame, "patch_frame", torch.int32)
    arguments.check_shape(patch_frame, "patch_frame", (batch, None), "(B, M)")
    arguments.check_device(patch_frame, "patch_frame", clip, "clip")
    tubelets = patch_frame.shape[1]
    arguments.check_dtype(patch_box, "patch_box", torch.int32)
    arguments.check_shape(patch_box, "patch_box", (batch, tubelets, 4), "(B, M, 4)")
    arguments.check_device(patch_box, "patch_box", clip, "clip")
    return clip.new_empty((batch, tubelets, height, width, channels)).permute(0, 1, 4, 2, 3)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001
    clip, patch_frame, patch_box, _, _ = inputs
    ctx.clip_shape = clip.shape
    ctx.save_for_backward(patch_frame, patch_box)


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
    patch_frame, patch_box = (tensor.long() for tensor in ctx.saved_tensors)
    batch, channels, frames, height, width = ctx.clip_shape
    x0, y0, x1, y1 = patch_box[..., None, None, :].unbind(-1)
    rows = y0 + torch.arange(gradient.shape[-2], device=gradient.device)[:, None]
    columns = x0 + torch.arange(gradient.shape[-1], device=gradient.device)
    inside = (rows < y1) & (columns < x1)
    sample = torch.arange(batch, device=gradient.device)[:, None]
    image = (sample * frames + patch_frame)[..., None, None]
    # Padding is sent to pixel 0 with nothing to add, which needs no look at the values.
    place = ((image * height + rows) * width + columns).where(inside, 0)
    values = gradient.movedim(2, -1).where(inside[..., None], 0)
    pixels = gradient.new_zeros(batch * frames * height * width, channels)
    pixels.index_add_(0, place.flatten(), values.reshape(-1, channels))
    return pixels.view(batch, frames, height, width, channels).permute(0, 4, 1, 2, 3), None, None, None, None


torch.library.register_fake("tubeletx::crop_patches", _fake)
torch.library.register_autograd("tubeletx::crop_patches", _backward, setup_context=_setup_context)
