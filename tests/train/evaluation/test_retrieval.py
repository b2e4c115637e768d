import math

import numpy as np
import pytest
import torch
from torch import nn

from fixed_network import Fixed, noise_batches
from tubeletx.config import TubeletConfig
from tubeletx.pair import TubeletPair
from tubeletx_train.evaluation.embed import calibrate_batch_norm, embed
from tubeletx_train.evaluation.pair_retrieval import PairSet, draw_pair_set, held_out_retrieval, mean_and_spread, recall

T, S = 8, 32


@pytest.mark.parametrize("k", [1, 2, 5, 9])
def test_recall_against_sorting(k):
    rng = np.random.default_rng(0)
    query, key = rng.standard_normal((2, 9, 4))
    order = np.argsort(-(query @ key.T), axis=1)
    expected = np.mean([row in order[row, :k] for row in range(9)])
    assert recall(torch.tensor(query), torch.tensor(key), k) == pytest.approx(expected)


def test_a_constant_embedding_recalls_at_chance():
    ones = torch.ones(8, 3)
    assert recall(ones, ones, 1) == pytest.approx(1 / 8)
    assert recall(ones, ones, 5) == pytest.approx(5 / 8)


def test_retrieval_of_a_network_that_sees_the_pair_and_one_that_does_not():
    clips = torch.zeros(16, 3, 2, 4, 4, dtype=torch.uint8)
    clips[:, 0] = torch.arange(16, dtype=torch.uint8)[:, None, None, None] * 16
    sets = [PairSet(clips, clips.clone()) for _ in range(2)]

    def angle(clip):
        turn = clip[:, 0, 0, 0, 0] * 0.5
        return torch.stack([turn.cos(), turn.sin()], 1)

    seeing = held_out_retrieval(Fixed(angle), sets, batch_size=5)
    assert seeing.recall_at_1 == (1.0, 1.0)
    blind = held_out_retrieval(Fixed(lambda clip: torch.ones(len(clip), 2)), sets)
    assert blind.summary() == pytest.approx(
        {"r@1": 1 / 16, "r@1_std": 0, "r@1_chance": 1 / 16, "r@5": 5 / 16, "r@5_std": 0, "r@5_chance": 5 / 16}
    )


def test_pair_sets_carry_the_same_tubelets_and_are_repeatable():
    pair = TubeletPair(TubeletConfig(transforms=(), num_tubelets=1), seed=3)
    first, again = (draw_pair_set(noise_batches(3), pair, 12) for _ in range(2))
    assert first.query.shape == first.key.shape == (12, 3, T, S, S)
    assert torch.equal(first.query, again.query)
    # Independent noise agrees at one pixel in 2^24; pasted patches agree everywhere that they cover.
    same = (first.query == first.key).all(1).flatten(1).float().mean(1)
    assert (same > 0.01).all()
    with pytest.raises(ValueError, match="got 15 pairs, needs count=16"):
        draw_pair_set(noise_batches(3), pair, 16)


def test_still_backgrounds_move_under_tubelets_only():
    pair = TubeletPair(TubeletConfig(num_tubelets=1), seed=3)
    moving = draw_pair_set(noise_batches(1), pair, 5, still_background=True).key
    changed = (moving[:, :, 1:] != moving[:, :, :-1]).any(1).float().mean((1, 2, 3))
    assert (changed < 0.6).all()
    assert (changed > 0).all()


def test_embedding_leaves_mode_and_statistics_alone():
    net = nn.Sequential(nn.Conv3d(3, 2, 1), nn.BatchNorm3d(2), nn.Flatten())
    clips = torch.randint(256, (5, 3, 1, 2, 2), dtype=torch.uint8)
    features = embed(net, clips, batch_size=2)
    assert features.shape == (5, 8)
    assert net.training
    assert net[1].num_batches_tracked == 0
    calibrate_batch_norm(net, clips[:4], batch_size=2)
    assert net[1].num_batches_tracked == 2
    assert net[1].momentum == 0.1
    calibrated = embed(net, clips[:4]).unflatten(1, (2, 4))
    assert calibrated.mean((0, 2)).abs().max() < 1e-4


def test_mean_and_spread():
    assert mean_and_spread([1.0, 3.0]) == pytest.approx((2.0, math.sqrt(2)))
    assert mean_and_spread([4.0]) == (4.0, 0.0)
