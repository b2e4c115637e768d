"""Ring-buffer write of the queue of negatives."""

from __future__ import annotations

import torch
from torch import Tensor

import tubeletx._library  # noqa: F401

_operator = torch.ops.tubeletx.enqueue_.default


def enqueue_(queue: Tensor, pointer: Tensor, keys: Tensor) -> None:
    """Writes keys over the oldest rows of a ring buffer, in place.

    Row i goes to slot ``(pointer + i) mod K``, and the pointer moves on by B. Any batch size will do: the end of the
    buffer wraps, and of more than K keys the last K remain.

    Args:
        queue: (K, D) float32, float16, bfloat16 or float64, K >= 1, any strides; written.
        pointer: int64 with one element, the next slot to write, 0 <= pointer < K; written.
        keys: (B, D) of any of these dtypes, cast to that of ``queue``; must not share memory with it. Their gradient
            stops here.

    Raises:
        ValueError: an argument has a wrong shape, dtype or device, the pointer lies outside of the queue (checked on
            the CPU only), or ``queue`` requires a gradient.
    """
    if queue.requires_grad:
        raise ValueError("queue: requires a gradient, which a buffer that is overwritten cannot have")
    _operator(queue, pointer, keys.detach())


def _fake(queue: Tensor, pointer: Tensor, keys: Tensor) -> None:  # noqa: ARG001
    return None


torch.library.register_fake("tubeletx::enqueue_", _fake)
