"""Keyframes to one value a frame."""

from __future__ import annotations

import torch
from torch import Tensor

from tubeletx._library import operator
from tubeletx.ops import _arguments as arguments

__all__ = ["interpolate_keyframes"]

_operator = operator("interpolate_keyframes")


def interpolate_keyframes(frames: Tensor, values: Tensor, easing: Tensor | None = None, *, num_frames: int) -> Tensor:
    """Interpolates N sets of K keyframes to every frame (the paper's `Interp`, Eq. 5 and 7).

    Between the keyframes k and k + 1 a share u of the time makes the share w of the way: w = u (linear), u^2
    (accelerating from rest) or u (2 - u) (decelerating to rest). At a keyframe the value is exactly the given one.
    Frames before the first keyframe and after the last take its value; where keyframes coincide the later one wins.

    Args:
        frames: Frame index of each keyframe, rising (equal neighbours allowed); (N, K), int32 or int64.
        values: Value at each keyframe; (N, K, D), float32.
        easing: 0 linear, 1 accelerating, 2 decelerating, for each pair of neighbouring keyframes; (N, K - 1), int32.
            None means linear throughout.
        num_frames: T, the number of frames.

    Returns:
        (N, T, D) float32.

    Raises:
        ValueError: A shape or dtype differs from the above, `num_frames` is not positive, or, on the CPU, where the
            values can be read without waiting, `frames` falls or `easing` is another number; or `values` requires a
            gradient, which there is none.
        TypeError: An argument is no tensor, or `num_frames` no integer.
        NotImplementedError: `values` carries a forward-mode tangent.
    """
    arguments.require_tensors(frames=frames, values=values, **({} if easing is None else {"easing": easing}))
    arguments.refuse_gradient("interpolate_keyframes", values=values)
    arguments.refuse_tangents("interpolate_keyframes", values=values)
    num_frames = arguments.require_integer(num_frames, "num_frames")
    return _operator(frames, values, easing, num_frames)  # type: ignore[no-any-return]


def _fake(frames: Tensor, values: Tensor, easing: Tensor | None, num_frames: int) -> Tensor:
    arguments.check_shape(frames, "frames", (None, None), "(N, K)")
    arguments.check_dtype(frames, "frames", torch.int32, torch.int64)
    rows, keys = frames.shape
    arguments.check_positive(keys, "frames' number of keyframes")
    arguments.check_shape(values, "values", (rows, keys, None), "(N, K, D)")
    arguments.check_dtype(values, "values", torch.float32)
    arguments.check_device(values, "values", frames, "frames")
    if easing is not None:
        arguments.check_shape(easing, "easing", (rows, keys - 1), "(N, K - 1)")
        arguments.check_dtype(easing, "easing", torch.int32)
        arguments.check_device(easing, "easing", frames, "frames")
    arguments.check_positive(num_frames, "num_frames")
    return values.new_empty((rows, num_frames, values.shape[2]))


torch.library.register_fake("tubeletx::interpolate_keyframes", _fake)
