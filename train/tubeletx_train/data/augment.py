"""Colour augmentation, normalisation and still backgrounds of whole batches on their device."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from tubeletx_train.config.data import IMAGENET, ColorConfig, Normalization

# Rec. 601 luma, and the NTSC axes in which turning the last two coordinates turns the hue.
_LUMA = (0.299, 0.587, 0.114)
_RGB_TO_YIQ = (_LUMA, (0.596, -0.274, -0.322), (0.211, -0.523, 0.312))

_PIXELS_A_ROW = 8


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


def color_maps(factors: Tensor, mean_grey: Tensor, normalization: Normalization = IMAGENET) -> Tensor:
    """One affine colour map a clip: brightness, contrast, saturation, hue, then normalisation.

    Each step is affine in (r, g, b), so a clip needs one 3 x 4 matrix whatever is applied. In contrast to
    torchvision nothing is clamped between the steps.

    Args:
        factors: (B, 4) from `draw_factors`.
        mean_grey: (B,) mean luma of each clip before augmentation, in [0, 1].
        normalization: What comes last.

    Returns:
        (B, 3, 4) float32 for colours in [0, 1]: normalised = map[:, :3] @ rgb + map[:, 3].
    """
    brightness, contrast, saturation, angle = factors.float().unbind(1)
    device = factors.device
    eye = torch.eye(3, device=device)
    luma = torch.tensor(_LUMA, device=device).expand(3, 3)
    to_yiq = torch.tensor(_RGB_TO_YIQ, dtype=torch.float64)
    from_yiq = torch.linalg.inv(to_yiq)

    cos, sin = angle.cos(), angle.sin()
    zero, one = torch.zeros_like(cos), torch.ones_like(cos)
    turn = torch.stack([one, zero, zero, zero, cos, -sin, zero, sin, cos], 1).view(-1, 3, 3)
    hue = from_yiq.float().to(device) @ turn @ to_yiq.float().to(device)
    saturate = saturation[:, None, None] * eye + (1 - saturation)[:, None, None] * luma

    linear = hue @ saturate * (brightness * contrast)[:, None, None]
    # A grey offset passes saturation and hue unchanged (rows of both sum to one).
    offset = ((1 - contrast) * brightness * mean_grey)[:, None].expand(-1, 3)
    mean, std = (torch.tensor(values, device=device) for values in normalization)
    return torch.cat([linear / std[:, None], ((offset - mean) / std)[:, :, None]], 2)


def apply_color_maps(clip: Tensor, maps: Tensor, dtype: torch.dtype) -> Tensor:
    """Apply (B, 3, 4) maps for colours in [0, 1] to (B, 3, T, H, W) uint8 clips: floats, channels_last_3d."""
    batch, _, frames, height, width = clip.shape
    # With channels last in memory the pixels of a clip are the rows of one matrix, and the map one product; several
    # pixels a row make that matrix wide enough for the library to multiply at speed.
    pixels = frames * height * width
    group = math.gcd(pixels, _PIXELS_A_ROW)
    rows = clip.permute(0, 2, 3, 4, 1).reshape(batch, pixels // group, 3 * group).to(dtype)
    blocks = torch.block_diag(*[torch.ones(3, 3, device=clip.device)] * group)  # type: ignore[no-untyped-call]
    weight = blocks * (maps[:, :, :3] / 255).transpose(1, 2).repeat(1, group, group)
    out = torch.baddbmm(maps[:, None, :, 3].repeat(1, 1, group).to(dtype), rows, weight.to(dtype))
    return out.view(batch, frames, height, width, 3).permute(0, 4, 1, 2, 3)


class ColorJitterNormalize(nn.Module):
    """uint8 clips to jittered, normalised floats: one fused affine colour map a clip."""

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
        ids = sample_ids.to(clip.device)
        factors = draw_factors(self.config, ids, seed=self.seed, epoch=epoch, which=which)
        luma = torch.tensor(_LUMA, device=clip.device)
        mean_grey = clip.float().mean((2, 3, 4)) @ luma / 255
        return apply_color_maps(clip, color_maps(factors, mean_grey, self.normalization), self.dtype)


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
    neutral = torch.tensor([[1.0, 1.0, 1.0, 0.0]], device=clip.device).expand(clip.shape[0], 4)
    maps = color_maps(neutral, torch.zeros(clip.shape[0], device=clip.device), normalization)
    return apply_color_maps(clip, maps, dtype)


def freeze(clip: Tensor) -> Tensor:
    """A clip (B, C, T, H, W) whose every frame is its first, channels_last_3d."""
    return clip[:, :, :1].expand_as(clip).contiguous(memory_format=torch.channels_last_3d)


def _check_clip(clip: Tensor) -> None:
    if clip.dim() != 5 or clip.shape[1] != 3 or clip.dtype != torch.uint8:
        raise ValueError(f"clip: got {tuple(clip.shape)} {clip.dtype}, needs (B, 3, T, H, W) uint8")
