"""What the report card asks about rendered actions: of made-up clips whose classes are known from their order alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tubeletx_train.cli import main
from tubeletx_train.data import DataConfig, DataError, VideoRecord, write_manifest
from tubeletx_train.evaluation import report_card as module
from tubeletx_train.evaluation.labelled import read_labelled
from tubeletx_train.evaluation.motion_probe import ProbeTask
from tubeletx_train.evaluation.rendered_card import ALL, Actions, confused, grade_actions, read_actions
from tubeletx_train.models import build_encoder
from tubeletx_train.rendered.sets import rendered_set
from tubeletx_train.rendered.splits import split_of
from video_files import make_video

FRAMES, FIT, JUDGED = 8, 12, 6


@pytest.mark.parametrize(("name", "counts"), [("gym", (8, 8, 6, 24)), ("manipulate", (12, 12, 6, 90))])
def test_pairs_differ_in_what_they_say(name: str, counts: tuple[int, ...]) -> None:
    chosen = rendered_set(name)  # type: ignore[arg-type]
    assert tuple(map(len, chosen.pairs.values())) == counts
    pairs = [pair for pairs in chosen.pairs.values() for pair in pairs]
    assert len({frozenset(pair) for pair in pairs}) == len(pairs)
    assert {name for pair in pairs for name in pair} == set(chosen.class_names)
    assert set(chosen.opposites) <= set(chosen.pairs["way"])
    for one, other in chosen.pairs["which first"]:
        assert sorted(one.replace("_then", "").split("_")) == sorted(other.replace("_then", "").split("_"))
    for one, other in chosen.pairs["what"]:
        assert one.split("_")[0] != other.split("_")[0]


def made_up() -> Actions:
    """Every class a sequence of levels of its own, in pairs that are each other backwards; a level tells nothing."""
    gym = rendered_set("gym")
    generator = torch.Generator().manual_seed(0)
    codes = {name: torch.randperm(FRAMES, generator=generator) for name in gym.class_names}
    for one, other in gym.opposites:
        codes[other] = codes[one].flip(0)

    def task(each: int) -> ProbeTask:
        labels = torch.arange(len(codes)).repeat(each)
        levels = torch.stack([codes[gym.class_names[label]] for label in labels]) * 30
        noise = torch.randint(0, 20, levels.shape, generator=generator)
        return ProbeTask((levels + noise).byte()[:, None, :, None, None].expand(-1, 3, -1, 2, 2), labels)

    return Actions("gym", task(FIT), task(JUDGED), task(1), gym.class_names, gym.pairs, gym.opposites)


def embed(clips: Tensor) -> dict[str, Tensor]:
    levels = clips.float().mean((1, 3, 4)) / 255
    return {"blind": levels.mean(1, keepdim=True), "sees": levels}


def test_an_encoder_that_sees_order_gets_good_grades_and_its_controls_none() -> None:
    actions = made_up()

    def shuffle(clips: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(len(clips))
        return torch.stack([clip[:, torch.randperm(FRAMES, generator=generator)] for clip in clips])

    def sees_nothing(clips: Tensor) -> dict[str, Tensor]:
        return {stage: torch.zeros(len(clips), 1) for stage in ("blind", "sees")}

    grades = grade_actions(actions, embed, sees_nothing, {"shuffled frames": shuffle})
    assert grades.videos == (28 * FIT, 28 * JUDGED)
    assert grades.chance == pytest.approx(1 / 28)
    assert set(grades.axes) == set(actions.pairs)
    for axis, values in grades.axes.items():
        assert values[1] > 0.95, axis
        assert abs(values[0] - 0.5) < 0.15, axis
        assert abs(grades.controls["shuffled frames"][axis][1] - 0.5) < 0.15, axis
        assert grades.controls["untrained"][axis] == pytest.approx([0.5, 0.5]), axis
    assert grades.classes[1] > 0.95
    assert grades.classes[0] < 0.3
    assert grades.controls["shuffled frames"][ALL][1] < 0.15
    assert grades.other_motion is not None
    assert grades.other_motion[1] > 0.9
    assert grades.backwards is not None
    assert grades.backwards[1] > 0.95
    assert set(grades.pairs) == {" / ".join(pair) for pairs in actions.pairs.values() for pair in pairs}
    assert len(grades.confused) <= 3


def test_without_controls_nothing_is_asked_of_them() -> None:
    seen = []

    def count(clips: Tensor) -> dict[str, Tensor]:
        seen.append(len(clips))
        return embed(clips)

    grades = grade_actions(made_up(), count, None, {})
    assert grades.controls == {}
    assert grades.backwards is None
    assert seen == [28 * FIT, 28 * JUDGED, 28]


def test_what_is_taken_for_one_another() -> None:
    counts = [[6, 3, 1, 0], [1, 9, 0, 0], [0, 0, 10, 0], [0, 0, 0, 0]]
    assert confused(counts, list("abcd")) == [("a", "b", 4 / 20), ("a", "c", 1 / 20)]


@pytest.fixture(scope="module")
def gym(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder laid out as `render` leaves it, of six videos a class; all classes show the same six."""
    folder = tmp_path_factory.mktemp("gym")
    (folder / "settings.json").write_text('{"set": "gym", "num_frames": 8, "size": 32, "seed": 0}')
    paths = [folder / "clips" / f"{number}.mp4" for number in range(6)]
    for number, path in enumerate(paths):
        make_video(path, tint=(40 * number, 90, 200 - 30 * number), width=32, height=32, frames=8)
    records = [
        VideoRecord(str(path), label=name, split=split_of(number), group="middle")
        for name in rendered_set("gym").class_names
        for number, path in enumerate(paths)
    ]
    write_manifest(folder / "manifest.csv", records)
    return folder


