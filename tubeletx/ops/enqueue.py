"""Ring-buffer write of the queue of negatives."""

from __future__ import annotations

import torch
from torch import Tensor

from tubeletx._library import operator
from tubeletx.ops import _arguments as arguments

__all__ = ["enqueue_"]

_operator = operator("enqueue_")


def enqueue_(queue: Tensor, pointer: Tensor, keys: Tensor) -> None:
    """Writes keys over the oldest rows of a ring buffer, in place.

    Row i goes to slot ``(pointer + i) mod K``, and the pointer moves on by B. Any batch size will do: the end of the
    buffer wraps, and of more than K keys the last K remain. Both written tensors count a new version, as
    after torch's own in-place operators.

    Args:
        queue: (K, D) float32, float16, bfloat16 or float64, K >= 1, any strides; written.
        pointer: int64 with one element, the next slot to write, 0 <= pointer < K; written.
        keys: (B, D) of any of these dtypes, cast to that of ``queue``; must not share memory with it. Their gradient
            stops here.

    Raises:
        ValueError: an argument has a wrong shape, dtype or device, the pointer lies outside of the queue (checked on
            the CPU only), rows of ``queue`` share memory with each other or with ``keys``, or ``queue`` requires a
            gradient.
        TypeError: an argument is no tensor.
    """
    arguments.require_tensors(queue=queue, pointer=pointer, keys=keys)
    if queue.requires_grad:
        raise ValueError("queue: requires a gradient, which a buffer that is overwritten cannot have")
    _operator(queue, pointer, keys.detach())


def _fake(queue: Tensor, pointer: Tensor, keys: Tensor) -> None:
    arguments.check_shape(queue, "queue", (None, None), "(K, D)")
    slots, features = queue.shape
    arguments.check_positive(slots, "queue's number of rows")
    arguments.check_shape(keys, "keys", (None, features), "(B, D)")
    if pointer.numel() != 1:
        raise ValueError(f"pointer: got shape {tuple(pointer.shape)}, needs one element")
    arguments.check_dtype(pointer, "pointer", torch.int64)
    arguments.check_dtype(queue, "queue", *arguments.FLOATS)
    arguments.check_dtype(keys, "keys", *arguments.FLOATS)
    arguments.check_device(pointer, "pointer", queue, "queue")
    arguments.check_device(keys, "keys", queue, "queue")


torch.library.register_fake("tubeletx::enqueue_", _fake)
