import json
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml
from scipy import stats

from tubeletx_train.cli import main
from tubeletx_train.common.errors import UsageError
from tubeletx_train.config.parse import config_from_tree
from tubeletx_train.config.pretrain import PretrainConfig
from tubeletx_train.config.recipes import recipe_names
from tubeletx_train.config.tree import flatten, merge
from tubeletx_train.data import DataError, VideoRecord, read_manifest, write_manifest
from tubeletx_train.evaluation.motions import MOTION_NAMES, MOTION_PAIRS
from tubeletx_train.pretrain.task import pretrain
from tubeletx_train.study.arms import FULL, REFERENCES, all_arms, arm_recipe, check_arms, description, own_arms
from tubeletx_train.study.config import StudyConfig
from tubeletx_train.study.intervals import difference, estimate
from tubeletx_train.study.measure import Measurements, draw_measurements
from tubeletx_train.study.report import write_report
from tubeletx_train.study.runner import Schedule, Store, run_missing
from tubeletx_train.study.runs import Run, RunFolder
from tubeletx_train.study.study import plan
from tubeletx_train.study.videos import write_study_manifest
from tubeletx_train.study.worker import run as work

TOY = {
    "data": {"num_frames": 4, "crop_size": 16, "decode_size": 32, "samples_per_video": 4, "cache_frames": False},
    "model": {"width": 2, "dim": 8},
    "optim": {"batch_size": 4, "steps": 2, "warmup_steps": 0},
    "run": {"device": "cpu", "threads": 1, "log_every": 1},
}


@pytest.fixture(scope="module")
def manifest(videos, tmp_path_factory):
    return write_study_manifest(str(videos), tmp_path_factory.mktemp("study") / "videos.csv")


def toy_recipe(arm, manifest, output, size="small"):
    places = {"data": {"videos": str(manifest)}, "run": {"output": str(output)}}
    return merge(arm_recipe(arm, size), merge(TOY, places))


def test_every_arm_has_a_recipe_and_every_recipe_an_arm():
    recipes = {name.removeprefix("study/") for name in recipe_names() if name.startswith("study/")}
    assert recipes - {"base", "sizes/small", "sizes/paper"} == set(all_arms())
    assert len(set(all_arms())) == len(all_arms())
    assert all(description(arm) for arm in all_arms())
    with pytest.raises(UsageError, match="did you mean 'temporal'"):
        check_arms(["temporl"])


def test_arms_differ_from_the_full_method_by_one_thing():
    full = flatten(arm_recipe(FULL, "small"))
    allowed = {
        "temporal": {"contrast.mode", "tubelets.transforms"},
        "static": {"tubelets.motion", "tubelets.transforms"},
        "linear": {"tubelets.motion", "tubelets.transforms"},
        "nonlinear": {"tubelets.transforms"},
        "one_tubelet": {"tubelets.num_tubelets"},
        "three_tubelets": {"tubelets.num_tubelets"},
        "rotation_25": {"data.split"},
        "temperature_20": {"contrast.temperature"},
        "own/reversed": {"contrast.own_negatives"},
        "own/per_clip_patches": {"contrast.patches"},
    }
    for arm, names in allowed.items():
        other = flatten(arm_recipe(arm, "small"))
        assert {name for name in full.keys() | other.keys() if full.get(name) != other.get(name)} == names


def test_a_size_gives_way_to_what_makes_the_arm():
    paper = flatten(arm_recipe("own/color_shared", "paper"))
    assert paper["model.encoder"] == "r2plus1d_18"
    assert paper["data.crop_size"] == 112
    assert paper["color.shared"] is True
    assert flatten(arm_recipe("temperature_07", "paper"))["contrast.temperature"] == 0.07
    assert flatten(arm_recipe(FULL, "paper"))["contrast.temperature"] == 0.2
    for arm in all_arms():
        config_from_tree(PretrainConfig, merge(arm_recipe(arm, "paper"), {"data": {"videos": "v"}}), arm)


