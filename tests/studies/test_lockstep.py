"""Runs side by side take the trainer's steps, on the trainer's clips."""

import dataclasses
import itertools
import json
import time
from concurrent.futures import Future

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import studies.runs
from studies.arms import FULL, arm_recipe
from studies.bank import BankInTheMaking, _draw
from studies.lockstep import METRICS, NoGraphsError, PlainColors, SideBySide, Trainee, learning_rates
from studies.measure import Measurements, draw_measurements, embed, read_out_all
from studies.runs import Run, Study
from studies.videos import write_study_manifest
from tubeletx_train.common.checkpoint import load_checkpoint
from tubeletx_train.config.parse import config_from_tree
from tubeletx_train.config.pretrain import PretrainConfig
from tubeletx_train.config.tree import merge
from tubeletx_train.data import (
    EpochSampler,
    normalize,
    pair_dataset,
    prepare_videos,
    read_manifest,
    write_manifest,
)
from tubeletx_train.data.loader import collate_pairs
from tubeletx_train.engine.precision import Settled
from tubeletx_train.evaluation.pretrained import load_pretraining, trained_net
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


@pytest.mark.parametrize("arm", ["rotation", "leaves"])
def test_a_bank_holds_what_the_loader_gives(arm, manifest, tmp_path):
    config = config_of(arm, manifest, tmp_path, data={"leaves": {"pairs": 12}})
    bank = bank_of(config, 4, tmp_path)
    videos, _ = prepare_videos(config.data)
    dataset = pair_dataset(videos, config.data, seed=config.run.seed)
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
        ("tracks", {}),
        ("turned", {}),
        # At its own rate so small a network multiplies a difference of the last bit tenfold a step.
        ("queue_m9_k256_sgd_05", {"contrast": {"queue_size": 10}, "optim": {"lr": 0.0005}}),
        ("queue_m99_k256_adamw_004", {"contrast": {"queue_size": 6}}),
    ],
)
def test_a_run_side_by_side_is_the_trainers(arm, changes, manifest, tmp_path):
    config = config_of(arm, manifest, tmp_path / "run", **changes)
    expected = load_checkpoint(pretrain(config).checkpoint)["model"]
    trainee = Trainee(Run(arm, 3), config, bank_of(config, STEPS, tmp_path), CPU)
    trainee.views.color = Normalize()
    trainee.begin(Settled("float32"))
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


class NoWaiting(TorchDispatchMode):
    """Refuses what a GPU has to be waited for, or takes from the host's memory: a graph cannot hold it."""

    REFUSED = ("_local_scalar_dense", "is_nonzero", "nonzero", "masked_select", "lift_fresh", "unique", "equal")

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket._qualified_op_name.removeprefix("aten::")
        assert name not in self.REFUSED, name
        return func(*args, **(kwargs or {}))


class NoOptimizer:
    """The optimizer reads the rate where it is not on a GPU."""

    def step(self):
        pass


@pytest.mark.parametrize(
    "arm", ["rotation", "temporal", "tracks", "shared_8_place", "turned", "path_offset", "queue_long"]
)
def test_a_step_waits_for_nothing(arm, manifest, tmp_path):
    config = config_of(arm, manifest, tmp_path, contrast={"queue_size": 8} if arm == "queue_long" else {})
    trainee = Trainee(Run(arm, 3), config, bank_of(config, 2, tmp_path), CPU)
    trainee._optimizer = NoOptimizer()
    trainee.begin(Settled("bfloat16"))
    trainee.advance()
    with NoWaiting():
        trainee.advance()
    assert trainee.log()[-1]["loss"] > 0


def test_what_a_graph_cannot_hold_is_refused(manifest, tmp_path):
    config = config_of("color_independent", manifest, tmp_path)
    with pytest.raises(ValueError, match=r"color_independent: needs color\.probability 0"):
        Trainee(Run("color_independent", 0), config, bank_of(config, 1, tmp_path), CPU)


