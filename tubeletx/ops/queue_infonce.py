"""InfoNCE against a queue of negatives, in one pass and without the matrix of scores."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tubeletx._library import operator
from tubeletx.ops import _arguments as arguments

__all__ = ["check_temperature", "queue_infonce"]

_operator = operator("queue_infonce")
_backward_operator = operator("queue_infonce_backward")


def queue_infonce(
    query: Tensor, key: Tensor, queue: Tensor, temperature: float | Tensor, own_negatives: Tensor | None = None
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
        temperature: positive and finite. A tensor of one element, for a learnable one, gets its gradient too: then the
            queries are divided by it, in float32 or wider, and the rank is that of the scores of these.
        own_negatives: (B, E, D) negatives of each row alone, of the dtypes of ``queue``; takes no gradient.

    Returns:
        The loss, (B,) float32 (float64 for float64), 0 where there are no negatives; and the rank, (B,) int64: the
        number of negatives whose score is not at most the positive's, so that ``rank < 5`` is a top-5 hit. A negative
        whose score is NaN counts, and all do where the positive's is, so that a diverged run hits nothing.
        The rank is that of exact scores (in double precision) for negatives no longer than the key, a copy of the key
        included; a longer negative may fall on the wrong side where its score is within float32 rounding of a tie.

    Raises:
        ValueError: an argument has a wrong shape, dtype or device, the temperature is not positive and finite (a tensor
            is looked at on the CPU only), or ``queue`` or ``own_negatives`` requires a gradient.
        TypeError: an argument is no tensor, or the temperature no number.
        NotImplementedError: an argument carries a forward-mode tangent, or is differentiated by `torch.func`.
    """
    tensors = {"query": query, "key": key, "queue": queue}
    if own_negatives is not None:
        tensors["own_negatives"] = own_negatives
    arguments.require_tensors(**tensors)
    arguments.refuse_gradient("queue_infonce", queue=queue, own_negatives=own_negatives)
    arguments.refuse_tangents("queue_infonce", **tensors)
    check_temperature(temperature)
    if isinstance(temperature, Tensor):
        arguments.refuse_tangents("queue_infonce", temperature=temperature)
        query, key, temperature = _divide(query, key, temperature)
    need_gradient = torch.is_grad_enabled() and (query.requires_grad or key.requires_grad)
    loss, rank, _, _ = _operator(query, key, queue, own_negatives, temperature, need_gradient)
    return loss, rank


def check_temperature(temperature: Any) -> None:
    """Refuses what is no temperature; of tensors only those on the CPU are looked at."""
    if isinstance(temperature, Tensor):
        if temperature.numel() != 1:
            raise ValueError(
                f"temperature: got shape {tuple(temperature.shape)}, needs a number, or a tensor of one element"
            )
        if temperature.device.type != "cpu" or torch.compiler.is_compiling():
            return
        temperature = float(temperature.detach())
    elif isinstance(temperature, str) or not hasattr(temperature, "__float__"):
        raise TypeError(f"temperature: got {temperature!r}, needs a number, or a tensor of one element")
    if not 0 < temperature < float("inf"):
        raise ValueError(f"temperature: got {temperature}, needs a positive finite number")


def _divide(query: Tensor, key: Tensor, temperature: Tensor) -> tuple[Tensor, Tensor, float]:
    """The temperature of 1 that gives the same loss, and to the given one its gradient."""
    wide = torch.promote_types(query.dtype, torch.float32)
    return query.to(wide) / temperature.reshape(()), key.to(wide), 1.0


def _fake(
    query: Tensor,
    key: Tensor,
    queue: Tensor,
    own_negatives: Tensor | None,
    temperature: float,
    need_gradient: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    arguments.check_shape(query, "query", (None, None), "(B, D)")
    batch, features = query.shape
    arguments.check_positive(features, "query's number of features")
    arguments.check_shape(key, "key", (batch, features), "(B, D)")
    arguments.check_shape(queue, "queue", (None, features), "(K, D)")
    arguments.check_dtype(query, "query", *arguments.FLOATS)
    arguments.check_dtype(key, "key", query.dtype)
    arguments.check_device(key, "key", query, "query")
    is_double = query.dtype == torch.float64
    negatives = {"queue": queue}
    if own_negatives is not None:
        arguments.check_shape(own_negatives, "own_negatives", (batch, None, features), "(B, E, D)")
        negatives["own_negatives"] = own_negatives
    for name, tensor in negatives.items():
        arguments.check_dtype(tensor, name, *((torch.float64,) if is_double else arguments.FLOATS[:3]))
        arguments.check_device(tensor, name, query, "query")
    if not 0 < temperature < float("inf"):
        raise ValueError(f"temperature: got {temperature}, needs a positive finite number")
    dtype = torch.float64 if is_double else torch.float32
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
    gradient: Tensor,
    query: Tensor,
    key: Tensor,
    loss: Tensor,
    negative_mean: Tensor,
    temperature: float,  # noqa: ARG001
    need_query: bool,
    need_key: bool,
) -> tuple[Tensor, Tensor]:
    arguments.check_shape(query, "query", (None, None), "(B, D)")
    batch, features = query.shape
    wide = torch.promote_types(query.dtype, torch.float32)
    for name, tensor, dtype, shape, meaning in (
        ("key", key, query.dtype, (batch, features), "(B, D)"),
        ("gradient", gradient, wide, (batch,), "(B,)"),
        ("loss", loss, wide, (batch,), "(B,)"),
        ("negative_mean", negative_mean, wide, (batch, features), "(B, D)"),
    ):
        arguments.check_dtype(tensor, name, dtype)
        arguments.check_shape(tensor, name, shape, meaning)
        arguments.check_device(tensor, name, query, "query")
    return query.new_empty(batch if need_query else 0, features), key.new_empty(batch if need_key else 0, features)


torch.library.register_fake("tubeletx::queue_infonce", _fake)
torch.library.register_fake("tubeletx::queue_infonce_backward", _fake_backward)
torch.library.register_autograd("tubeletx::queue_infonce", _backward, setup_context=_setup_context)