def test_clips_are_whole_videos(gym: Path) -> None:
    data = DataConfig(videos="x", num_frames=8, strides=(1,), crop_size=32, decode_size=None, num_workers=0)
    whole, _ = read_labelled(f"{gym}/manifest.csv", data, clips=1)
    found = read_actions(str(gym), 4, 32, most=None, num_workers=0)
    rows = torch.tensor([split == "train" for split in whole.splits])
    assert torch.equal(found.fit.clips, whole.clips[rows, 0][:, :, [1, 3, 5, 7]])
    assert torch.equal(found.fit.labels, whole.labels[rows])
    assert [len(task.labels) for task in (found.fit, found.judge, found.other_motion) if task] == [112, 28, 28]
    few = read_actions(str(gym), 16, 16, most=(2, 1), num_workers=0)
    assert few.other_motion is None
    assert few.fit.clips.shape == (56, 3, 16, 16, 16)
    assert torch.equal(few.fit.clips[:, :, 0], few.fit.clips[:, :, 1])  # more frames than the videos have


def convolutional(pretrained: bool = True) -> nn.Module:
    torch.manual_seed(1 if pretrained else 2)
    return nn.Sequential(nn.Conv3d(3, 5, 3), nn.BatchNorm3d(5), nn.ReLU())


def test_the_command_adds_actions_to_the_page(
    gym: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(module._COUNTS, "small", (100, 60, 12))
    monkeypatch.setitem(module._VIDEOS, "small", (4, 1))
    encoder = f"{__name__}:convolutional"
    arguments = ["report", encoder, "--compare", encoder, "--names", "one", "two", "--rendered", str(gym)]
    arguments += ["--num_frames", "8", "--side", "32", "--num_workers", "0", "--output", str(tmp_path)]
    assert main(arguments) == 0
    assert "of gym, 112 videos to fit on and 28 to judge by" in capsys.readouterr().out
    first = json.loads((tmp_path / "report.json").read_text())["encoders"][0]["actions"]
    assert set(first["axes"]) == {"way", "how often", "which first", "what"}
    assert set(first["controls"]) == {"untrained", "one frame", "mean frame", "shuffled frames"}
    # The classes show the same videos, so that nothing tells them apart.
    assert first["classes"] == [pytest.approx(1 / 28)]
    assert first["axes"]["way"] == [pytest.approx(0.5)]
    page = (tmp_path / "report.html").read_text()
    for text in ("Rendered actions: gym", "mean frame", "one takes for one another", "two takes for one another"):
        assert text in page
    assert "No rendered actions were asked for" not in page


def test_a_network_of_ours_is_trained_with_the_labels(
    gym: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(module._COUNTS, "small", (100, 60, 12))
    monkeypatch.setitem(module._VIDEOS, "small", (1, 1))
    encoder = module.OurEncoder(build_encoder("r2plus1d_10", 2), "tiny", lambda: build_encoder("r2plus1d_10", 2))
    monkeypatch.setattr(module, "load_stages", lambda *_: encoder)
    size = {"num_frames": 4, "side": 16, "num_workers": 0}
    config = module.ReportConfig("x", rendered=str(gym), controls=False, ceiling_steps=2, output=str(tmp_path), **size)
    (grades,) = module.report_card(config)
    assert grades.actions is not None
    assert grades.actions.ceiling is not None
    assert 0 <= grades.actions.ceiling <= 1
    assert "trained with the labels: x" in (tmp_path / "report.html").read_text()


def test_what_is_no_rendered_set_is_said(tmp_path: Path) -> None:
    for content in (None, "{}", "[1]", '{"set": "dance", "num_frames": 8, "size": 32, "seed": 0}', "{"):
        if content is not None:
            (tmp_path / "settings.json").write_text(content)
        with pytest.raises(DataError, match=r"holds no rendered set .*tubeletx-train render gym --output"):
            read_actions(str(tmp_path), 8, 32, most=None, num_workers=0)
    (tmp_path / "settings.json").write_text('{"set": "gym", "num_frames": 8, "size": 32, "seed": 0}')
    with pytest.raises(DataError, match=r"has no manifest\.csv yet; the same `tubeletx-train render gym` goes on"):
        read_actions(str(tmp_path), 8, 32, most=None, num_workers=0)
