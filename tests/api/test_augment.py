from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ops.test_augment_clips import drawn_clip
from tubeletx import AugmentClips, AugmentConfig, TubeletConfig
from tubeletx.ops import augment_clips_, sample_augmentation

IDS = torch.tensor([3, 2**40, -7])
SIZES = ((30, 41), (25, 60), (50, 33))


def test_is_what_the_operators_do() -> None:
    config = AugmentConfig(area=(0.2, 0.9))
    augment = AugmentClips((18, 22), config, tubelets=TubeletConfig(), seed=5)
    clips = [drawn_clip(v, 3, 4, *size) for v, size in enumerate(SIZES[:2])]
    (first, second), drawn = augment(clips, IDS, 2)
    windows, flips, color = sample_augmentation(IDS, (30, 41, 25, 60), config.settings(), seed=5, epoch=2)
    assert torch.equal(drawn.windows, windows)
    assert torch.equal(drawn.flips, flips)
    assert torch.equal(drawn.color, color)
    assert drawn.tubelets is not None
    assert augment.sampler is not None
    expected = augment.sampler(IDS, num_frames=4, height=18, width=22, epoch=2)
    assert torch.equal(drawn.tubelets.centers, expected.centers)
    outputs = [torch.empty_like(first), torch.empty_like(second)]
    fields = list(expected.tensors().values())
    normalization = (*config.mean, *config.std)
    augment_clips_(outputs, clips, windows, flips, color, normalization, fields, expected.max_patch_size)
    assert torch.equal(first, outputs[0])
    assert torch.equal(second, outputs[1])
    assert first.shape == (3, 3, 4, 18, 22)
    assert first.is_contiguous(memory_format=torch.channels_last_3d)


@pytest.mark.parametrize("tubelets", [None, TubeletConfig()], ids=["plain", "tubelets"])
def test_clips_of_several_sizes_get_what_they_get_alone(tubelets: TubeletConfig | None) -> None:
    augment = AugmentClips(16, tubelets=tubelets, dtype=torch.bfloat16, layout="BTHWC")
    views = [[drawn_clip(10 * v + b, 1, 4, *SIZES[b])[0].permute(1, 2, 3, 0) for b in range(3)] for v in range(2)]
    together, drawn = augment(views, IDS, 1)
    for b in range(3):
        alone, part = augment([view[b][None] for view in views], IDS[b : b + 1], 1)
        assert torch.equal(together[0][b : b + 1], alone[0])
        assert torch.equal(together[1][b : b + 1], alone[1])
        assert torch.equal(drawn.windows[b : b + 1], part.windows)
    again, same = augment(views, IDS, 9, augmentation=drawn)
    assert same is drawn
    assert torch.equal(again[0], together[0])


def test_edited_draws_and_kept_memory() -> None:
    augment = AugmentClips(16, AugmentConfig(flip=0.5), seed=1)
    clip = drawn_clip(0, 3, 2, 30, 41)
    (view,), drawn = augment([clip], IDS)
    kept = torch.empty_like(view)
    mirrored = dataclasses.replace(drawn, flips=~drawn.flips)
    (result,), _ = augment([clip], IDS, augmentation=mirrored, out=[kept])
    assert result is kept
    assert torch.equal(kept, view.flip(4))


def test_bytes_are_what_floats_are_made_of() -> None:
    clip = drawn_clip(1, 3, 2, 30, 41)
    config = AugmentConfig(jitter=0, mean=(0, 0, 0), std=(1, 1, 1))
    (levels,), _ = AugmentClips(16, config, dtype=torch.uint8)([clip], IDS)
    (floats,), _ = AugmentClips(16, config)([clip], IDS)
    torch.testing.assert_close(floats, levels.float() / 255)


def test_whole_frames_for_evaluation() -> None:
    clip = drawn_clip(2, 3, 2, 20, 24)
    (view,), drawn = AugmentClips((20, 24), AugmentConfig(area=None, flip=0, jitter=0))([clip], IDS)
    assert (drawn.windows == torch.tensor([0, 0, 24, 20])).all()
    config = AugmentConfig()
    mean, std = (torch.tensor(values).view(3, 1, 1, 1) for values in (config.mean, config.std))
    torch.testing.assert_close(view, (clip / 255 - mean) / std, atol=3e-6, rtol=0)


def test_epochs_may_be_tensors() -> None:
    augment = AugmentClips(16, tubelets=TubeletConfig(), seed=1)
    clip = drawn_clip(3, 3, 2, 20, 24)
    assert torch.equal(augment([clip], IDS, torch.tensor(4))[0][0], augment([clip], IDS, 4)[0][0])


def test_empty_batch() -> None:
    (view,), drawn = AugmentClips(16, tubelets=TubeletConfig())([drawn_clip(0, 0, 2, 20, 24)], IDS[:0])
    assert view.shape == (0, 3, 2, 16, 16)
    assert len(drawn.windows) == 0


@pytest.mark.parametrize(
    ("clips", "message"),
    [
        ([], "clips: got none"),
        ([[]], "clips: got 0 clips for 3 sample_ids"),
        ([drawn_clip(0, 2, 2, 20, 24)], "clips: got shape"),
        ([drawn_clip(0, 3, 2, 20, 24).float()], "clips: got dtype"),
        ([torch.zeros(3, 2, 20, 24, 3, dtype=torch.uint8)], "outputs: got shape|clips: got shape"),
    ],
)
def test_refuses(clips: list[Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AugmentClips(16)(clips, IDS)


def test_a_tensor_in_the_place_of_a_list_is_refused() -> None:
    with pytest.raises(TypeError, match=r"^clips: got a tensor, needs a list"):
        AugmentClips(16)(drawn_clip(0, 3, 2, 20, 24), IDS)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "arguments", [{"size": 0}, {"size": (4, -1)}, {"size": (4, 4, 4)}, {"layout": "XYZ"}, {"dtype": torch.float64}]
)
def test_refuses_settings(arguments: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"^(size|layout|dtype): got"):
        AugmentClips(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [32.0, "32", None, (32, "a"), (8.5, 9)])
def test_sizes_are_integers(size: Any) -> None:
    with pytest.raises(TypeError, match=r"^size: got"):
        AugmentClips(size)


def test_sizes_and_seeds_of_numpy() -> None:
    assert AugmentClips(np.int64(32)).size == (32, 32)
    assert AugmentClips([np.int64(8), 9], seed=2**64 - 1).size == (8, 9)
    with pytest.raises(ValueError, match=r"^seed: got"):
        AugmentClips(8, seed=2**64)
