from __future__ import annotations

import logging
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tubeletx_train.common.distributed import Ranks
from tubeletx_train.config.data import DataConfig
from tubeletx_train.data import BadVideoTracker, DataError, check_videos, scan_folder
from tubeletx_train.data.bank import BankLoader, BankPlan, DecodedClipDataset
from tubeletx_train.data.clips import draw_crop
from tubeletx_train.data.pairs import resize_frames

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def records(videos):
    good, bad = check_videos(scan_folder(videos), progress=False)
    assert not bad
    return good


@pytest.fixture(scope="module")
def config(videos):
    return DataConfig(
        str(videos), num_frames=4, strides=(1, 2), crop_size=32, decode_size=40, num_workers=0, reuse=3, bank_clips=12
    )


def bank(records, config, batch_size=2, ranks=None, seed=0) -> BankLoader:
    tracker = BadVideoTracker(len(records), 0.5)
    dataset = DecodedClipDataset(records, config, seed=seed)
    return BankLoader(dataset, tracker, batch_size=batch_size, seed=seed, ranks=ranks or Ranks(), device=CPU)


plans = st.builds(
    lambda draws, steps, reuse, seed: BankPlan(draws * steps, draws, reuse, seed),
    st.integers(1, 6),
    st.integers(1, 5),
    st.integers(1, 5),
    st.integers(0, 99),
)


@settings(max_examples=60, deadline=None)
@given(plans)
def test_the_plan_is_that_of_a_bank_that_is_run_step_by_step(plan):
    """Slots hold clips by number; a clip goes after the round that drew it for the `reuse`-th time, or earlier once."""
    clips, coming, drawn = list(range(plan.num_slots)), plan.num_slots, Counter()
    first_of_slot = set(clips)
    for step in range(4 * plan.steps_per_round * plan.reuse + 1):
        assert plan.contents(step).tolist() == clips
        assert plan.loaded(step) == coming
        number, done = divmod(step, plan.steps_per_round)
        for slot in plan.order(number)[done * plan.draws : (done + 1) * plan.draws]:
            drawn[clips[slot]] += 1
            if plan.last_drawn(np.array([slot]), number)[0]:
                gone, clips[slot] = clips[slot], coming
                coming += 1
                assert drawn[gone] == plan.reuse or (gone in first_of_slot and drawn[gone] < plan.reuse)
    assert max(drawn.values()) == plan.reuse


@given(plans)
def test_a_round_draws_every_slot_once_and_replaces_as_many_in_each(plan):
    for number in range(plan.reuse):
        order = plan.order(number)
        assert sorted(order) == list(range(plan.num_slots))
        assert abs(plan.last_drawn(order, number).sum() - plan.num_slots / plan.reuse) < 1


def equal(one, other) -> bool:
    return one.epoch == other.epoch and all(
        torch.equal(getattr(one, name), getattr(other, name)) for name in ("clip_1", "clip_2", "sample_ids", "sources")
    )


@pytest.mark.parametrize("start", [1, 5, 13, 20])
def test_a_run_that_goes_on_draws_what_it_would_have_drawn(records, config, start):
    whole = list(bank(records, config).batches(0, 24))
    rest = list(bank(records, config).batches(start, 24))
    assert len(rest) == 24 - start
    assert all(equal(*pair) for pair in zip(whole[start:], rest, strict=True))


def test_batches_are_of_different_videos_and_in_the_fast_layout(records, config):
    for batch in bank(records, config).batches(0, 12):
        assert batch.clip_1.shape == batch.clip_2.shape == (2, 3, 4, 32, 32)
        assert batch.clip_1.is_contiguous(memory_format=torch.channels_last_3d)
        assert (batch.sources[:, 0] != batch.sources[:, 1]).all()
        assert batch.clip_1.float().std() > 1


def test_a_clip_is_shown_anew_each_time(records, config, monkeypatch):
    boxes = []

    def recorded(*arguments):
        boxes.append(draw_crop(*arguments))
        return boxes[-1]

    monkeypatch.setattr("tubeletx_train.data.bank.draw_crop", recorded)
    batches = list(bank(records, replace(config, reuse=4)).batches(0, 30))
    assert len({sample_id for batch in batches for sample_id in batch.sample_ids.tolist()}) == 60
    assert len(set(boxes)) > 0.9 * len(boxes) == 108


def test_clips_are_windows_of_decoded_frames(records, config):
    """Whole frames, no mirroring: what is shown is the resized clip that the data set decodes."""
    plain = replace(config, crop_area=(1.0, 1.0), crop_ratio=(4 / 3, 4 / 3), flip=0.0)
    loader = bank(records, plain)
    batch = next(loader.batches(0, 1))
    drawn = loader.plan.order(0)[:2]
    keys = [loader._sampler().batch(int(number))[0] for number in loader.plan.contents(0)[drawn]]
    for clip, key in zip(batch.clip_1, keys, strict=True):
        frames = loader._dataset[key].frames[0].numpy()
        expected = resize_frames(frames, 32).permute(3, 0, 1, 2)
        assert (clip.int() - expected.int()).abs().max() <= 1


def test_flips_are_as_likely_as_stated(records, config):
    one_size = replace(config, crop_area=(1.0, 1.0), crop_ratio=(4 / 3, 4 / 3), reuse=50, bank_clips=4)
    loader = bank(records, replace(one_size, flip=0.5))
    plain = bank(records, replace(one_size, flip=0.0))
    pairs = zip(loader.batches(0, 50), plain.batches(0, 50), strict=True)
    same = [torch.equal(a, b) for one, other in pairs for a, b in zip(one.clip_1, other.clip_1, strict=True)]
    assert sum(same) == pytest.approx(50, abs=20)


def test_processes_have_banks_of_other_clips(records, config):
    loaders = [bank(records, config, batch_size=4, ranks=Ranks(rank, 2)) for rank in (0, 1)]
    first, second = (list(loader.batches(0, 6)) for loader in loaders)
    ids = [batch.sample_ids for batches in (first, second) for batch in batches]
    assert len(torch.cat(ids).unique()) == 2 * 2 * 6
    assert not any(
        torch.equal(*pair) for pair in zip((b.clip_1 for b in first), (b.clip_1 for b in second), strict=True)
    )


def test_the_workers_fill_the_same_bank(records, config):
    alone = list(bank(records, config).batches(0, 8))
    helped = list(bank(records, replace(config, num_workers=2)).batches(0, 8))
    assert all(equal(*pair) for pair in zip(alone, helped, strict=True))


def test_a_bank_that_is_too_large_says_what_to_lower(records, config):
    with pytest.raises(DataError, match=r"bank would hold .* data.bank_limit_gb 1e-06; lower data.bank_clips"):
        next(bank(records, replace(config, bank_limit_gb=1e-6)).batches(0, 1))


def test_a_bank_of_one_video_gives_no_pairs(records, config):
    with pytest.raises(DataError, match="holds one video alone"):
        next(bank(records[:1], config).batches(0, 1))


def test_the_log_says_what_the_bank_holds(records, config, caplog):
    with caplog.at_level(logging.INFO, "tubeletx_train.data.bank"):
        next(bank(records, config).batches(0, 1))
    assert "bank of 12 clips" in caplog.text
    assert "each clip is drawn 3 times" in caplog.text
