"""Pairs of drawn clips, and a pretraining on them that reads no file."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from tubeletx.ops import draw_leaves
from tubeletx_train.config.data import DataConfig, LeavesConfig
from tubeletx_train.data import DataError, EpochSampler, build_loader, pair_dataset, prepare_videos
from tubeletx_train.data.leaves import LeafPairs, level_out

DRAWN = DataConfig(source="leaves", num_frames=3, crop_size=24, num_workers=0, leaves=LeavesConfig(pairs=12))


def operator_law(law: LeavesConfig) -> dict[str, Any]:
    """What the operator is given of it."""
    return {name: value for name, value in dataclasses.asdict(law).items() if name not in ("pairs", "spread")}


def test_clips_are_alike_in_their_mean_as_far_as_is_wished() -> None:
    clips = draw_leaves(torch.arange(40), num_frames=2, height=16, width=18, num_leaves=6, radius=(0.3, 0.8))
    means = clips.double().mean((2, 3, 4))
    assert level_out(clips, 1.0) is clips
    for spread in (0.4, 0.0):
        found = level_out(clips, spread)
        assert found.dtype == torch.uint8
        assert found.stride() == clips.stride()
        expected = np.clip(clips.numpy() - (1 - spread) * (means[..., None, None, None].numpy() - 118), 0, 255)
        assert np.abs(found.numpy() - expected).max() <= 0.5 + 1e-4
        assert found.double().mean((2, 3, 4)).std(0).max() < (spread + 0.15) * means.std(0).max()


def test_a_sample_is_two_scenes_of_its_seed_epoch_and_number() -> None:
    pairs = pair_dataset([], DRAWN, seed=3)
    assert len(pairs) == 12
    sample = pairs[(5, 7)]
    size = {"num_frames": 3, "height": 24, "width": 24}
    drawn = draw_leaves(torch.tensor([14, 15]), seed=3, epoch=5, **size, **operator_law(LeavesConfig()))
    expected = level_out(drawn, LeavesConfig().spread).permute(0, 2, 3, 4, 1)
    assert torch.equal(torch.stack([sample.clip_1, sample.clip_2]), expected)
    assert (sample.sample_id, sample.epoch, sample.sources, sample.bad) == (7, 5, (14, 15), [])
    for other in (LeafPairs(DRAWN, seed=4)[(5, 7)], pairs[(4, 7)], pairs[(5, 8)]):
        assert (other.clip_1 != sample.clip_1).any()
    with pytest.raises(IndexError, match=r"sample_id: got 12, needs one in \[0, 12\)"):
        pairs[12]


def test_the_settings_reach_the_operator() -> None:
    moves = {"motion": 1.0, "camera": 0.5, "turn": 10.0, "growth": 0.1}
    law = LeavesConfig(pairs=2, num_leaves=3, radius=(0.3, 0.5), spread=1.0, **moves)
    sample = LeafPairs(dataclasses.replace(DRAWN, leaves=law))[0]
    clips = draw_leaves(torch.arange(2), num_frames=3, height=24, width=24, **operator_law(law))
    assert torch.equal(torch.stack([sample.clip_1, sample.clip_2]), clips.permute(0, 2, 3, 4, 1))


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_the_same_by_any_number_of_workers(workers: int) -> None:
    pairs = LeafPairs(dataclasses.replace(DRAWN, num_workers=workers), seed=1)
    batches = list(build_loader(pairs, EpochSampler(len(pairs), 4, seed=1, stop=4)))
    assert [batch.epoch for batch in batches] == [0, 0, 0, 1]
    for batch in batches:
        assert batch.clip_1.is_contiguous(memory_format=torch.channels_last_3d)
        for row, sample_id in enumerate(batch.sample_ids.tolist()):
            assert torch.equal(batch.clip_2[row].permute(1, 2, 3, 0), pairs[(batch.epoch, sample_id)].clip_2)


def test_nothing_is_looked_for_on_the_disk() -> None:
    videos, tracker = prepare_videos(DRAWN)
    assert (videos, tracker.bad) == ([], [])
    tracker.update([])


def test_what_drawn_clips_cannot_be_is_refused() -> None:
    with pytest.raises(DataError, match=r'needs contrast\.mode "tubelet"'):
        pair_dataset([], DRAWN, mode="temporal")
    with pytest.raises(ValueError, match=r'^videos: got nothing, needs .*, or source "leaves"'):
        DataConfig()
    for name, value, needed in (
        ("pairs", 0, "1 or more"),
        ("num_leaves", 40000, "32768 or less"),
        ("radius", (0.2, 0.1), "two positive numbers"),
        ("motion", -1.0, "0 or more"),
        ("growth", 5.0, "4 or less"),
        ("spread", 1.5, r"one in \[0, 1\]"),
        ("turn", float("nan"), "0 or more"),
    ):
        with pytest.raises(ValueError, match=f"^{name}: got .*, needs {needed}"):
            LeavesConfig(**{name: value})
