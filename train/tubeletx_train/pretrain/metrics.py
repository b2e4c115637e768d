"""What a contrastive run is watched by, beside its loss."""

from __future__ import annotations

import torch
from torch import Tensor


def alignment(query: Tensor, key: Tensor) -> Tensor:
    """Mean squared distance of positive pairs, (B, D) unit rows to a scalar (Wang and Isola, 2020; alpha = 2)."""
    return (query - key).square().sum(1).mean()


def uniformity(features: Tensor) -> Tensor:
    """Log mean Gaussian potential of all pairs of rows, (B, D) unit rows to a scalar (ibid.; t = 2); 0 if B < 2."""
    if len(features) < 2:
        return features.new_zeros(())
    return torch.pdist(features).square().mul(-2).exp().mean().log()


def top_k(rank: Tensor, k: int) -> Tensor:
    """Share of rows whose positive scores among the first k; `rank` counts the negatives above it."""
    return (rank < k).float().mean()


def batch_rank(query: Tensor, keys: Tensor, first: int = 0) -> Tensor:
    """For each query, how many of the other rows' keys score as high as its own or higher.

    Ties count against it: a network that maps all clips to one point would be right in every row otherwise.

    Args:
        query: (B, D).
        keys: (N, D), those of this step.
        first: Query b's own key is `keys[first + b]`.

    Returns:
        (B,) int64.
    """
    scores = query @ keys.T
    # "Not below" also counts what is not a number.
    return (~(scores < scores.diagonal(first)[:, None])).sum(1) - 1


def age_gap(query: Tensor, keys: Tensor, oldest: Tensor, first: int = 0) -> Tensor:
    """By how much other rows' keys of this step score higher, in the mean, than the oldest of a queue.

    Both are negatives, so that a difference tells nothing but their age: the drift of the key network over the queue.

    Args:
        query: (B, D).
        keys: (N, D), those of this step.
        oldest: (M, D), those of the queue that are replaced next.
        first: Query b's own key is `keys[first + b]`.

    Returns:
        A scalar; 0 where the step has no other row.
    """
    if len(keys) < 2:
        return query.new_zeros(())
    query, keys, oldest = query.float(), keys.float(), oldest.float()
    own = (query * keys[first : first + len(query)]).sum()
    # Means of scores are scores of means; elementwise, so that autocast does not round them.
    fresh = ((query.sum(0) * keys.sum(0)).sum() - own) / (len(query) * (len(keys) - 1))
    return fresh - (query.mean(0) * oldest.mean(0)).sum()
