"""Colour augmentation, normalisation and still backgrounds of whole batches on their device."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from tubeletx.ops import augment_clips_
from tubeletx_train.config.data import IMAGENET, ColorConfig, Normalization


def draw_factors(config: ColorConfig, sample_ids: Tensor, *, seed: int, epoch: int, which: int) -> Tensor:
    """Draw brightness, contrast, saturation factors and the hue angle, a row for each clip.

    Args:
        config: Strengths.
        sample_ids: (B,) int64.
        seed: Seed of the run.
        epoch: Epoch.
        which: Clip of the pair, 0 or 1; does not matter where `config.shared`.

    Returns:
        (B, 4) float32 on the device of `sample_ids`: three factors, and radians. The same on every device.
    """
    ids = sample_ids.to(torch.int64)
    stream = 0 if config.shared else which
    base = _mix(torch.tensor(_signed(seed), dtype=torch.int64)) ^ _signed(2 * epoch + stream)
    state = _mix(_mix(base).to(ids.device) ^ ids)
    draws = torch.arange(1, 9, device=ids.device)
    # 24 bits fill a float32 in [0, 1) exactly.
    uniform = ((_mix(state[:, None] + draws * _GOLDEN) >> 40) & 0xFFFFFF).float() / (1 << 24)

    amount = torch.tensor(
        [config.brightness, config.contrast, config.saturation, config.hue * 2 * math.pi], device=ids.device
    )
    neutral = torch.tensor([1.0, 1.0, 1.0, 0.0], device=ids.device)
    low = torch.maximum(neutral - amount, torch.tensor([0.0, 0.0, 0.0, -math.inf], device=ids.device))
    value = low + (neutral + amount - low) * uniform[:, :4]
    return torch.where(uniform[:, 4:] < config.probability, value, neutral)


def _signed(value: int) -> int:
    """The int64 with the same 64 bits."""
    return (value + (1 << 63)) % (1 << 64) - (1 << 63)


_GOLDEN = _signed(0x9E3779B97F4A7C15)


def _mix(state: Tensor) -> Tensor:
    """SplitMix64's finaliser: a bijection of int64 whose outputs look random. torch has no generator keyed by value."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        # torch shifts int64 arithmetically; the mask makes it a logical shift.
        state = (state ^ ((state >> shift) & ((1 << (64 - shift)) - 1))) * _signed(factor)
    return state ^ ((state >> 31) & ((1 << 33) - 1))


def change_colors(
    clip: Tensor, factors: Tensor | None, dtype: torch.dtype = torch.float32, normalization: Normalization = IMAGENET
) -> Tensor:
    """Brightness, contrast about the clip's mean grey, saturation, hue, then normalisation.

    In contrast to torchvision nothing is clamped between the steps.

    Args:
        clip: (B, 3, T, H, W) uint8, any strides.
        factors: (B, 4) from `draw_factors`; None leaves colours as they are.
        dtype: Of what comes out.
        normalization: What comes last.

    Returns:
        (B, 3, T, H, W) in `dtype`, channels_last_3d.
    """
    batch, channels, frames, height, width = clip.shape
    out = clip.new_empty((batch, frames, height, width, channels), dtype=dtype).permute(0, 4, 1, 2, 3)
    color = None if factors is None else in_turns(factors)[:, None]
    augment_clips_([out], [clip], None, None, color, (*normalization.mean, *normalization.std))
    return out


def in_turns(factors: Tensor) -> Tensor:
    """(B, 4) of `draw_factors`, whose hue is in radians, as `augment_clips_` takes them."""
    return factors.float() * torch.tensor([1, 1, 1, 1 / (2 * math.pi)], device=factors.device)


class ColorJitterNormalize(nn.Module):
    """uint8 clips to jittered, normalised floats in one pass."""

    def __init__(
        self,
        config: ColorConfig,
        *,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
        normalization: Normalization = IMAGENET,
    ) -> None:
        """Make the augmentation.

        Args:
            config: Strengths.
            seed: Seed of the run.
            dtype: Of what comes out, float32 or bfloat16.
            normalization: Of colours.
        """
        super().__init__()
        self.config = config
        self.seed = seed
        self.dtype = dtype
        self.normalization = normalization

    @torch.no_grad()
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
        _check_clip(clip)
        if sample_ids.shape != clip.shape[:1]:
            raise ValueError(f"sample_ids: got {tuple(sample_ids.shape)}, needs ({clip.shape[0]},), one a clip")
        factors = self.factors(sample_ids.to(clip.device), epoch=epoch, which=which)
        return change_colors(clip, factors, self.dtype, self.normalization)

    def factors(self, sample_ids: Tensor, *, epoch: int, which: int) -> Tensor:
        """What `draw_factors` draws with these settings."""
        return draw_factors(self.config, sample_ids, seed=self.seed, epoch=epoch, which=which)


def normalize(clip: Tensor, dtype: torch.dtype = torch.float32, normalization: Normalization = IMAGENET) -> Tensor:
    """Normalise without jitter, for evaluation.

    Args:
        clip: (B, 3, T, H, W) uint8, any strides.
        dtype: Of what comes out.
        normalization: Of colours.

    Returns:
        (B, 3, T, H, W) in `dtype`, channels_last_3d.
    """
    _check_clip(clip)
    return change_colors(clip, None, dtype, normalization)


def freeze(clip: Tensor) -> Tensor:
    """A clip (B, C, T, H, W) whose every frame is its first, channels_last_3d."""
    return clip[:, :, :1].expand_as(clip).contiguous(memory_format=torch.channels_last_3d)


def _check_clip(clip: Tensor) -> None:
    if clip.dim() != 5 or clip.shape[1] != 3 or clip.dtype != torch.uint8:
        raise ValueError(f"clip: got {tuple(clip.shape)} {clip.dtype}, needs (B, 3, T, H, W) uint8")
