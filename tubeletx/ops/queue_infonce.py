"""InfoNCE against a queue of negatives, in one pass and without the matrix of scores."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import tubeletx._library  # noqa: F401

_operator = torch.ops.tubeletx.queue_infonce.default
_backward_operator = torch.ops.tubeletx.queue_infonce_backward.default


def queue_infonce(
    query: Tensor, key: Tensor, queue: Tensor, temperature: float, own_negatives: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """InfoNCE loss of each query, and how many negatives beat its positive.

    With the scores ``s(x) = query . x / temperature``, the loss of a row is the cross-entropy of Eq. 1 of
    "Tubelet-Contrastive Self-Supervision for Video-Efficient Generalization" for its key among all negatives,
    ``log(exp s(key) + sum_n exp s(n)) - s(key)``. The queue is read once, also for the gradient, and the (B, K) scores
    are never held: the memory used beside the arguments is O(B D). Nothing of the queue is kept for the backward, so it
    may be overwritten before that runs.

    Scores of any size are safe, and the vectors need not be normalised. Everything is summed in float32, whatever the
    dtypes and under autocast too (on the CPU, tiles of a half-precision queue are converted: a half-precision product
    would round the scores to 3 digits); float64 arguments are summed in float64. Results do not depend on the number of
    threads; on a GPU the same arguments give the same bits. There a queue in half precision goes through the matrix
    units: the scores lose nothing, and only the softmax weights that multiply the negatives in the gradient are rounded
    to the queue's type. A float32 queue is never rounded to TF32, whatever torch is allowed to do elsewhere.

    The gradient reaches ``query`` and ``key``; it costs O(B D) in the backward. There is no second derivative.

    Args:
        query: (B, D) float32, float16, bfloat16 or float64.
        key: (B, D), the positive of each row; same dtype as ``query``.
        queue: (K, D) negatives of every row, float32, float16 or bfloat16 (float64 if ``query`` is); takes no gradient.
            K may be 0.
        temperature: positive and finite.
        own_negatives: (B, E, D) negatives of each row alone, of the dtypes of ``queue``; takes no gradient.

    Returns:
        The loss, (B,) float32 (float64 for float64), 0 where there are no negatives; and the rank, (B,) int64: the
        number of negatives whose score is strictly higher than the positive's, so that ``rank < 5`` is a top-5 hit.
        The rank is that of exact scores (in double precision) for negatives no longer than the key, a copy of the key
        included; a longer negative may fall on the wrong side where its score is within float32 rounding of a tie.

    Raises:
        ValueError: an argument has a wrong shape, dtype or device, the temperature is not positive and finite, or
            ``queue`` or ``own_negatives`` requires a gradient.
    """
    for name, negatives in (("queue", queue), ("own_negatives", own_negatives)):
        if negatives is not None and negatives.requires_grad:
            raise ValueError(f"{name}: requires a gradient, which negatives do not get; pass {name}.detach()")
    need_gradient = torch.is_grad_enabled() and (query.requires_grad or key.requires_grad)
    loss, rank, _, _ = _operator(query, key, queue, own_negatives, temperature, need_gradient)
    return loss, rank


def _fake(
    query: Tensor,
    key: Tensor,  # noqa: ARG001
    queue: Tensor,  # noqa: ARG001
    own_negatives: Tensor | None,  # noqa: ARG001
    temperature: float,  # noqa: ARG001
    need_gradient: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    batch, features = query.shape
    dtype = torch.float64 if query.dtype == torch.float64 else torch.float32
    return (
        query.new_empty(batch, dtype=dtype),
        query.new_empty(batch, dtype=torch.int64),
        query.new_empty(batch, dtype=dtype),
        query.new_empty(batch if need_gradient else 0, features, dtype=dtype),
    )


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    query, key, _, _, ctx.temperature, ctx.has_negative_mean = inputs
    loss, rank, log_sum_exp, negative_mean = output
    ctx.mark_non_differentiable(rank, log_sum_exp, negative_mean)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(query, key, loss, negative_mean)


def _backward(ctx: Any, gradient: Tensor | None, *_: Tensor | None) -> tuple[Tensor | None, ...]:
    if gradient is None:
        return None, None, None, None, None, None
    if not ctx.has_negative_mean:
        raise RuntimeError("queue_infonce: called with need_gradient=False, so it has no gradient")
    if torch.is_grad_enabled():
        raise RuntimeError("queue_infonce: has no second derivative; call backward() without create_graph=True")
    query, key, loss, negative_mean = ctx.saved_tensors
    needs = ctx.needs_input_grad[:2]
    gradients = _backward_operator(gradient, query, key, loss, negative_mean, ctx.temperature, *needs)
    query_gradient, key_gradient = (tensor if need else None for tensor, need in zip(gradients, needs, strict=True))
    return query_gradient, key_gradient, None, None, None, None


def _fake_backward(
    gradient: Tensor,  # noqa: ARG001
    query: Tensor,
    key: Tensor,
    loss: Tensor,  # noqa: ARG001
    negative_mean: Tensor,  # noqa: ARG001
    temperature: float,  # noqa: ARG001
    need_query: bool,
    need_key: bool,
) -> tuple[Tensor, Tensor]:
    batch, features = query.shape
    return query.new_empty(batch if need_query else 0, features), key.new_empty(batch if need_key else 0, features)


torch.library.register_fake("tubeletx::queue_infonce", _fake)
torch.library.register_fake("tubeletx::queue_infonce_backward", _fake_backward)
torch.library.register_autograd("tubeletx::queue_infonce", _backward, setup_context=_setup_context)
