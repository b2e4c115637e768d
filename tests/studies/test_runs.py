import dataclasses
import json
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch

import studies.runs
from studies.__main__ import main
from studies.arms import FULL, REFERENCES, all_arms, arm_recipe, groups, shorter_form_of
from studies.draw import draw
from studies.judge import lasting_as_long
from studies.measure import (
    Labelled,
    Measurements,
    draw_measurements,
    draw_motions,
    embed,
    read_out_all,
    read_out_labelled,
)
from studies.pool import run_missing
from studies.runs import Run, Study
from studies.videos import write_study_manifest
from studies.worker import perform
from tubeletx_train.common.errors import UsageError
from tubeletx_train.config.parse import config_from_tree
from tubeletx_train.config.pretrain import PretrainConfig
from tubeletx_train.config.tree import merge, to_tree
from tubeletx_train.data import DataConfig, VideoRecord, read_manifest, write_manifest
from tubeletx_train.evaluation.motion_probe import motion_probe
from tubeletx_train.evaluation.pair_retrieval import held_out_retrieval
from tubeletx_train.evaluation.pretrained import save_pretraining, untrained_net
from tubeletx_train.pretrain.build import build_moco
from tubeletx_train.pretrain.task import pretrain
from tubeletx_train.rendered.gym.gym import Gym
from video_files import make_video

TOY = {
    "data": {"num_frames": 4, "crop_size": 16, "decode_size": 32, "samples_per_video": 4, "cache_frames": False},
    "model": {"width": 2, "dim": 8},
    "optim": {"batch_size": 4, "steps": 2, "warmup_steps": 0},
    "run": {"device": "cpu", "threads": 1, "log_every": 1},
}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    for number in range(5):
        make_video(folder / "clips" / f"{number}.mp4", tint=(40 * number, 90, 200 - 40 * number))
    return write_study_manifest(str(folder / "clips"), folder / "videos.csv")


@pytest.fixture(scope="module")
def clips(manifest):
    """Few clips to measure by."""
    config = config_from_tree(PretrainConfig, merge(toy_recipe(FULL), {"data": {"videos": str(manifest)}}), "study")
    return draw_measurements(config, {}, None, fit_clips=40, judged_clips=20, pairs=8)


def toy_recipe(arm, size="small"):
    recipe = merge(arm_recipe(arm, size), TOY)
    # Of a batch, groups of rows with the same patches are a whole number.
    rows = max(recipe["optim"]["batch_size"], recipe["contrast"].get("shared_patches", 1))
    return merge(recipe, {"optim": {"batch_size": rows}})


@pytest.fixture
def toys(manifest, clips, tmp_path, monkeypatch):
    """A study of very small runs."""
    monkeypatch.setattr(studies.runs, "arm_recipe", toy_recipe)
    study = Study(tmp_path / "study", steps=2)
    study.root.mkdir()
    write_manifest(study.manifest, read_manifest(manifest))
    clips.save(study.measurements)
    return study


# Arms of the queue differ in numbers alone; longer arms in their steps.
@pytest.mark.parametrize(
    "arm",
    [arm for arm in all_arms() if arm not in (*REFERENCES, *groups()["queue"][1:]) and not shorter_form_of(arm)],
)
def test_every_arm_takes_two_steps(arm, manifest, tmp_path):
    places = {"data": {"videos": str(manifest)}, "run": {"output": str(tmp_path)}}
    result = pretrain(config_from_tree(PretrainConfig, merge(toy_recipe(arm), places), arm))
    assert (result.step, result.exit_code) == (2, 0)


def test_a_study_may_name_its_reader(tmp_path):
    assert Study(tmp_path, reader="decord_only").recipe(Run(FULL, 0))["data"]["reader"] == "decord_only"
    assert "reader" not in Study(tmp_path).recipe(Run(FULL, 0))["data"]


def test_steps_scale_the_warm_up(tmp_path):
    assert Study(tmp_path, steps=30).recipe(Run(FULL, 0))["optim"]["warmup_steps"] == 2


def test_measurements_survive_a_file(clips, tmp_path):
    clips.save(tmp_path / "measurements.pt")
    again = Measurements.load(tmp_path / "measurements.pt")
    assert torch.equal(again.judge.clips, clips.judge.clips)
    assert torch.equal(again.pairs[1].key, clips.pairs[1].key)


