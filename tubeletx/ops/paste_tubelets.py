"""Pasting tubelets onto clips: affine compositing of M patches over T frames of V clips at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tubeletx._library import operator
from tubeletx.ops import _arguments as arguments

__all__ = ["paste_tubelets", "paste_tubelets_"]

_operator = operator("paste_tubelets")
_bytes_operator = operator("paste_tubelets", "bytes")
_operator_ = operator("paste_tubelets_")
_backward_operator = operator("paste_tubelets_backward")


def paste_tubelets(
    clips: Sequence[Tensor],
    patches: Tensor,
    patch_size: Tensor,
    centers: Tensor,
    linear: Tensor,
    shape: Tensor,
    edge: Tensor,
    opacity: Tensor,
    order: Tensor,
    offsets: Tensor | None = None,
) -> list[Tensor]:
    """Pastes M tubelets onto each of V clips and returns the new clips.

    A pixel centre p of frame t shows the patch at q = linear^-1 (p - center - offset), in patch pixels from the patch
    centre. With w x h the patch size, the distance from the centre in half sizes is d = max(|q_x| / (w / 2),
    |q_y| / (h / 2)) for a rectangle, the Euclidean norm of the two for an ellipse and their sum for a rhombus. The mask
    is d < 1 where the edge is hard, with the left and the upper straight edges (d = 1) but not their opposites, else
    clip((1 - d) / edge, 0, 1); it is multiplied by the opacity, clamped to [0, 1], and by the patch's own alpha, and
    the bilinear sample of the patch (its border extended outwards) is blended over the clip. Every tubelet reads what
    the one before it left, rounded to the dtype of the clips.

    On uint8 clips the arithmetic is in integers, so that the results are the same bits on every processor, in every
    layout and for any number of threads; within a level of the formula above (csrc/core/paste_bytes.h defines them).
    Otherwise it is float32 (float64 for float64 clips) in one fixed order. Only the footprints are visited.

    Differentiable in `clips` and `patches` (alpha included) for floating-point clips, twice without alpha; the geometry
    gets no gradient.

    Args:
        clips: V clips, 1 to 8, of one shape (B, C, T, H, W), dtype and device; uint8 (0 to 255), float16, bfloat16,
            float32 or float64; any strides, fastest as `torch.channels_last_3d` with C = 3.
        patches: (B, M, C, Hp, Wp), shared by the clips, or (B, V, M, C, Hp, Wp), one set a clip; dtype of the clips.
            With C + 1 channels the last is the patch's own alpha: 0 to 255 for uint8, else 0 to 1. Colours are not
            premultiplied; the warp premultiplies them, so that edges stay clean.
        patch_size: (B, M, 2) int32, (width, height) of each patch inside its padded storage, pixels. An empty patch
            paints nothing.
        centers: (B, M, T, 2) float32, (x, y) of the patch centre in each frame, pixels; the centre of the first pixel
            of a frame is (0.5, 0.5).
        linear: (B, M, T, 2, 2) float32, patch axes to image axes. A frame where it is singular or shrinks the patch
            more than 2^20 times, or where it or the centre is not finite, is left as it is.
        shape: (B, M) int32: 0 rectangle, 1 ellipse, 2 rhombus.
        edge: (B, M) float32, width of the soft edge in half sizes of the patch, 0 for a hard edge.
        opacity: (B, M, T) float32; where it is not above 0 nothing is painted.
        order: (B, M) int32, paint rank: lowest first, so that the highest ends on top; equal ranks by index.
        offsets: (B, V, M, 2) float32, moves the path of a tubelet in each clip, pixels.

    Returns:
        V new clips with the strides that `torch.empty_like` gives.

    Raises:
        ValueError: An argument has the wrong shape, dtype, device or, on the CPU, value, or the geometry requires a
            gradient; the message names it.
        TypeError: An argument is no tensor.
        NotImplementedError: An argument carries a forward-mode tangent or is differentiated by `torch.func`, or a
            second derivative of pasting with alpha is asked for.
    """
    clips = list(clips)
    geometry = (patch_size, centers, linear, shape, edge, opacity, order, offsets)
    _check(clips, patches, *geometry)
    # Without a gradient to prepare for, which takes longer than a small paste.
    call = _bytes_operator if clips and clips[0].dtype == torch.uint8 else _operator
    return call(clips, patches, *geometry)  # type: ignore[no-any-return]


def paste_tubelets_(
    clips: Sequence[Tensor],
    patches: Tensor,
    patch_size: Tensor,
    centers: Tensor,
    linear: Tensor,
    shape: Tensor,
    edge: Tensor,
    opacity: Tensor,
    order: Tensor,
    offsets: Tensor | None = None,
) -> None:
    """Pastes M tubelets onto V clips in place; see `paste_tubelets` for the arguments.

    The clips count a new version, as after torch's own in-place operators: the gradient of a function that had saved
    one of them raises.

    Raises:
        ValueError: As for `paste_tubelets`; also where clips share memory with themselves (an expanded clip), each
            other (overlapping parts of a video) or the patches, and where a gradient would be needed, which only
            `paste_tubelets` gives.
        TypeError: As for `paste_tubelets`.
        NotImplementedError: As for `paste_tubelets`.
    """
    clips = list(clips)
    geometry = (patch_size, centers, linear, shape, edge, opacity, order, offsets)
    if not _check(clips, patches, *geometry) and torch.is_grad_enabled():
        for name, tensors in (("clips", clips), ("patches", (patches,))):
            if any(tensor.requires_grad for tensor in tensors):
                raise ValueError(
                    f"{name}: requires a gradient, which in-place pasting cannot give; "
                    "use paste_tubelets, or torch.no_grad() where none is needed"
                )
    _operator_(clips, patches, *geometry)


_GEOMETRY = ("patch_size", "centers", "linear", "shape", "edge", "opacity", "order", "offsets")


def _check(clips: list[Tensor], patches: Tensor, *geometry: Tensor | None) -> bool:
    """What the operator itself cannot see: Python types, and derivatives that it does not have.

    Returns:
        Whether no derivative is wanted at all, which is found out first and fast.
    """
    tensors = [*clips, patches, *geometry]
    if geometry[-1] is None:
        tensors.pop()
    if arguments.are_plain(tensors):
        return True
    named = dict(zip(_GEOMETRY, geometry, strict=True))
    if named["offsets"] is None:
        del named["offsets"]
    for clip in clips:
        arguments.require_tensors(clips=clip)
        arguments.refuse_tangents("pasting", clips=clip)
    arguments.require_tensors(patches=patches, **named)
    arguments.refuse_gradient("pasting", **named)
    arguments.refuse_tangents("pasting", patches=patches, **named)
    return False


def _check_clips(clips: list[Tensor], name: str, patches: Tensor, dtypes: tuple[torch.dtype, ...]) -> None:
    if not 0 < len(clips) <= arguments.MAX_CLIPS:
        raise ValueError(f"{name}: got {len(clips)} clips, needs 1 to {arguments.MAX_CLIPS}")
    arguments.check_dtype(clips[0], name, *dtypes)
    arguments.check_shape(clips[0], name, (None,) * 5, "(B, C, T, H, W)")
    for clip in clips:
        arguments.check_dtype(clip, name, clips[0].dtype)
        arguments.check_shape(clip, name, clips[0].shape, "the shape of the first clip")
        arguments.check_device(clip, name, patches, "patches")


def _check_shapes(clips: list[Tensor], patches: Tensor, geometry: tuple[Any, ...]) -> None:
    batch, channels, frames, _, _ = clips[0].shape
    arguments.check_dtype(patches, "patches", clips[0].dtype)
    if patches.dim() == 6:
        expected: tuple[int | None, ...] = (batch, len(clips), None, None, None, None)
        arguments.check_shape(patches, "patches", expected, "(B, V, M, C or C + 1, Hp, Wp)")
    else:
        arguments.check_shape(patches, "patches", (batch, None, None, None, None), "(B, M, C or C + 1, Hp, Wp)")
    tubelets, own = patches.shape[-4:-2]
    if own not in (channels, channels + 1):
        raise ValueError(f"patches: got {own} channels, needs the {channels} of the clips, or one more for alpha")
    size, centers, linear, shape, edge, opacity, order, offsets = geometry
    lies_with = (patches, "patches")
    arguments.check_tensor(size, "patch_size", torch.int32, (batch, tubelets, 2), "(B, M, 2)", *lies_with)
    arguments.check_geometry(batch, tubelets, frames, centers, linear, shape, edge, opacity, order, *lies_with)
    if offsets is not None:
        moves = (batch, len(clips), tubelets, 2)
        arguments.check_tensor(offsets, "offsets", torch.float32, moves, "(B, V, M, 2)", *lies_with)


def _fake(clips: list[Tensor], patches: Tensor, *geometry: Any) -> list[Tensor]:
    _fake_(clips, patches, *geometry)
    return [torch.empty_like(clip) for clip in clips]


def _fake_(clips: list[Tensor], patches: Tensor, *geometry: Any) -> None:
    _check_clips(clips, "clips", patches, arguments.BYTES_OR_FLOATS)
    _check_shapes(clips, patches, geometry)


def _fake_backward(
    gradients: list[Tensor], clips: list[Tensor], patches: Tensor, *geometry: Any
) -> tuple[list[Tensor], Tensor]:
    _check_clips(gradients, "gradients", patches, arguments.FLOATS)
    _check_shapes(gradients, patches, geometry)
    if patches.shape[-3] != gradients[0].shape[1]:
        _check_clips(clips, "clips", patches, (patches.dtype,))
        arguments.check_shape(clips[0], "clips", gradients[0].shape, "the shape of gradients")
    return [torch.empty_like(gradient) for gradient in gradients], patches.new_empty(patches.shape)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:  # noqa: ARG001
    clips, patches, *geometry = inputs
    # Only the gradient of an own alpha depends on the background, so that only then the clips are kept alive.
    channels = patches.shape[-3]
    background = clips if channels == clips[0].shape[1] + 1 else []
    ctx.num_geometry = len(geometry)
    ctx.save_for_backward(patches, *geometry, *background)


def _backward(ctx: Any, gradients: list[Tensor]) -> tuple[Any, ...]:
    patches, *rest = ctx.saved_tensors
    geometry, background = rest[: ctx.num_geometry], rest[ctx.num_geometry :]
    clip_gradients, patches_gradient = _backward_operator(list(gradients), background, patches, *geometry)
    return clip_gradients, patches_gradient, *([None] * ctx.num_geometry)


def _setup_second_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[list[Tensor], Tensor]) -> None:  # noqa: ARG001
    gradients, clips, patches, *geometry = inputs
    ctx.has_alpha = patches.shape[-3] != gradients[0].shape[1]
    ctx.num_clips, ctx.num_geometry = len(clips), len(geometry)
    ctx.save_for_backward(*geometry)


def _second_backward(ctx: Any, clip_tangents: list[Tensor], patches_tangent: Tensor) -> tuple[Any, ...]:
    if ctx.has_alpha:
        raise NotImplementedError("paste_tubelets: has no second derivative where patches have an alpha of their own")
    # Without alpha pasting is linear, so that the transpose of its transpose is pasting itself.
    gradients = _operator(clip_tangents, patches_tangent, *ctx.saved_tensors)
    return gradients, [None] * ctx.num_clips, None, *([None] * ctx.num_geometry)


torch.library.register_fake("tubeletx::paste_tubelets", _fake)
torch.library.register_fake("tubeletx::paste_tubelets.bytes", _fake)
torch.library.register_fake("tubeletx::paste_tubelets_", _fake_)
torch.library.register_fake("tubeletx::paste_tubelets_backward", _fake_backward)
torch.library.register_autograd("tubeletx::paste_tubelets", _backward, setup_context=_setup_context)
torch.library.register_autograd(
    "tubeletx::paste_tubelets_backward", _second_backward, setup_context=_setup_second_context
)
