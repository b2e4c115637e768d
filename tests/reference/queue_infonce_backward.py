"""Gradients of queue InfoNCE from what its forward left, in float64 torch."""

from __future__ import annotations

from torch import Tensor


def queue_infonce_backward(
    gradient: Tensor, query: Tensor, key: Tensor, loss: Tensor, negative_mean: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """Gradients with respect to query and key, (B, D) float64, for the gradient (B,) of the loss.

    The loss of a row is log(1 + sum_n exp(s_n - s)); its derivative by the score s of the positive is the positive's
    share of the softmax less one, and by the query that times the key, plus the negatives, each times its share.
    """
    gradient, query, key, loss, negative_mean = (x.double() for x in (gradient, query, key, loss, negative_mean))
    scale = (gradient / temperature)[:, None]
    share_less_one = (loss.neg().exp() - 1)[:, None]
    return scale * (negative_mean + share_less_one * key), scale * share_less_one * query