def test_a_network_is_measured_as_the_commands_measure_it(clips, manifest):
    config = config_from_tree(PretrainConfig, merge(toy_recipe(FULL), {"data": {"videos": str(manifest)}}), "study")
    net = untrained_net(config, clips.fit.clips)
    found = read_out_all(embed(net, clips))
    expected = motion_probe(net.encoder, clips.fit, clips.judge)
    assert found["probe"]["linear"] == expected.linear
    assert found["probe"]["confusion"] == expected.confusion
    assert found["retrieval"] == held_out_retrieval(net, clips.pairs).summary()
    assert list(found["stages"]) == ["stem", "layer1", "layer2", "layer3", "layer4"]
    assert found["stages"]["layer4"]["knn"] == expected.knn


def test_a_worker_trains_and_measures(toys):
    run = Run(FULL, 0)
    assert perform(toys, run) == 0
    result = toys.result(run)
    assert [point["step"] for point in result["along"]] == [1, 2]
    assert result["along"][-1]["linear"] == result["probe"]["linear"]
    assert result["config"]["tubelets"]["transforms"] == ["rotation"]
    assert 0 <= result["retrieval"]["r@1"] <= 1
    assert {"commit", "processor", "precision", "torch"} <= result.keys()
    for arm in REFERENCES:
        assert perform(toys, Run(arm, 0)) == 0
        result = toys.result(Run(arm, 0))
        assert result["along"] == []
        assert ("ceiling" in result) == (arm == "supervised")
    assert {run["arm"] for run in toys.results()} == {FULL, *REFERENCES}


@pytest.mark.parametrize("arm", ["leaves", "tracks"])
def test_what_trains_otherwise_is_measured_alike(arm, toys):
    """Without a video, or with another head beside: by the same clips of the same videos."""
    assert perform(toys, Run(arm, 0)) == 0
    result = toys.result(Run(arm, 0))
    assert [point["step"] for point in result["along"]] == [1, 2]
    assert list(result["stages"]) == ["stem", "layer1", "layer2", "layer3", "layer4"]
    assert 0 <= result["retrieval"]["r@1"] <= 1


RUNS = [Run(arm, seed) for seed in (0, 1) for arm in ("untrained", "temporal", FULL)]
SCRIPT = """
import sys, time
from pathlib import Path
time.sleep(float(sys.argv[2]))
with Path(sys.argv[1], "..", "..", "..", "order").open("a") as order:
    order.write(sys.argv[3] + "\\n")
Path(sys.argv[1], "results.json").write_text("{}")
"""


def command(*, seconds=0.0, broken=()):
    """Processes that write a result, or fail."""

    def of(study, run):
        if run.arm in broken:
            return [sys.executable, "-c", "raise SystemExit(3)"]
        return [sys.executable, "-c", SCRIPT, str(study.folder(run)), str(seconds), f"{run.arm} {run.seed}"]

    return of


def order_of(study):
    return (study.root / "order").read_text().splitlines()


def test_runs_are_made_in_their_order_and_once(tmp_path):
    study = Study(tmp_path)
    assert run_missing(study, RUNS, jobs=1, command=command()) == 0
    assert order_of(study) == [f"{run.arm} {run.seed}" for run in RUNS]
    assert run_missing(study, RUNS, jobs=1, command=command()) == 0
    assert len(order_of(study)) == len(RUNS)


def test_a_stopped_study_goes_on_where_it_was(tmp_path):
    study = Study(tmp_path)
    run_missing(study, RUNS, jobs=1, seconds=0.8, command=command(seconds=0.3))
    done = order_of(study)
    assert 0 < len(done) < len(RUNS)
    assert run_missing(study, RUNS, jobs=1, command=command()) == 0
    assert sorted(order_of(study)) == sorted(f"{run.arm} {run.seed}" for run in RUNS)


def test_several_runs_at_once(tmp_path):
    since = time.monotonic()
    assert run_missing(Study(tmp_path), RUNS, jobs=6, command=command(seconds=1.0)) == 0
    assert time.monotonic() - since < 4


