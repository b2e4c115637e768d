"""`tubeletx-train render`: the same videos whatever is interrupted or added, and what reads them."""

from __future__ import annotations

import builtins
import csv
import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tubeletx_train.cli import main
from tubeletx_train.common.errors import UsageError
from tubeletx_train.common.lock import LOCK_FILE, locked_folder
from tubeletx_train.data import DataError, load_videos, open_record
from tubeletx_train.rendered.config import RenderConfig
from tubeletx_train.rendered.gym.gym import Gym
from tubeletx_train.rendered.manipulate.manipulate import Manipulate
from tubeletx_train.rendered.render import render
from tubeletx_train.rendered.video import FPS, write_video


def contents(config: RenderConfig) -> dict[str, bytes]:
    root = Path(config.output)
    files = [path for path in sorted(root.rglob("*")) if path.is_file() and path.name != LOCK_FILE]
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def moved(config: RenderConfig, output: Path, **changes) -> RenderConfig:
    return dataclasses.replace(config, output=str(output), **changes)


def test_a_set_is_videos_a_manifest_and_a_sheet(tiny_gym):
    names = Gym.class_names
    records = load_videos(str(Path(tiny_gym.output) / "manifest.csv"))
    assert [record.label for record in records] == [name for name in names for _ in range(6)]
    assert {record.split for record in records} == {"train", "test", "test_other_motion"}
    assert all(record.group for record in records)
    video = open_record(records[7], None, "decord")
    assert (video.num_frames, video.fps) == (8, FPS)
    frames = np.asarray(video.read(np.arange(8)))
    with Gym().open() as stage:
        rendered = stage.render(Gym().draw(0, 1, 1), 8, 32)
    assert frames.shape == rendered.shape
    # What H.264 leaves of it.
    error = (frames.astype(float) - rendered) ** 2
    assert 10 * np.log10(255**2 / error.mean()) > 26
    with Image.open(Path(tiny_gym.output) / "classes.png") as sheet:
        assert sheet.width > 8 * 72
        assert sheet.height > len(names) // 2 * 72


def test_what_was_interrupted_goes_on_and_gives_the_same_bytes_in_any_number_of_processes(tiny_gym, tmp_path):
    shutil.copytree(tiny_gym.output, tmp_path / "again")
    config = moved(tiny_gym, tmp_path / "again", num_workers=1)
    expected = contents(tiny_gym)
    lost = [path for path in expected if path.endswith(("/00002.mp4", "manifest.csv"))][::3]
    for path in lost:
        (tmp_path / "again" / path).unlink()
    (tmp_path / "again" / "clips" / "flip_back_1" / ".00002.mp4.1.tmp").write_bytes(b"cut short")
    render(config, progress=False)
    found = contents(config)
    assert {path: content for path, content in found.items() if not path.endswith(".tmp")} == expected


def test_clips_are_added_to_those_that_are_there(tiny_gym, tmp_path):
    shutil.copytree(tiny_gym.output, tmp_path / "more")
    config = moved(tiny_gym, tmp_path / "more", clips_per_class=7)
    before = contents(tiny_gym)
    render(config, progress=False)
    after = contents(config)
    videos = [path for path in before if path.endswith(".mp4")]
    assert all(after[path] == before[path] for path in videos)
    assert len([path for path in after if path.endswith(".mp4")]) == len(videos) // 6 * 7
    assert len(load_videos(str(tmp_path / "more" / "manifest.csv"))) == len(videos) // 6 * 7


@pytest.mark.parametrize("change", [{"seed": 1}, {"num_frames": 9}, {"size": 34}, {"set": "manipulate"}])
def test_a_folder_takes_one_set_with_one_kind_of_settings(tiny_gym, change):
    with pytest.raises(DataError, match="holds videos rendered with set gym, num_frames 8, size 32, seed 0, not"):
        render(dataclasses.replace(tiny_gym, **change), progress=False)


@pytest.mark.parametrize("content", ["", "[1]", "not json"])
def test_a_folder_of_something_else_is_left_alone(tmp_path, content):
    (tmp_path / "clips").mkdir()
    if content:
        (tmp_path / "settings.json").write_text(content)
    with pytest.raises(DataError, match="choose another output folder"):
        render(RenderConfig(set="gym", output=str(tmp_path)), progress=False)
    assert list((tmp_path / "clips").iterdir()) == []


@pytest.mark.parametrize(("name", "package"), [("gym", "pybullet"), ("manipulate", "metaworld")])
def test_a_missing_package_is_one_line_that_says_what_to_install(name, package, tmp_path, monkeypatch, capsys):
    real = builtins.__import__

    def without(module, *arguments, **options):
        if module.split(".")[0] == package:
            raise ImportError(f"No module named {module!r}")
        return real(module, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    assert main(["render", name, "--output", str(tmp_path)]) == UsageError.exit_code
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert package in error
    assert "pip install 'tubeletx[render]'" in error


@pytest.mark.parametrize(
    ("setting", "value", "needed"),
    [
        ("size", 31, "size: got 31, needs an even number"),
        ("size", 8, "size: got 8, needs 16 or more"),
        ("num_frames", 1, "num_frames: got 1, needs 2 or more"),
        ("clips_per_class", 0, "clips_per_class: got 0, needs 1 or more"),
        ("num_workers", 0, "num_workers: got 0, needs 1 or more"),
        ("seed", -1, "seed: got -1, needs a whole number from 0"),
    ],
)
def test_settings_have_limits(setting, value, needed):
    with pytest.raises(ValueError, match=needed):
        RenderConfig(set="gym", output="x", **{setting: value})


def test_the_same_frames_give_the_same_bytes_whatever_memory_held_before(tmp_path):
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:32, :32]
    frames = np.empty((8, 32, 32, 3), np.uint8)
    frames[:] = (120 + 60 * np.sin(x / 5 + y / 7)[..., None] + np.array([0, 20, 40])).astype(np.uint8)
    for index, frame in enumerate(frames):
        frame[6 + index : 18 + index, 4 + 2 * index : 12 + 2 * index] = (200, 40, 60)
    found = set()
    held = []
    for attempt in range(40):
        held.append(rng.bytes(1000 * attempt))
        write_video(tmp_path / "a.mp4", frames)
        found.add((tmp_path / "a.mp4").read_bytes())
    assert len(found) == 1


