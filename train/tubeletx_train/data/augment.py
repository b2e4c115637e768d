"""Colour augmentation and normalisation of whole batches on their device."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class ColorConfig:
    """Strengths as in torchvision's ColorJitter; each clip draws one set of factors for all its frames.

    Attributes:
        probability: Chance that each of the four is applied at all (the released code: 0.2).
        brightness: Factor drawn from [1 - b, 1 + b].
        contrast: Likewise.
        saturation: Likewise.
        hue: Rotation drawn from [-h, h] turns.
        shared: Both clips of a pair get the same draw (the released code) or each its own.
    """

    probability: float = 0.8
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1
    shared: bool = False


class ColorJitterNormalize(nn.Module):
    """uint8 clips to jittered, ImageNet-normalised floats, one fused affine colour map a clip."""

    def __init__(self, config: ColorConfig, *, seed: int = 0, dtype: torch.dtype = torch.float32) -> None:
        raise NotImplementedError

    def forward(self, clip: Tensor, sample_ids: Tensor, *, epoch: int, which: int) -> Tensor:
        """Augment one side of the pairs.

        Args:
            clip: (B, 3, T, H, W) uint8, any strides.
            sample_ids: (B,) int64; key the draws together with seed, epoch and (unless `shared`) `which`.
            epoch: Epoch.
            which: 0 for clip 1 (query), 1 for clip 2 (key).

        Returns:
            (B, 3, T, H, W) in `dtype`, channels_last_3d.
        """
        raise NotImplementedError


def normalize(clip: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """(B, 3, T, H, W) uint8 to ImageNet-normalised floats without jitter (evaluation), channels_last_3d."""
    raise NotImplementedError
