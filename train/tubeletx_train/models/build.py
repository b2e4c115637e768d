"""Encoders by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import nn

from tubeletx_train.models.encoder import VideoEncoder
from tubeletx_train.models.i3d import I3D
from tubeletx_train.models.video_resnet import STANDARD_TEMPORAL_STRIDES, VideoResNet

# Name: factored convolutions, residual blocks in each stage.
_RESNETS = {
    "r2plus1d_18": (True, (2, 2, 2, 2)),
    "r2plus1d_10": (True, (1, 1, 1, 1)),
    "r3d_18": (False, (2, 2, 2, 2)),
    "r3d_10": (False, (1, 1, 1, 1)),
}
_I3D = "i3d"
# R(2+1)D-18 with the last stage that TCLR trains.
TCLR_ENCODER = "r2plus1d_18_tclr"


def encoder_names() -> list[str]:
    """Names that `build_encoder` takes."""
    return [*_RESNETS, TCLR_ENCODER, _I3D]


def build_encoder(
    name: str,
    width: int = 64,
    temporal_strides: Sequence[int] = STANDARD_TEMPORAL_STRIDES,
    batch_norm_eps: float = 1e-5,
    initialisation: Literal["he", "torch"] = "he",
) -> VideoEncoder:
    """An encoder by name.

    Args:
        name: One of `encoder_names()`; a residual network's number counts weight layers, as in torchvision's names.
            r2plus1d_18_tclr is the network of TCLR's checkpoints, whose last stage does not halve the frames.
        width: Channels of the first stage, 64 in the standard networks.
        temporal_strides: Of the four stages of a residual network; short clips keep more of their order with fewer
            strides of 2.
        batch_norm_eps: Added to the variance in every batch norm; the released code pretrains its residual networks
            with 1e-3.
        initialisation: Of the convolutions: "he", by the outgoing connections, or "torch", as PyTorch's layers draw
            their weights, which the released code leaves at that.

    Raises:
        ValueError: An unknown name, or a number out of range.
    """
    if not batch_norm_eps > 0:
        raise ValueError(f"batch_norm_eps: got {batch_norm_eps}, needs a positive number")
    encoder: VideoEncoder
    if name in (_I3D, TCLR_ENCODER) and tuple(temporal_strides) != STANDARD_TEMPORAL_STRIDES:
        raise ValueError(
            f"temporal_strides: got {tuple(temporal_strides)}, needs {STANDARD_TEMPORAL_STRIDES} for encoder {name!r}"
        )
    if name == _I3D:
        encoder = I3D(width)
    elif name == TCLR_ENCODER:
        encoder = VideoResNet(factored=True, width=width, dilated=True)
    elif name in _RESNETS:
        factored, blocks = _RESNETS[name]
        encoder = VideoResNet(factored=factored, blocks=blocks, width=width, temporal_strides=temporal_strides)
    else:
        raise ValueError(f"encoder: got {name!r}, needs one of {', '.join(encoder_names())}")
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.eps = batch_norm_eps
        if isinstance(module, nn.Conv3d) and initialisation == "torch":
            module.reset_parameters()
    return encoder
