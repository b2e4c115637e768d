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