@pytest.mark.parametrize("arm", [arm for arm in all_arms() if arm not in REFERENCES])
def test_every_arm_takes_two_steps(arm, manifest, tmp_path):
    config = config_from_tree(PretrainConfig, toy_recipe(arm, manifest, tmp_path), arm)
    result = pretrain(config)
    assert (result.step, result.exit_code) == (2, 0)


def test_videos_are_split_once_and_for_all(videos, manifest, tmp_path):
    splits = {}
    for record in read_manifest(manifest):
        splits.setdefault(record.split, []).append(record.path)
    assert {name: len(paths) for name, paths in splits.items()} == {
        "train": 3,
        "train_25": 2,
        "train_50": 2,
        "held_out": 2,
    }
    assert not set(splits["train"]) & set(splits["held_out"])
    assert set(splits["train_25"]) <= set(splits["train_50"]) <= set(splits["train"])
    again = write_study_manifest(str(videos), tmp_path / "again.csv")
    assert [r.path for r in read_manifest(again)] == [r.path for r in read_manifest(manifest)]

    given = tmp_path / "given.csv"
    records = [VideoRecord(f"{tmp_path}/{i}.mp4", split="held_out" if i > 7 else "train") for i in range(10)]
    write_manifest(given, records)
    rows = read_manifest(write_study_manifest(str(given), tmp_path / "out.csv"))
    assert [r.path for r in rows if r.split == "held_out"] == [r.path for r in records[8:]]
    assert sum(r.split == "train_50" for r in rows) == 4
    write_manifest(given, records[:8])
    with pytest.raises(DataError, match="one or more held out, has 8 and 0"):
        write_study_manifest(str(given), tmp_path / "out.csv")


def result_of(run, linear):
    """What a run's result holds, at an accuracy of choice."""
    probe = {"linear": linear, "knn": linear / 2, "chance": 0.05}
    probe |= {"confusion": np.eye(len(MOTION_NAMES), dtype=int).tolist()}
    probe |= {"pairs": {" / ".join(pair): 0.5 + linear / 2 for pair in MOTION_PAIRS}}
    config = merge(arm_recipe(run.arm, "small"), {"run": {"output": "/nowhere/run"}})
    return {
        "arm": run.arm,
        "lr": config["optim"]["lr"] * run.factor,
        "lr_factor": run.factor,
        "seed": run.seed,
        "search": run.search,
        "config": config,
        "commit": "0123456789abcdef",
        "probe": probe,
        "along": [{"step": step, "linear": linear * step / 300, "knn": 0.0} for step in (100, 300)],
        "retrieval": {"r@1": linear / 4},
    } | ({"ceiling": 0.93} if run.arm == "supervised" else {})


def accuracy_of(run):
    """Best at factor 2 for the temporal arm, at 1 for all others."""
    best = 2.0 if run.arm == "temporal" else 1.0
    base = {"temporal": 0.06, "static": 0.1, "nonlinear": 0.3, FULL: 0.5}.get(run.arm, 0.05)
    return base + 0.01 * (run.seed % 3) - 0.02 * abs(math.log2(run.factor / best))


SCRIPT = """
import json, sys, time
from pathlib import Path
folder = Path(sys.argv[1])
time.sleep(float(sys.argv[3]))
(folder / "result.json").write_text(sys.argv[2])
"""


class FakeStore(Store):
    """Starts processes that write a result, or fail."""

    def __init__(self, config, root, *, broken=(), seconds=0.0):
        super().__init__(config, root)
        self.started = []
        self.broken = broken
        self.seconds = seconds
        self.running = []
        self.most = 0

    def start(self, run, slot):
        folder = self.folder(run)
        folder.prepare(run, self.recipe(run), self.measurements)
        self.started.append(run)
        code = "raise SystemExit(3)" if run.arm in self.broken else SCRIPT
        content = json.dumps(result_of(run, accuracy_of(run)))
        process = subprocess.Popen([sys.executable, "-c", code, str(folder.path), content, str(self.seconds)])
        self.running = [p for p in self.running if p.poll() is None] + [process]
        self.most = max(self.most, len(self.running))
        return process


