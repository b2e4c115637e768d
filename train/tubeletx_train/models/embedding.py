"""What the contrastive loss sees: an encoder and its projection head."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from tubeletx_train.models.encoder import VideoEncoder


def projection_head(in_features: int, out_features: int = 128) -> nn.Sequential:
    """Two-layer perceptron without batch norm: Linear(in, in), ReLU, Linear(in, out); section 4.1 of the paper."""
    return nn.Sequential(
        nn.Linear(in_features, in_features), nn.ReLU(inplace=True), nn.Linear(in_features, out_features)
    )


class EmbeddingNet(nn.Module):
    """Encoder and projection head: clips to points on the unit sphere."""

    def __init__(self, encoder: VideoEncoder, dim: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = projection_head(encoder.feature_dim, dim)

    def forward(self, clip: Tensor) -> Tensor:
        """Normalised float clips (B, 3, T, H, W) to float32 unit rows (B, dim)."""
        return self._unit_rows(self.encoder(clip))

    def with_map(self, clip: Tensor) -> tuple[Tensor, Tensor]:
        """The same rows, and the encoder's features before pooling, (B, F, T', h, w)."""
        features = self.encoder.feature_map(clip)
        return self._unit_rows(features.mean((2, 3, 4))), features

    def _unit_rows(self, pooled: Tensor) -> Tensor:
        return F.normalize(self.head(pooled).float(), dim=1)
