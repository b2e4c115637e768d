"""R(2+1)D and R3D residual networks whose state dicts carry torchvision's names."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from tubeletx_train.models.encoder import VideoEncoder

_Stride = tuple[int, int, int]
_ConvBuilder = Callable[[int, int, int, _Stride], nn.Module]


STANDARD_TEMPORAL_STRIDES = (1, 2, 2, 2)
_UNIT: _Stride = (1, 1, 1)


def _conv_2plus1d(in_channels: int, out_channels: int, mid_channels: int, stride: _Stride) -> nn.Sequential:
    """A 3x3x3 convolution factored into space (1x3x3) and time (3x1x1)."""
    return nn.Sequential(
        nn.Conv3d(in_channels, mid_channels, (1, 3, 3), (1, *stride[1:]), (0, 1, 1), bias=False),
        nn.BatchNorm3d(mid_channels),
        nn.ReLU(inplace=True),
        nn.Conv3d(mid_channels, out_channels, (3, 1, 1), (stride[0], 1, 1), (1, 0, 0), bias=False),
    )


def _conv_3d(in_channels: int, out_channels: int, mid_channels: int, stride: _Stride) -> nn.Conv3d:  # noqa: ARG001
    return nn.Conv3d(in_channels, out_channels, 3, stride, 1, bias=False)


def _stem_2plus1d(width: int) -> nn.Sequential:
    # 45 is what torchvision and the released code use at width 64; it does not follow from the blocks' formula.
    mid_channels = max(1, 45 * width // 64)
    return nn.Sequential(
        nn.Conv3d(3, mid_channels, (1, 7, 7), (1, 2, 2), (0, 3, 3), bias=False),
        nn.BatchNorm3d(mid_channels),
        nn.ReLU(inplace=True),
        nn.Conv3d(mid_channels, width, (3, 1, 1), 1, (1, 0, 0), bias=False),
        nn.BatchNorm3d(width),
        nn.ReLU(inplace=True),
    )


def _stem_3d(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(3, width, (3, 7, 7), (1, 2, 2), (1, 3, 3), bias=False),
        nn.BatchNorm3d(width),
        nn.ReLU(inplace=True),
    )


class _BasicBlock(nn.Module):
    """Two convolutions and a shortcut; both share the mid channels that keep a (2+1)D pair at a 3D one's size."""

    def __init__(self, conv: _ConvBuilder, in_channels: int, out_channels: int, stride: _Stride) -> None:
        super().__init__()
        mid_channels = (27 * in_channels * out_channels) // (9 * in_channels + 3 * out_channels)
        self.conv1 = nn.Sequential(
            conv(in_channels, out_channels, mid_channels, stride), nn.BatchNorm3d(out_channels), nn.ReLU(inplace=True)
        )
        self.conv2 = nn.Sequential(conv(out_channels, out_channels, mid_channels, _UNIT), nn.BatchNorm3d(out_channels))
        self.relu = nn.ReLU(inplace=True)
        self.downsample = (
            None
            if stride == _UNIT and in_channels == out_channels
            else nn.Sequential(
                nn.Conv3d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm3d(out_channels)
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        out: Tensor = self.relu(self.conv2(self.conv1(x)).add_(shortcut))
        return out


class VideoResNet(VideoEncoder):
    """A video residual network without its classifier.

    At width 64 the state dict is torchvision's `r2plus1d_18` or `r3d_18` less `fc.*`.

    Attributes:
        feature_dim: Length of the pooled feature, 8 * width.
    """

    def __init__(
        self,
        *,
        factored: bool,
        blocks: Sequence[int] = (2, 2, 2, 2),
        width: int = 64,
        temporal_strides: Sequence[int] = STANDARD_TEMPORAL_STRIDES,
        dilated: bool = False,
    ) -> None:
        """Build the network.

        Args:
            factored: (2+1)D convolutions when true, full 3D ones otherwise.
            blocks: Residual blocks in each of the four stages.
            width: Channels of the first stage; the later ones have 2, 4 and 8 times as many.
            temporal_strides: Of the four stages, 1 or 2; in space the last three always halve.
            dilated: Whether the last stage keeps all frames instead of halving them, and begins with a whole 3x3x3
                convolution dilated by 2 in time, as TCLR has it.
        """
        super().__init__()
        if width < 1:
            raise ValueError(f"width: got {width}, needs a positive number")
        if len(temporal_strides) != len(blocks) or not set(temporal_strides) <= {1, 2}:
            raise ValueError(f"temporal_strides: got {tuple(temporal_strides)}, needs four of 1 or 2")
        if dilated:
            temporal_strides = (*temporal_strides[:-1], 1)
        conv: _ConvBuilder = _conv_2plus1d if factored else _conv_3d
        self.stem = _stem_2plus1d(width) if factored else _stem_3d(width)
        in_channels = width
        for stage, (count, temporal) in enumerate(zip(blocks, temporal_strides, strict=True)):
            out_channels = width << stage
            spatial = 1 if stage == 0 else 2
            strides = [(temporal, spatial, spatial)] + [_UNIT] * (count - 1)
            layer = nn.Sequential()
            for stride in strides:
                layer.append(_BasicBlock(conv, in_channels, out_channels, stride))
                in_channels = out_channels
            self.add_module(f"layer{stage + 1}", layer)
        if dilated:
            conv1 = nn.Conv3d(4 * width, 8 * width, 3, (1, 2, 2), (2, 1, 1), dilation=(2, 1, 1), bias=False)
            self.set_submodule("layer4.0.conv1.0", conv1)
        self.feature_dim = in_channels
        self.initialise()