@pytest.fixture
def toys(manifest, tmp_path, monkeypatch):
    """A study of very small runs, and few clips to measure by."""
    monkeypatch.setattr(studies.runs, "arm_recipe", lambda arm, size="small": merge(arm_recipe(arm, size), TOY))
    study = Study(tmp_path / "study", steps=STEPS)
    study.root.mkdir()
    write_manifest(study.manifest, read_manifest(manifest))
    config = config_of(FULL, study.manifest, tmp_path)
    draw_measurements(config, {}, None, fit_clips=40, judged_clips=20, pairs=8).save(study.measurements)
    return study


def side_by_side(study, runs, **settings):
    drawn = Future()
    drawn.set_result(None)
    defaults = {"device": CPU, "reuse": 2, "width": 3, "graphs": True, "points": 5, "end": time.monotonic() + 300}
    return SideBySide(study, runs, Here(), drawn, **defaults | settings)


def test_several_runs_to_their_results(toys, tmp_path):
    runs = [Run(arm, seed) for seed in (0, 1) for arm in (FULL, "untrained", "rotation_25", "reuse_1", "supervised")]
    lines = tmp_path / "results.jsonl"
    assert side_by_side(toys, runs, lines=lines, commit="abc").go() == 8  # `supervised` is not run so
    found = {(result["arm"], result["seed"]): result for result in map(json.loads, lines.read_text().splitlines())}
    assert len(found) == 8
    full = found[FULL, 1]
    assert [point["step"] for point in full["along"]] == [1, 2, 3, 4, 5]
    assert full["along"][-1]["linear"] == full["probe"]["linear"]
    assert full["commit"] == "abc"
    assert full["reuse"] == 2.5
    assert full["config"]["run"]["seed"] == 1
    assert [point["step"] for point in full["log"]] == [1, 2, 3, 4, 5]
    assert full == toys.result(Run(FULL, 1))
    assert found["reuse_1", 0]["reuse"] == 1
    assert found["untrained", 0]["along"] == []
    config, weights = load_pretraining(toys.encoder(Run(FULL, 1)))
    assert config.run.seed == 1
    embedded = embed(trained_net(config, weights), Measurements.load(toys.measurements))
    assert read_out_all(embedded)["probe"] == full["probe"]
    assert side_by_side(toys, runs).go() == 0  # nothing is run again


def test_arms_that_draw_otherwise_have_clips_of_their_own(toys):
    runs = [Run(arm, 0) for arm in ("leaves", "leaves_moving", FULL, "linear")]
    drawn, moving, read, same = map(side_by_side(toys, runs)._key, runs)
    assert len({drawn, moving, read}) == 3
    assert same == read


def test_a_run_that_fails_leaves_the_others(toys, monkeypatch, caplog):
    advance = Trainee.advance

    def fail(trainee):
        if trainee.run.arm == "temporal" and trainee.step == 2:
            raise RuntimeError("out of luck")
        advance(trainee)

    monkeypatch.setattr(Trainee, "advance", fail)
    assert side_by_side(toys, [Run("temporal", 0), Run(FULL, 0)]).go() == 1
    assert toys.result(Run("temporal", 0)) is None
    assert "temporal, seed 0 failed" in caplog.text


def test_what_has_no_time_left_is_not_begun(toys):
    assert side_by_side(toys, [Run(FULL, 0)], end=time.monotonic()).go() == 0


def test_a_device_without_graphs_is_told_from_a_run_that_fails(toys, monkeypatch):
    def refuse(trainee, precision):
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(Trainee, "begin", refuse)
    with pytest.raises(NoGraphsError):
        side_by_side(toys, [Run(FULL, 0)]).go()
    assert side_by_side(toys, [Run(FULL, 0)], graphs=False).go() == 0


def test_a_run_that_diverges_says_so(toys):
    study = toys
    run = Run(FULL, 0)
    making = side_by_side(study, [run])
    making._configs[run] = dataclasses.replace(
        making._configs[run], optim=dataclasses.replace(making._configs[run].optim, optimizer="sgd", lr=1e30)
    )
    assert making.go() == 1
    assert "diverged" in study.result(run)
    assert "probe" not in study.result(run)
