from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from tubeletx_train.config.data import Normalization
from tubeletx_train.data import ColorConfig, ColorJitterNormalize, normalize
from tubeletx_train.data.augment import change_colors, draw_factors

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
LUMA = np.array([0.299, 0.587, 0.114])
YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])


def clips(seed: int, *shape: int) -> torch.Tensor:
    """Random uint8 clips (B, 3, T, H, W), channels last in memory."""
    batch, frames, height, width = shape
    values = np.random.default_rng(seed).integers(0, 256, (batch, frames, height, width, 3), np.uint8)
    return torch.from_numpy(values).permute(0, 4, 1, 2, 3)


def one_step_at_a_time(clip: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """The augmentation written out in float64: (3, T, H, W) uint8 and four factors to normalised colours."""
    brightness, contrast, saturation, angle = factors
    x = np.moveaxis(clip.astype(np.float64) / 255, 0, -1)
    x = x * brightness
    x = (x @ LUMA).mean() * (1 - contrast) + x * contrast
    x = (x @ LUMA)[..., None] * (1 - saturation) + x * saturation
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    x = x @ (np.linalg.inv(YIQ) @ turn @ YIQ).T
    return np.moveaxis((x - MEAN) / STD, -1, 0)


@pytest.mark.parametrize("shape", [(3, 4, 8, 8), (2, 3, 5, 7), (1, 1, 1, 1)])
@pytest.mark.parametrize("contiguous", [True, False])
def test_equals_the_steps_written_out(shape, contiguous):
    clip = clips(0, *shape)
    clip = clip.contiguous() if contiguous else clip
    ids = torch.arange(shape[0]) * 1000
    config = ColorConfig(probability=1.0, hue=0.5)
    out = ColorJitterNormalize(config, seed=3)(clip, ids, epoch=2, which=1)
    factors = draw_factors(config, ids, seed=3, epoch=2, which=1).double().numpy()
    assert (factors[:, :3] != 1).all()
    expected = np.stack([one_step_at_a_time(c, f) for c, f in zip(clip.numpy(), factors, strict=True)])
    np.testing.assert_allclose(out.numpy(), expected, rtol=0, atol=3e-5)
    assert out.is_contiguous(memory_format=torch.channels_last_3d)
    assert out.dtype == torch.float32


def test_normalize_is_imagenets():
    clip = clips(1, 2, 3, 5, 6)
    expected = (clip.double() / 255 - torch.tensor(MEAN).view(3, 1, 1, 1)) / torch.tensor(STD).view(3, 1, 1, 1)
    torch.testing.assert_close(normalize(clip).double(), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(normalize(clip, torch.bfloat16).double(), expected, rtol=0, atol=0.05)
    jitter = ColorJitterNormalize(ColorConfig(probability=0.0))
    torch.testing.assert_close(jitter(clip, torch.arange(2), epoch=0, which=0), normalize(clip), rtol=0, atol=1e-5)


def test_bfloat16_comes_out_where_asked_for():
    out = ColorJitterNormalize(ColorConfig(), dtype=torch.bfloat16)(
        clips(1, 2, 3, 4, 4), torch.arange(2), epoch=0, which=0
    )
    assert out.dtype == torch.bfloat16


def test_grey_stays_grey_under_every_hue():
    grey = torch.full((1, 3, 1, 2, 2), 128, dtype=torch.uint8)
    turned = change_colors(grey, torch.tensor([[1.0, 1.0, 1.7, 2.0]]))
    torch.testing.assert_close(turned, normalize(grey), rtol=0, atol=1e-5)


def test_other_means_and_deviations_than_imagenets():
    clip = torch.randint(0, 256, (2, 3, 2, 5, 7), dtype=torch.uint8)
    mean, std = (0.45, 0.4, 0.1), (0.225, 1.0, 2.0)
    expected = (clip.double() / 255 - torch.tensor(mean).view(3, 1, 1, 1)) / torch.tensor(std).view(3, 1, 1, 1)
    normalization = Normalization(mean, std)
    torch.testing.assert_close(normalize(clip, normalization=normalization), expected.float(), rtol=0, atol=1e-5)
    still = ColorJitterNormalize(ColorConfig(probability=0), normalization=normalization)
    out = still(clip, torch.arange(2), epoch=0, which=0)
    torch.testing.assert_close(out, expected.float(), rtol=0, atol=1e-5)


def test_factors_depend_on_their_key_and_nothing_else():
    config = ColorConfig(probability=1.0)
    ids = torch.tensor([5, 9, 2**40, 0])
    base = draw_factors(config, ids, seed=1, epoch=4, which=0)
    torch.testing.assert_close(
        draw_factors(config, ids.flip(0), seed=1, epoch=4, which=0).flip(0), base, rtol=0, atol=0
    )
    assert len({tuple(row) for row in base.tolist()}) == 4
    for other in ({"seed": 2}, {"epoch": 5}, {"which": 1}):
        key = {"seed": 1, "epoch": 4, "which": 0} | other
        assert not torch.isclose(draw_factors(config, ids, **key), base).any()


def test_shared_draws_are_the_same_for_both_clips():
    ids = torch.arange(16)
    for shared in (True, False):
        first, second = (draw_factors(ColorConfig(shared=shared), ids, seed=0, epoch=1, which=w) for w in (0, 1))
        assert torch.equal(first, second) is shared


def test_factors_are_uniform_independent_and_applied_as_often_as_asked():
    config = ColorConfig(probability=0.3, brightness=0.4, contrast=1.5, saturation=0.2, hue=0.1)
    factors = draw_factors(config, torch.arange(20000), seed=7, epoch=0, which=0).double().numpy()
    ranges = ((0.6, 1.4, 1.0), (0.0, 2.5, 1.0), (0.8, 1.2, 1.0), (-0.2 * np.pi, 0.2 * np.pi, 0.0))
    applied = np.stack([column != neutral for column, (_, _, neutral) in zip(factors.T, ranges, strict=True)], 1)
    assert np.abs(applied.mean(0) - 0.3).max() < 0.015
    assert np.abs(np.corrcoef(applied.T) - np.eye(4)).max() < 0.03
    for column, hit, (low, high, _) in zip(factors.T, applied.T, ranges, strict=True):
        assert stats.kstest(column[hit], stats.uniform(low, high - low).cdf).pvalue > 1e-3


def test_same_colours_on_every_frame():
    still = clips(2, 1, 1, 6, 6).expand(-1, -1, 5, -1, -1)
    out = ColorJitterNormalize(ColorConfig(probability=1.0))(still, torch.tensor([3]), epoch=0, which=0)
    torch.testing.assert_close(out, out[:, :, :1].expand_as(out), rtol=0, atol=1e-5)


def test_empty_batch():
    out = ColorJitterNormalize(ColorConfig())(clips(0, 0, 2, 4, 4), torch.empty(0, dtype=torch.int64), epoch=0, which=0)
    assert out.shape == (0, 3, 2, 4, 4)


def test_bad_arguments_are_named():
    jitter = ColorJitterNormalize(ColorConfig())
    with pytest.raises(ValueError, match=r"clip: got .*, needs \(B, 3, T, H, W\) uint8"):
        jitter(torch.zeros(1, 3, 2, 4, 4), torch.zeros(1), epoch=0, which=0)
    with pytest.raises(ValueError, match=r"sample_ids: got .*, needs \(1,\)"):
        jitter(clips(0, 1, 1, 2, 2), torch.zeros(2, dtype=torch.int64), epoch=0, which=0)
    for name, value in (("hue", 0.6), ("brightness", -1.0), ("probability", 1.1), ("contrast", float("nan"))):
        with pytest.raises(ValueError, match=name):
            ColorConfig(**{name: value})
