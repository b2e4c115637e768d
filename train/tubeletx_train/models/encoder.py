"""What every video encoder offers."""

from __future__ import annotations

from torch import Tensor, nn


class VideoEncoder(nn.Module):
    """A convolutional network without its classifier: a chain of its children, pooled at the end.

    Attributes:
        feature_dim: Length of the pooled feature, F.
    """

    feature_dim: int

    def feature_map(self, clip: Tensor) -> Tensor:
        """Features before pooling: normalised (B, 3, T, H, W) clips to (B, F, T / 8, h, w), sizes rounded up.

        h and w are H / 16 and W / 16 in the residual networks, H / 32 and W / 32 in I3D. T is divided by the product of
        the temporal strides (TCLR's network leaves T / 4).
        """
        x = clip
        for stage in self.children():
            x = stage(x)
        return x

    def forward(self, clip: Tensor) -> Tensor:
        """Pooled features: normalised (B, 3, T, H, W) clips to (B, F)."""
        return self.feature_map(clip).mean((2, 3, 4))

    def initialise(self) -> None:
        """Draw the weights of the convolutions anew (He, by the outgoing connections)."""
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