@pytest.fixture(autouse=True)
def quick_polls(monkeypatch):
    monkeypatch.setattr("tubeletx_train.study.runner._POLL_SECONDS", 0.01)


def schedule_of(arms=("untrained", "temporal", FULL), seeds=(0, 1)):
    return Schedule(arms, seeds, (1.0, 2.0), 100)


def test_the_search_comes_first_and_decides_the_learning_rate(tmp_path):
    store = FakeStore(StudyConfig(videos="v"), tmp_path)
    schedule = schedule_of()
    outcome = run_missing(schedule, store, jobs=1)
    assert (outcome.exit_code, outcome.failed, outcome.missing) == (0, [], False)
    assert [run.name for run in store.started] == [
        "untrained/lr-1-seed-0",
        "temporal/lr-1-seed-100",
        "temporal/lr-2-seed-100",
        "temporal/lr-2-seed-0",
        "rotation/lr-1-seed-100",
        "rotation/lr-2-seed-100",
        "rotation/lr-1-seed-0",
        "untrained/lr-1-seed-1",
        "temporal/lr-2-seed-1",
        "rotation/lr-1-seed-1",
    ]
    assert len(store.started) == schedule.total()


def test_an_arm_of_our_own_takes_the_rate_of_the_full_method(tmp_path):
    store = FakeStore(StudyConfig(videos="v"), tmp_path)
    schedule = schedule_of(("own/reversed", "own/still", "temporal"), (0,))
    run_missing(schedule, store, jobs=1)
    assert [run.name for run in store.started] == [
        "rotation/lr-1-seed-100",
        "rotation/lr-2-seed-100",
        "own-reversed/lr-1-seed-0",
        "own-still/lr-1-seed-0",
        "temporal/lr-1-seed-100",
        "temporal/lr-2-seed-100",
        "temporal/lr-2-seed-0",
    ]
    assert len(store.started) == schedule.total()


def test_a_stopped_study_goes_on_where_it_was(tmp_path):
    config = StudyConfig(videos="v")
    first = FakeStore(config, tmp_path, seconds=0.05)
    assert run_missing(schedule_of(), first, jobs=1, minutes=0.5 / 60).missing
    done = [run for run in first.started if first.result(run) is not None]
    assert 0 < len(done) < schedule_of().total()
    second = FakeStore(config, tmp_path)
    assert not run_missing(schedule_of(), second, jobs=1).missing
    assert not set(second.started) & set(done)
    third = FakeStore(config, tmp_path)
    run_missing(schedule_of(), third, jobs=1)
    assert third.started == []


def test_several_runs_at_once(tmp_path):
    store = FakeStore(StudyConfig(videos="v"), tmp_path, seconds=0.1)
    assert run_missing(schedule_of(), store, jobs=3).exit_code == 0
    assert 1 < store.most <= 3


def test_a_run_that_breaks_down_is_named_and_the_others_go_on(tmp_path):
    store = FakeStore(StudyConfig(videos="v"), tmp_path, broken=("temporal",))
    outcome = run_missing(schedule_of(), store, jobs=2)
    assert outcome.exit_code == 1
    assert outcome.missing
    assert {folder.path.parent.name for folder in outcome.failed} == {"temporal"}
    assert store.result(Run(FULL, 1.0, 1)) is not None


def test_runs_of_other_settings_are_not_mixed_in(tmp_path):
    run_missing(schedule_of((FULL,), (0,)), FakeStore(StudyConfig(videos="v"), tmp_path), jobs=1)
    with pytest.raises(UsageError, match="other settings"):
        run_missing(schedule_of((FULL,), (0,)), FakeStore(StudyConfig(videos="v", steps=7), tmp_path), jobs=1)


