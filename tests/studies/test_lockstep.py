"""Runs side by side take the trainer's steps, on the trainer's clips."""

import itertools
from concurrent.futures import Future

import pytest
import torch

from studies.arms import FULL, arm_recipe
from studies.bank import BankInTheMaking, _draw
from studies.lockstep import METRICS, PlainColors, Trainee, learning_rates
from studies.runs import Run
from studies.videos import write_study_manifest
from tubeletx_train.common.checkpoint import load_checkpoint
from tubeletx_train.config.parse import config_from_tree
from tubeletx_train.config.pretrain import PretrainConfig
from tubeletx_train.config.tree import merge
from tubeletx_train.data import EpochSampler, PairDataset, normalize, prepare_videos
from tubeletx_train.data.loader import collate_pairs
from tubeletx_train.pretrain.task import pretrain
from video_files import make_video

CPU = torch.device("cpu")
STEPS = 5
TOY = {
    "data": {"num_frames": 4, "crop_size": 16, "decode_size": 32, "samples_per_video": 4, "cache_frames": False},
    "model": {"width": 2, "dim": 8},
    "optim": {"batch_size": 4, "steps": STEPS, "warmup_steps": 1, "precision": "float32"},
    "run": {"device": "cpu", "threads": 1, "log_every": 1, "seed": 3},
}


class Here:
    """A pool that does its work at once."""

    def submit(self, function, *arguments):
        future = Future()
        future.set_result(function(*arguments))
        return future


class Normalize(torch.nn.Module):
    """The trainer's normalisation, which rounds otherwise than `PlainColors`: Adam makes much of a last bit."""

    def forward(self, clip, sample_ids, *, epoch, which):
        return normalize(clip)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    for number in range(5):
        make_video(folder / "clips" / f"{number}.mp4", tint=(40 * number, 90, 200 - 40 * number))
    return write_study_manifest(str(folder / "clips"), folder / "videos.csv")


def config_of(arm, manifest, output, **changes):
    places = {"data": {"videos": str(manifest)}, "run": {"output": str(output)}}
    return config_from_tree(PretrainConfig, merge(merge(arm_recipe(arm), merge(TOY, places)), changes), arm)


def bank_of(config, steps, folder):
    return BankInTheMaking.start(config, steps, folder / "clips.bin", Here()).finish(CPU)


def test_a_bank_holds_what_the_loader_gives(manifest, tmp_path):
    config = config_of("rotation", manifest, tmp_path)
    bank = bank_of(config, 4, tmp_path)
    videos, _ = prepare_videos(config.data)
    dataset = PairDataset(videos, config.data, seed=config.run.seed)
    assert _draw.__module__ == "studies.bank"  # found by another process
    keys = EpochSampler(len(dataset), 4, seed=config.run.seed, stop=4)
    epochs = set()
    for step, batch in enumerate(keys):
        expected, found = collate_pairs([dataset[key] for key in batch]), bank.batch(torch.tensor(step))
        assert torch.equal(found.clip_1, expected.clip_1)
        assert torch.equal(found.clip_2, expected.clip_2)
        assert torch.equal(found.sample_ids, expected.sample_ids)
        assert found.epoch.tolist() == [expected.epoch]
        epochs.add(expected.epoch)
    # The next rounds show the same clips in epochs that were not there.
    for turn in (1, 2):
        for step in range(4):
            again = bank.batch(torch.tensor(4 * turn + step))
            assert torch.equal(again.clip_2, bank.batch(torch.tensor(step)).clip_2)
            assert again.epoch.item() not in epochs
        epochs |= {bank.batch(torch.tensor(4 * turn + step)).epoch.item() for step in range(4)}


@pytest.mark.parametrize(
    ("arm", "changes"),
    [
        (FULL, {}),
        ("temporal", {}),
        ("static", {"optim": {"clip_norm": 0.5}}),
        ("shared_4", {}),
        ("turned", {}),
        ("queue_m9_k256_sgd_05", {"contrast": {"queue_size": 10}}),
        ("queue_m99_k256_adamw_004", {"contrast": {"queue_size": 6}}),
    ],
)
def test_a_run_side_by_side_is_the_trainers(arm, changes, manifest, tmp_path):
    config = config_of(arm, manifest, tmp_path / "run", **changes)
    expected = load_checkpoint(pretrain(config).checkpoint)["model"]
    trainee = Trainee(Run(arm, 3), config, bank_of(config, STEPS, tmp_path), CPU)
    trainee.views.color = Normalize()
    trainee.begin("float32")
    for _ in range(STEPS):
        trainee.advance()
    found = trainee.net.state_dict()
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        # The rates are float32 here, which Adam makes more of.
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=5e-4)
    log = trainee.log()
    assert [point["step"] for point in log] == [1, 2, 3, 4, 5]
    assert set(METRICS) <= log[0].keys()
    assert not trainee.diverged()


def test_the_rates_are_those_of_the_schedule(manifest, tmp_path):
    config = config_of(FULL, manifest, tmp_path)
    rates = learning_rates(config.optim)
    assert len(rates) == STEPS
    assert rates[0] == pytest.approx(config.optim.lr)  # a warm-up of one step
    assert all(later < earlier for earlier, later in itertools.pairwise(rates[1:]))


def test_plain_colours_are_normalised_as_ever():
    clip = torch.randint(256, (2, 3, 4, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    found = PlainColors()(clip, torch.arange(2), epoch=torch.tensor(0), which=0)
    torch.testing.assert_close(found, normalize(clip), rtol=1e-5, atol=1e-5)


def test_what_a_graph_cannot_hold_is_refused(manifest, tmp_path):
    config = config_of("color_independent", manifest, tmp_path)
    with pytest.raises(ValueError, match=r"color_independent: needs color\.probability 0"):
        Trainee(Run("color_independent", 0), config, bank_of(config, 1, tmp_path), CPU)
