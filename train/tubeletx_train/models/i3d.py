"""I3D: Inception-v1 with its filters inflated to 3D (Carreira and Zisserman, 2017)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tubeletx_train.models.encoder import VideoEncoder

_Size = tuple[int, int, int]

# Channels of a mixed block at width 64: 1x1x1; 1x1x1 then 3x3x3; 1x1x1 then 3x3x3; pooling then 1x1x1.
_MIXED = {
    "3b": (64, 96, 128, 16, 32, 32),
    "3c": (128, 128, 192, 32, 96, 64),
    "4b": (192, 96, 208, 16, 48, 64),
    "4c": (160, 112, 224, 24, 64, 64),
    "4d": (128, 128, 256, 24, 64, 64),
    "4e": (112, 144, 288, 32, 64, 64),
    "4f": (256, 160, 320, 32, 128, 128),
    "5b": (256, 160, 320, 32, 128, 128),
    "5c": (384, 192, 384, 48, 128, 128),
}


class _Unit(nn.Module):
    """Convolution, batch norm, ReLU; padded so that a stride divides even sizes exactly."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        excess = kernel - stride
        self.pad = nn.ConstantPad3d((excess // 2, excess - excess // 2) * 3, 0.0) if excess % 2 else nn.Identity()
        padding = 0 if excess % 2 else excess // 2
        self.conv3d = nn.Conv3d(in_channels, out_channels, kernel, stride, padding, bias=False)
        self.batch3d = nn.BatchNorm3d(out_channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.relu(self.batch3d(self.conv3d(self.pad(x))))
        return out


def _pool(kernel: _Size, stride: _Size) -> nn.Sequential:
    """Max pooling to ceil(size / stride). What it pools is not negative, so zeros at the far end change nothing."""
    (t, h, w) = (k - s for k, s in zip(kernel, stride, strict=True))
    return nn.Sequential(nn.ConstantPad3d((0, w, 0, h, 0, t), 0.0), nn.MaxPool3d(kernel, stride, ceil_mode=True))


class _Mixed(nn.Module):
    """Four branches side by side."""

    def __init__(self, in_channels: int, channels: Sequence[int]) -> None:
        super().__init__()
        first, squeeze_1, second, squeeze_2, third, fourth = channels
        self.branch_0 = _Unit(in_channels, first, 1)
        self.branch_1 = nn.Sequential(_Unit(in_channels, squeeze_1, 1), _Unit(squeeze_1, second, 3))
        self.branch_2 = nn.Sequential(_Unit(in_channels, squeeze_2, 1), _Unit(squeeze_2, third, 3))
        self.branch_3 = nn.Sequential(nn.MaxPool3d(3, 1, 1), _Unit(in_channels, fourth, 1))
        self.out_channels = first + second + third + fourth

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.children()], 1)


class I3D(VideoEncoder):
    """I3D without its classifier, under the released code's names.

    At width 64 it is the standard network, for clips of 224 x 224 pixels.

    Attributes:
        feature_dim: Length of the pooled feature, 16 * width.
    """

    def __init__(self, width: int = 64) -> None:
        """Args: `width` is the channels of the first convolution; all others scale with it."""
        super().__init__()
        if width < 1:
            raise ValueError(f"width: got {width}, needs a positive number")

        def scaled(channels: int) -> int:
            return max(1, channels * width // 64)

        self.conv3d_1a_7x7 = _Unit(3, width, 7, 2)
        self.pool_2a = _pool((1, 3, 3), (1, 2, 2))
        self.conv3d_2b_1x1 = _Unit(width, width, 1)
        self.conv3d_2c_3x3 = _Unit(width, scaled(192), 3)
        self.pool_3a = _pool((1, 3, 3), (1, 2, 2))
        in_channels = scaled(192)
        for name, channels in _MIXED.items():
            if name == "4b":
                self.pool_4a = _pool((3, 3, 3), (2, 2, 2))
            if name == "5b":
                self.pool_5a = _pool((2, 2, 2), (2, 2, 2))
            mixed = _Mixed(in_channels, [scaled(count) for count in channels])
            self.add_module(f"mixed_{name}", mixed)
            in_channels = mixed.out_channels
        self.feature_dim = in_channels
        self.initialise()