def test_what_quick_and_full_ask_for():
    quick = plan(StudyConfig(videos="v", quick=True))
    assert len(quick.arms) == 5
    assert quick.total() == 5
    full = plan(StudyConfig(videos="v"))
    assert full.arms == all_arms()
    searched = len(all_arms()) - len(own_arms()) - len(REFERENCES)
    assert full.total() == 3 * len(all_arms()) + 3 * searched
    with pytest.raises(ValueError, match="search_seed"):
        StudyConfig(videos="v", seeds=(0, 100))


def test_steps_scale_the_warm_up(tmp_path):
    store = Store(StudyConfig(videos="v", steps=30), tmp_path)
    assert store.recipe(Run(FULL, 1.0, 0))["optim"]["warmup_steps"] == 2
    assert store.recipe(Run(FULL, 2.0, 0))["optim"]["lr"] == 0.008


def test_estimates_against_scipy():
    values = [0.2, 0.26, 0.31]
    found = estimate(values)
    low, high = stats.t.interval(0.95, 2, loc=np.mean(values), scale=stats.sem(values))
    assert (found.mean - found.half_width, found.mean + found.half_width) == pytest.approx((low, high))
    assert str(found) == "25.7 ± 13.7"
    assert str(estimate([0.5])) == "50.0"


def test_differences_are_taken_seed_by_seed():
    generator = np.random.default_rng(3)
    seeds = range(5)
    common = generator.normal(0, 10, len(seeds))
    first = {seed: common[seed] + generator.normal(1, 0.1) for seed in seeds}
    second = {seed: common[seed] + generator.normal(0, 0.1) for seed in seeds}
    found = difference(first, second | {99: 1e6})
    reference = stats.ttest_rel(list(first.values()), list(second.values())).confidence_interval(0.95)
    low, high = found.mean - found.half_width, found.mean + found.half_width
    assert (low, high) == pytest.approx((reference.low, reference.high))
    assert 0.5 < low < high < 1.5  # a common part ten times as large is not in the way
    assert difference(first, {0: 1.0}).half_width is None
    assert difference(first, {99: 1.0}) is None


def report_of(tmp_path, arms, seeds):
    runs = [result_of(run, accuracy_of(run)) for arm in arms for run in (Run(arm, 1.0, seed) for seed in seeds)]
    runs.append(result_of(Run(FULL, 2.0, 100, search=True), 0.9))
    runs.append({**result_of(Run("linear", 2.0, 100, search=True), 0.9), "diverged": "loss is not finite"})
    del runs[-1]["probe"]
    manifest = tmp_path / "videos.csv"
    write_manifest(manifest, [VideoRecord(f"{i}.mp4", split="held_out" if i else "train") for i in range(3)])
    config = StudyConfig(videos="v")
    return write_report(tmp_path / "report", config, runs, manifest).read_text(encoding="utf-8")


def test_a_report_says_what_came_out_and_what_was_not_run(tmp_path):
    arms = ("untrained", "temporal", "static", "nonlinear", FULL, "rotation_25", "supervised", "own/reversed")
    text = report_of(tmp_path, arms, (0, 1, 2))
    assert "0123456789ab" in text
    assert "1 videos; 2 others" in text
    # Means of .5, .51, .52, half of the interval 2.5 (t = 4.303, s = .01).
    assert "| `rotation` | Non-linear motion and rotation (Table 4) | 0.004 | 3 | 51.0 ± 2.5 |" in text
    assert "| Tubelet contrast learns motion, temporal contrast does not (Table 2) | **+46.0 [+46.0, +46.0]** |" in text
    assert "| Static tubelets do worse than temporal contrast (Table 3) | **-6.0 [-6.0, -6.0]** |" in text
    assert "the opposite" in text
    assert "| Linear motion does better than none (Table 3) | - | - | - | not run |" in text
    assert "| An own negative played backwards helps | **-45.0 [-45.0, -45.0]** |" in text
    assert "| `rotation` | 90.0 |" in text  # of the search
    assert "for 600 steps the same network is right in 93.0 ± 0.0 %" in text
    assert "| growing / shrinking |" in text
    assert "--arms [linear,one_tubelet" in text
    assert "Diverged: `linear`" in text
    results = json.loads((tmp_path / "report" / "results.json").read_text())
    assert "/nowhere" not in json.dumps(results)
    assert len(results) == 3 * len(arms) + 2
    for picture in ("arms", "arms_own", "videos", "along", "along_own", "confusion"):
        assert f"({picture}.png)" in text
        assert (tmp_path / "report" / f"{picture}.png").stat().st_size > 0


