"""Keyframes to one value a frame."""

from __future__ import annotations

import torch
from torch import Tensor

from tubeletx import _library  # noqa: F401  (loads the operators)

__all__ = ["interpolate_keyframes"]


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
            values can be read without waiting, `frames` falls or `easing` is another number.
    """
    result: Tensor = torch.ops.tubeletx.interpolate_keyframes(frames, values, easing, num_frames)
    return result


@torch.library.register_fake("tubeletx::interpolate_keyframes")  # type: ignore[untyped-decorator]
def _(frames: Tensor, values: Tensor, easing: Tensor | None, num_frames: int) -> Tensor:  # noqa: ARG001
    return values.new_empty((values.shape[0], num_frames, values.shape[2]))
