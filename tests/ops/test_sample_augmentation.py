from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from reference import augment_clips as reference
from tubeletx import AugmentConfig
from tubeletx.ops.sample_augmentation import sample_augmentation

CONFIGS = {
    "default": AugmentConfig(),
    "whole frames": AugmentConfig(area=None, flip=0, jitter=0),
    "all": AugmentConfig(area=(0.3, 0.5), jitter=1, brightness=1.5, hue=0.5, grayscale=0.3, same_color=True),
    "narrow": AugmentConfig(area=(0.9, 1), ratio=(0.01, 0.02)),
}


def draw(config: AugmentConfig, ids: Tensor, sizes: tuple[int, ...], **arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    return sample_augmentation(ids, sizes, config.settings(), **arguments)


@pytest.mark.parametrize("name", CONFIGS)
def test_equals_the_reference(name: str) -> None:
    ids, sizes = [0, 1, -5, 2**40, 77], (128, 171, 340, 256, 1, 9)
    windows, flips, color = draw(CONFIGS[name], torch.tensor(ids), sizes, seed=2**35 + 9, epoch=3)
    for b, sample_id in enumerate(ids):
        for v in range(3):
            expected = reference.draw(CONFIGS[name], 2**35 + 9, sample_id, 3, v, *sizes[2 * v : 2 * v + 2])
            assert tuple(windows[b, v].tolist()) == expected[0]
            assert bool(flips[b, v]) == expected[1]
            torch.testing.assert_close(color[b, v], torch.tensor(expected[2]))


def test_follows_its_law() -> None:
    config = AugmentConfig(area=(0.2, 0.6), flip=0.3, jitter=0.7, brightness=0.5, contrast=2, hue=0.2, grayscale=0.25)
    windows, flips, color = (drawn[:, 0].double() for drawn in draw(config, torch.arange(20000), (500, 600)))
    width, height = windows[:, 2] - windows[:, 0], windows[:, 3] - windows[:, 1]
    assert (windows[:, :2] >= 0).all()
    assert (windows[:, 2] <= 600).all()
    assert (windows[:, 3] <= 500).all()
    share = width * height / 300_000
    assert share.min() > 0.19
    assert share.max() < 0.61
    assert abs(share.mean() - 0.4) < 0.01
    logarithm = (width / height).log()
    assert logarithm.abs().max() < math.log(4 / 3) + 0.02
    assert abs(logarithm.mean()) < 0.01
    assert abs(flips.mean() - 0.3) < 0.015
    for index, (low, high) in enumerate([(0.5, 1.5), (0, 3), (0.6, 1.4), (-0.2, 0.2)]):
        values = color[:, index]
        drawn = values[(values != (0 if index == 3 else 1)) & ((values != 0) | (index != 2))]
        assert low <= drawn.min() < low + 0.02
        assert high - 0.02 < drawn.max() <= high
        assert abs(drawn.mean() - (low + high) / 2) < 0.04 * (high - low)
    assert abs((color[:, 2] == 0).double().mean() - 0.25) < 0.015
    assert abs((color[:, 0] != 1).double().mean() - 0.7) < 0.015


def test_batch_position_threads_and_other_clips_make_no_difference() -> None:
    ids = torch.randint(-(2**62), 2**62, (300,), generator=torch.Generator().manual_seed(0))
    many = draw(AugmentConfig(), ids, (50, 60, 70, 80), seed=4, epoch=9)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        first = draw(AugmentConfig(), ids.flip(0), (50, 60), seed=4, epoch=torch.tensor(9))
    finally:
        torch.set_num_threads(threads)
    for whole, part in zip(many, first, strict=True):
        assert torch.equal(whole[:, :1], part.flip(0))


def test_seed_epoch_sample_and_clip_change_the_draws() -> None:
    ids = torch.arange(50)
    base = draw(AugmentConfig(), ids, (90, 90, 90, 90))
    others = [
        draw(AugmentConfig(), ids, (90, 90, 90, 90), seed=1),
        draw(AugmentConfig(), ids, (90, 90, 90, 90), epoch=1),
        draw(AugmentConfig(), ids + 50, (90, 90, 90, 90)),
        tuple(drawn.flip(1) for drawn in base),
    ]
    for other in others:
        for first, second in zip(base, other, strict=True):
            assert not torch.equal(first, second)
    color = draw(AugmentConfig(same_color=True), ids, (90, 90, 90, 90))[2]
    assert torch.equal(color[:, 0], color[:, 1])
    assert torch.equal(color[:, 0], base[2][:, 0])


def test_one_setting_leaves_the_other_draws_as_they_were() -> None:
    ids = torch.arange(100)
    base = draw(AugmentConfig(), ids, (90, 120))
    plain = draw(AugmentConfig(area=None, hue=0), ids, (90, 120))
    assert torch.equal(plain[1], base[1])
    assert torch.equal(plain[2][..., :3], base[2][..., :3])
    assert (plain[2][..., 3] == 0).all()


IDS = torch.arange(2)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("sample_ids", {"sample_ids": IDS.int()}),
        ("sample_ids", {"sample_ids": IDS[None]}),
        ("sizes", {"sizes": (3,)}),
        ("sizes", {"sizes": ()}),
        ("sizes", {"sizes": (3, 0)}),
        ("sizes", {"sizes": (3, 70000)}),
        ("sizes", {"sizes": (3, 4) * 9}),
        ("settings", {"settings": [0.0] * 11}),
        ("settings", {"settings": [float("nan")] * 12}),
        ("epoch", {"epoch": -1}),
        ("epoch", {"epoch": torch.tensor([1, 2])}),
    ],
)
def test_refuses(name: str, arguments: dict[str, Any]) -> None:
    good = {"sample_ids": IDS, "sizes": (3, 4), "settings": AugmentConfig().settings()}
    with pytest.raises(ValueError, match=rf"^{name}: "):
        sample_augmentation(**{**good, **arguments})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("area", (0, 1)),
        ("area", (0.5, 1.1)),
        ("ratio", (2, 1)),
        ("flip", 1.5),
        ("jitter", -1),
        ("contrast", float("nan")),
        ("hue", 0.6),
        ("grayscale", 2),
        ("mean", (0, 0)),
        ("std", (1, 0, 1)),
        # Of other types than a YAML file or a call should give them.
        ("area", 0.5),
        ("area", (0.5, "1")),
        ("ratio", "ab"),
        ("flip", "0.5"),
        ("jitter", None),
        ("brightness", "much"),
        ("hue", None),
        ("same_color", "no"),
        ("same_color", 1),
        ("mean", 0.5),
        ("std", (1, 1, "1")),
    ],
)
def test_the_config_refuses_by_name(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"^{name}: got"):
        AugmentConfig(**{name: value})


