"""The projection head between encoder and contrastive loss."""

from __future__ import annotations

from torch import nn


def projection_head(in_features: int, out_features: int = 128) -> nn.Sequential:
    """Two-layer perceptron without batch norm: Linear(in, in), ReLU, Linear(in, out); section 4.1 of the paper."""
    return nn.Sequential(
        nn.Linear(in_features, in_features), nn.ReLU(inplace=True), nn.Linear(in_features, out_features)
    )