def test_a_report_on_one_arm_and_seed(tmp_path):
    text = report_of(tmp_path, (FULL,), (0,))
    assert "| 50.0 |" in text
    assert "arms.png" not in text
    assert "confusion.png" in text


def test_measurements_and_a_worker(manifest, videos, tmp_path):
    recipe = toy_recipe(FULL, manifest, tmp_path / "rotation" / "pretraining")
    recipe["run"]["checkpoint_every"] = 1
    full = config_from_tree(PretrainConfig, recipe, "study")
    measurements = draw_measurements(full, None, None, fit_clips=40, judged_clips=20, pairs=8)
    measurements.save(tmp_path / "measurements.pt")
    again = Measurements.load(tmp_path / "measurements.pt")
    assert torch.equal(again.judge.clips, measurements.judge.clips)
    assert torch.equal(again.pairs[1].key, measurements.pairs[1].key)

    folder = RunFolder(tmp_path / "rotation")
    folder.prepare(Run(FULL, 1.0, 0), recipe, tmp_path / "measurements.pt")
    assert work(folder) == 0
    result = folder.result()
    assert [point["step"] for point in result["along"]] == [1, 2]
    assert result["along"][-1]["linear"] == result["probe"]["linear"]
    assert result["config"]["tubelets"]["transforms"] == ["rotation"]
    assert 0 <= result["retrieval"]["r@1"] <= 1
    assert yaml.safe_load(folder.recipe.read_text()) == recipe

    for arm in REFERENCES:
        folder = RunFolder(tmp_path / arm)
        folder.prepare(Run(arm, 1.0, 0), merge(recipe, arm_differences(arm)), tmp_path / "measurements.pt")
        assert work(folder) == 0
        assert folder.result()["along"] == []
        assert ("ceiling" in folder.result()) == (arm == "supervised")


def arm_differences(arm):
    return {"optim": {"steps": 3}} if arm == "supervised" else {}


ORPHAN = """
import sys, time
from tubeletx_train.study.worker import leave_with_parent
leave_with_parent(int(sys.argv[1]), 0.05)
print("watching", flush=True)
time.sleep(120)
"""
PARENT = """
import os, subprocess, sys
# The run inherits the pipe, which therefore closes only when both are gone.
child = subprocess.Popen([sys.executable, "-c", sys.argv[1], str(os.getpid())], start_new_session=True)
os._exit(0)
"""


def test_a_run_does_not_outlive_the_study_that_started_it():
    # Ends long before the orphan's two minutes, or else by the timeout.
    printed = subprocess.run([sys.executable, "-c", PARENT, ORPHAN], capture_output=True, text=True, timeout=60)
    assert printed.stdout in ("", "watching\n")


def test_the_command_refuses_what_it_cannot_run(tmp_path, capsys):
    assert main(["study", "--videos", str(tmp_path / "none"), "--output", str(tmp_path / "out"), "--quick"]) == 2
    assert "no such manifest or folder" in capsys.readouterr().err
    assert main(["study", "--videos", str(tmp_path), "--arms", "[full]", "--output", str(tmp_path / "out")]) == 2
    assert "unknown arm 'full'" in capsys.readouterr().err


def test_a_report_with_nothing_to_say(tmp_path, capsys):
    assert main(["study", "--videos", "v", "--output", str(tmp_path), "--report_only"]) == 0
    assert "nothing to report" in capsys.readouterr().out
