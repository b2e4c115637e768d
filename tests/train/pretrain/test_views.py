"""Views that one operator makes, of decoded pairs and of a bank's: against those made step by step, and in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from reference import augment_clips as reference
from reference.crop_patches import crop_patches
from reference.paste_tubelets import paste_tubelets
from tubeletx.config import TubeletConfig
from tubeletx_train.config.data import IMAGENET
from tubeletx_train.config.pretrain import ContrastConfig
from tubeletx_train.data import ColorConfig, PairBatch
from tubeletx_train.data.augment import draw_factors, in_turns
from tubeletx_train.data.bank import BankBatch
from tubeletx_train.pretrain.views import PairViews

PAIRS, FRAMES, SIDE, SEED, EPOCH = 4, 5, 32, 11, 3
IDS = torch.tensor([5, 2**40, 17, 0])
SIZES = [(40, 53), (37, 37), (64, 48), (40, 53), (33, 70), (32, 32), (40, 60), (50, 41)]
COLOR = ColorConfig(probability=0.7)


def noise(seed, *shape):
    """Clips (B, 3, T, H, W) as decoders give them."""
    generator = torch.Generator().manual_seed(seed)
    batch, height, width = shape
    clips = torch.randint(256, (batch, FRAMES, height, width, 3), dtype=torch.uint8, generator=generator)
    return clips.permute(0, 4, 1, 2, 3)


def of_pairs():
    sources = torch.zeros(PAIRS, 2, dtype=torch.int64)
    return PairBatch(noise(1, PAIRS, SIDE, SIDE), noise(2, PAIRS, SIDE, SIDE), IDS, EPOCH, sources, [])


def of_bank(rows=tuple(range(PAIRS))):
    rows = list(rows)
    clips = [noise(place, 1, *size) for place, size in enumerate(SIZES)]
    windows = [[1, 2, width, height - 1] for height, width in SIZES]
    return BankBatch(
        clips=[clip for row in rows for clip in clips[2 * row : 2 * row + 2]],
        windows=torch.tensor(windows, dtype=torch.int32).view(PAIRS, 2, 4)[rows],
        flips=torch.tensor([[True, False], [False, False], [True, True], [False, True]])[rows],
        side=SIDE,
        sample_ids=IDS[rows],
        epoch=EPOCH,
        sources=torch.zeros(PAIRS, 2, dtype=torch.int64)[rows],
        bad=[],
    )


def views_of(preset="paper", color=COLOR, **contrast):
    return PairViews(ContrastConfig(**contrast), TubeletConfig.preset(preset), color, seed=SEED)


@pytest.mark.parametrize("make", [of_pairs, of_bank])
@pytest.mark.parametrize("mode", ["tubelet", "temporal"])
@pytest.mark.parametrize("still", [False, True])
@pytest.mark.parametrize("preset", ["paper", "released"])
def test_one_pass_gives_the_bits_of_all_steps(make, mode, still, preset):
    views = views_of(preset, mode=mode, still_background=still)
    assert views._is_plain()
    fused, steps = views._in_one_pass(make()), views._step_by_step(make())
    for one, other in ((fused.query, steps.query), (fused.key, steps.key)):
        assert torch.equal(one, other)
        assert one.is_contiguous(memory_format=torch.channels_last_3d)
    assert torch.equal(fused.clip_1, steps.clip_1)
    assert torch.equal(fused.clip_2, steps.clip_2)
    if mode == "tubelet":
        assert torch.equal(fused.tubelets.centers, steps.key_tubelets.centers)
    assert fused.query.std() > 0.1


@pytest.mark.parametrize(
    "contrast",
    [
        {"own_negatives": "reversed"},
        {"patches": "per_clip"},
        {"shared_patches": 2},
        {"path_offset": 0.5},
        {"mode": "temporal", "own_negatives": "reversed"},
    ],
)
def test_a_banks_pairs_are_those_of_the_clips_that_it_shows(contrast):
    bank = of_bank()
    shown = PairBatch(bank.clip_1, bank.clip_2, IDS, EPOCH, bank.sources, [])
    views, same = views_of(**contrast)(bank), views_of(**contrast)(shown)
    assert torch.equal(views.query, same.query)
    assert torch.equal(views.key, same.key)
    if same.own_negative is not None:
        assert torch.equal(views.own_negative, same.own_negative)


def test_a_pair_is_the_same_in_any_batch():
    whole = views_of()(of_bank())
    for rows in ([2], [1, 2, 3], [3, 2, 1, 0]):
        part = views_of()(of_bank(rows))
        assert torch.equal(part.query, whole.query[rows])
        assert torch.equal(part.key, whole.key[rows])
    views = views_of()
    views(of_bank([0]))  # what the kept memory was used for before does not matter
    assert torch.equal(views(of_bank()).key, whole.key)


@pytest.mark.parametrize("preset", ["paper", "released"])
def test_a_banks_pairs_equal_float64(preset):
    """Window, tubelets and colours, one after the other, without rounding to bytes."""
    bank = of_bank()
    views = views_of(preset)(bank)
    shown = np.stack(
        [
            reference.resize(clip[0].permute(1, 2, 3, 0).numpy(), tuple(window), bool(flip), (SIDE, SIDE))
            for clip, window, flip in zip(
                bank.clips, bank.windows.view(-1, 4).tolist(), bank.flips.flatten().tolist(), strict=True
            )
        ]
    )
    clips = shown.reshape(PAIRS, 2, FRAMES, SIDE, SIDE, 3).transpose(1, 0, 5, 2, 3, 4)
    fields = {name: tensor.numpy() for name, tensor in views.tubelets.tensors().items()}
    size = fields["patch_box"][..., 2:] - fields["patch_box"][..., :2]
    patches = crop_patches(clips[0], fields["patch_frame"], fields["patch_box"], tuple(size.max((0, 1))[::-1]))
    names = ("centers", "linear", "shape", "edge", "opacity", "order")
    pasted = paste_tubelets(clips, patches, size, *(fields[name] for name in names)).clips
    for which, view in enumerate((views.query, views.key)):
        factors = in_turns(draw_factors(COLOR, IDS, seed=SEED, epoch=EPOCH, which=which)).numpy()
        for row in range(PAIRS):
            frames = pasted[which][row].transpose(1, 2, 3, 0)
            expected = reference.change_colors(frames, factors[row], (*IMAGENET.mean, *IMAGENET.std))
            error = np.abs(view[row].permute(1, 2, 3, 0).numpy() - expected)
            # A level is at most .031 of a normalised colour; colours were raised by up to 1.4 ** 3 and turned.
            assert np.mean(error) < 0.02
            # Hard edges may fall on either side of a pixel's centre.
            assert np.mean(error > 0.15) < 0.002