def test_the_config_takes_numbers_of_numpy() -> None:
    config = AugmentConfig(flip=np.float32(0.25), mean=np.zeros(3), same_color=np.bool_(True))
    assert config == AugmentConfig(flip=0.25, mean=(0, 0, 0), same_color=True)


@pytest.mark.parametrize("sizes", [3, "ab", (8.5, 8), [(8, 8)]])
def test_sizes_are_integers(sizes: Any) -> None:
    with pytest.raises(TypeError, match=r"^sizes: got"):
        sample_augmentation(IDS, sizes, AugmentConfig().settings())


def test_operator_is_well_formed() -> None:
    operator = torch.ops.tubeletx.sample_augmentation.default
    settings = AugmentConfig().settings()
    torch.library.opcheck(operator, (IDS, 1, 2, (8, 9, 10, 11), settings, None))
    torch.library.opcheck(operator, (IDS[:0], 1, 0, (8, 9), settings, torch.tensor(3)))


def test_compiles_without_breaks() -> None:
    settings = AugmentConfig().settings()
    compiled = torch.compile(sample_augmentation, fullgraph=True, backend="aot_eager")
    got, expected = (function(IDS, (8, 9), settings, seed=3) for function in (compiled, sample_augmentation))
    assert all(map(torch.equal, got, expected))