def test_a_run_that_breaks_down_is_named_and_the_others_go_on(tmp_path, capsys):
    study = Study(tmp_path)
    assert run_missing(study, RUNS, jobs=2, command=command(broken=("temporal",))) == 1
    assert study.result(Run(FULL, 1)) is not None
    assert study.result(Run("temporal", 0)) is None
    assert "temporal/seed-0/output.log" in capsys.readouterr().out


def test_runs_of_other_settings_are_not_mixed_in(tmp_path):
    run_missing(Study(tmp_path), RUNS[:1], jobs=1, command=command())
    (Study(tmp_path).folder(RUNS[0]) / "results.json").unlink()
    with pytest.raises(UsageError, match="other settings"):
        run_missing(Study(tmp_path, steps=7), RUNS[:1], jobs=1, command=command())


ORPHAN = """
import sys, time
from studies.worker import leave_with_parent
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
    assert main(["run", "--videos", str(tmp_path / "none"), "--output", str(tmp_path / "out")]) == 2
    assert "no such manifest or folder" in capsys.readouterr().err
    assert main(["run", "--videos", str(tmp_path), "--arms", "full", "--output", str(tmp_path / "out")]) == 2
    assert "got 'full'" in capsys.readouterr().err


def test_the_command_from_videos_to_a_report(toys, manifest, monkeypatch):
    """In this process; the processes of runs are tested above."""

    def here(study, runs, **_):
        return max(perform(study, run) for run in runs)

    monkeypatch.setattr("studies.__main__.run_missing", here)
    arguments = [
        "run",
        "--videos",
        str(manifest),
        "--output",
        str(toys.root),
        "--steps",
        "2",
        "--arms",
        "untrained",
        FULL,
    ]
    assert main([*arguments, "--seeds", "0"]) == 0
    assert len(json.loads((toys.root / "report" / "results.json").read_text())) == 2


def test_labelled_sets_with_splits_are_judged_by_what_was_trained_on(clips, manifest, tmp_path):
    config = config_from_tree(PretrainConfig, merge(toy_recipe(FULL), {"data": {"videos": str(manifest)}}), "study")
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(24) % 2
    # Two classes told by brightness; in the harder test they have changed places.
    bright = torch.where(torch.arange(24) < 18, labels, 1 - labels).view(-1, 1, 1, 1, 1, 1)
    values = torch.randint(80, (24, 1, 3, 4, 16, 16), generator=generator) + 150 * bright
    splits = ["train"] * 12 + ["test"] * 6 + ["test_swapped"] * 6
    videos = Labelled(values.to(torch.uint8), labels, ["dark", "bright"], list("abcdef" * 4), splits)
    videos.save(tmp_path / "set.npz")
    again = Labelled.read(str(tmp_path / "set.npz"), config.data, clips=1)
    assert torch.equal(again.clips, videos.clips)
    assert (again.names, again.groups, again.splits) == (videos.names, videos.groups, splits)
    net = untrained_net(config, clips.fit.clips)
    found = read_out_all(embed(net, dataclasses.replace(clips, labelled={"set": again})))["labelled"]
    assert set(found) == {"set", "set test_swapped"}
    assert found["set"]["stem"]["linear"] == 1
    assert found["set test_swapped"].keys() == {"layer4"}
    assert found["set test_swapped"]["layer4"]["linear"] < 0.5


def test_rendered_classes_that_differ_by_one_thing_are_told_apart():
    generator = torch.Generator().manual_seed(0)
    names = list(Gym.class_names)
    labels = torch.arange(6 * len(names)) % len(names)
    ends = torch.tensor([name.endswith("_2") for name in names])
    # Features that say how often and nothing else.
    values = torch.rand((len(labels), 3), generator=generator) + 9 * ends[labels, None]
    splits = ["train", "train", "train", "train", "test", "test_other_motion"]
    splits = [split for split in splits for _ in names]
    videos = Labelled(torch.empty(0), labels, names, splits, splits)
    found = read_out_labelled("gym", {"stem": values[:, :1], "layer4": values}, videos)
    assert set(found["gym"]["stem"]) == {"linear", "knn", "chance"}
    for last in (found["gym"]["layer4"], found["gym test_other_motion"]["layer4"]):
        assert set(last["axes"]) == {"way", "how often", "which first", "what"}
        assert last["axes"]["how often"] == 1
        assert 0.2 < last["axes"]["way"] < 0.8
        assert list(last["opposites"]) == [" / ".join(pair) for pair in Gym.opposites]
        assert last["axes"]["way"] == pytest.approx(sum(last["opposites"].values()) / len(Gym.opposites))


def test_kept_networks_are_judged_afterwards_as_runs_are(clips, manifest, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("studies.judge.draw_motions", partial(draw_motions, fit_clips=40, judged_clips=20))
    study = Study(tmp_path / "study")
    study.manifest.parent.mkdir()
    write_manifest(study.manifest, read_manifest(manifest))
    run = Run(FULL, 0)
    config = config_from_tree(PretrainConfig, merge(toy_recipe(FULL), {"data": {"videos": str(manifest)}}), "study")
    moco = build_moco(config)
    save_pretraining(config, moco, study.encoder(run))
    generator = torch.Generator().manual_seed(0)
    values = torch.randint(255, (18, 2, 3, 4, 16, 16), generator=generator, dtype=torch.uint8)
    videos = Labelled(values, torch.arange(18) % 3, list("abc"), ["g"] * 18, ["train"] * 12 + ["test"] * 6)
    videos.save(tmp_path / "set.npz")
    study.write_result(run, {"config": to_tree(config), "labelled": {"other": {"stem": {"linear": 0.5}}}})
    arguments = ["judge", "--output", str(study.root), "--labelled", f"set={tmp_path / 'set.npz'}", "--arms", FULL]
    assert main([*arguments, "--device", "cpu"]) == 0
    found = study.result(run)
    assert found["labelled"]["other"] == {"stem": {"linear": 0.5}}
    as_runs = read_out_all(embed(moco.query_net, dataclasses.replace(clips, labelled={"set": videos})))
    assert found["labelled"]["set"] == as_runs["labelled"]["set"]
    assert "by_frames" not in found
    assert main([*arguments, "--device", "cpu", "--num_frames", "4"]) == 0
    assert study.result(run) == found | {
        "by_frames": {"4": {"probe": as_runs["probe"], "labelled": as_runs["labelled"]}}
    }
    assert main(["judge", "--output", str(study.root), "--arms", FULL, "--num_frames", "7"]) == 0
    of_seven = study.result(run)["by_frames"]["7"]
    assert of_seven["labelled"] == {}
    assert of_seven["probe"] != as_runs["probe"]
    assert main([*arguments, "--num_frames", "7"]) == UsageError.exit_code
    assert "set.npz: holds clips of 4 frames, needs 7" in capsys.readouterr().err
    assert main(["judge", "--output", str(study.root), "--arms", FULL]) == UsageError.exit_code
    assert "--labelled, --num_frames: got neither" in capsys.readouterr().err
    study.encoder(run).unlink()
    assert main(arguments) == UsageError.exit_code
    assert "holds no network" in capsys.readouterr().err


@pytest.mark.parametrize(("num_frames", "stride"), [(4, 4), (8, 2), (16, 1), (32, 1)])
def test_clips_of_another_length_last_as_long(num_frames, stride):
    data = DataConfig(videos="x", num_frames=8, strides=(3, 1, 2))
    found = lasting_as_long(data, num_frames)
    assert (found.num_frames, found.strides) == (num_frames, (stride,))


def test_names_in_a_set_with_splits_need_not_follow_the_pattern_of_groups(tmp_path):
    config = config_from_tree(PretrainConfig, merge(toy_recipe(FULL), {"data": {"videos": "none"}}), "study")
    splits = ["train", "train", "test", "test"]
    records = [VideoRecord(str(tmp_path / f"{i}.mp4"), "ab"[i % 2], split=split) for i, split in enumerate(splits)]
    for number, record in enumerate(records):
        make_video(Path(record.path), tint=(60 * number, 90, 120))
    write_manifest(tmp_path / "set.csv", records)
    found = Labelled.read(str(tmp_path / "set.csv"), config.data, clips=1, group_pattern=r"(p[0-9]+)_")
    assert found.splits == splits


def test_a_study_goes_on_with_the_labelled_sets_it_began_with(toys):
    draw(toys, {}, None)
    with pytest.raises(UsageError, match=r"--labelled: got gym, needs none, .*choose another --output"):
        draw(toys, {"gym": "gym/manifest.csv"}, None)