def test_a_video_that_cannot_be_written_leaves_nothing(tmp_path):
    frames = np.zeros((2, 16, 16, 3), np.uint8)
    (tmp_path / "a.mp4").mkdir()
    with pytest.raises(UsageError, match="cannot write"):
        write_video(tmp_path / "a.mp4", frames)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_the_manipulate_set_renders(tmp_path):
    pytest.importorskip("metaworld", reason="metaworld renders the manipulate set")
    chosen = Manipulate()
    try:
        stage = chosen.open()
    except UsageError as error:
        pytest.skip(str(error))
    with stage:
        label = chosen.class_names.index("drawer_open_close")
        clip = chosen.draw(0, label, 0)
        first, again = (stage.render(clip, 7, 32) for _ in range(2))
        other_motion = stage.render(chosen.draw(0, label, 5), 7, 32)
    np.testing.assert_array_equal(first, again)
    for frames in (first, other_motion):
        assert frames.shape == (7, 32, 32, 3)
        assert frames.std() > 10
        # Out and back: what is far apart in time lies near in space, but for the camera's way.
        change = np.abs(np.diff(frames.astype(int), axis=0)).mean((1, 2, 3))
        assert (change > 0).all()


@pytest.fixture(scope="module")
def recipe_settings():
    return [
        *("--config", "downstream/rendered", "--model.encoder", "r3d_10", "--model.width", "4"),
        *("--data.num_frames", "8", "--data.crop_size", "24", "--data.num_workers", "1", "--run.device", "cpu"),
    ]


def test_an_encoder_is_finetuned_evaluated_and_probed_on_a_rendered_set(tiny_gym, recipe_settings, tmp_path):
    """Through the commands that read any manifest."""
    manifest = str(Path(tiny_gym.output) / "manifest.csv")
    with open(manifest, encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    test_videos = sum(row["split"] == "test" for row in rows)
    run = tmp_path / "run"
    finetune = ["finetune", *recipe_settings, "--checkpoint", "scratch", "--data.train", manifest]
    finetune += [
        "--optim.steps",
        "4",
        "--optim.batch_size",
        "8",
        "--run.output",
        str(run),
        "--run.tensorboard",
        "false",
    ]
    assert main(finetune) == 0
    results = json.loads((run / "results.json").read_text())
    assert results["num_classes"] == len(Gym.class_names)
    assert results["test_videos"] == test_videos == len(Gym.class_names)
    settings = [word for word in recipe_settings if word != "--run.device"][:-1]
    settings = ["--device", "cpu", *settings]
    evaluate = ["evaluate", *settings, "--checkpoint", str(run / "model.pt"), "--data.train", manifest]
    evaluate += ["--features", str(tmp_path / "features")]
    for mode, split in (("test", "test_other_motion"), ("knn", "test")):
        output = tmp_path / mode
        assert main([*evaluate, "--mode", mode, "--data.test_split", split, "--output", str(output)]) == 0
        assert json.loads((output / "results.json").read_text())["test_videos"] == len(Gym.class_names)
    pretrained = tmp_path / "pretrained"
    pretrain = ["pretrain", "--data.videos", manifest, "--data.split", "train", "--data.num_frames", "4"]
    pretrain += ["--data.crop_size", "16", "--data.strides", "[1]", "--data.decode_size", "null", "--optim.steps", "1"]
    pretrain += ["--data.num_workers", "0", "--optim.batch_size", "4", "--contrast.queue_size", "8"]
    pretrain += ["--model.encoder", "r3d_10", "--model.width", "2", "--run.output", str(pretrained)]
    assert main([*pretrain, "--run.device", "cpu", "--run.tensorboard", "false"]) == 0
    probe = ["probe", str(pretrained), "--videos", manifest, "--task", "labels", "--clips", "1"]
    assert main([*probe, "--output", str(tmp_path / "probe"), "--device", "cpu"]) == 0
    content = json.loads((tmp_path / "probe" / "probe.json").read_text())
    assert content["names"] == sorted(Gym.class_names)
    assert content["trained"]["chance"] == pytest.approx(1 / len(Gym.class_names))


def test_a_folder_is_rendered_into_by_one_call_at_a_time(tiny_gym):
    with (
        locked_folder(Path(tiny_gym.output), "rendered into"),
        pytest.raises(UsageError, match="is being rendered into by process"),
    ):
        render(tiny_gym, progress=False)
