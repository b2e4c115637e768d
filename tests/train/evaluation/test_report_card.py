"""The motion report card: what it grades, of which encoders, and that its page holds what it found."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tubeletx_train.cli import main
from tubeletx_train.common.errors import UsageError
from tubeletx_train.evaluation import report_card as module
from tubeletx_train.evaluation.motions import MOTION_PAIRS
from tubeletx_train.evaluation.report_card import AXES, ReportConfig, draw_material, report_card
from tubeletx_train.evaluation.stages import load_stages
from tubeletx_train.models.build import build_encoder

CPU = torch.device("cpu")
FRAMES, SIDE = 8, 32
SIZE = ("--num_frames", str(FRAMES), "--side", str(SIDE))


class SeesMotion(nn.Module):
    """Where what differs from the clip's mean lies, frame by frame: place and extent, the square of the place."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, clip: Tensor) -> dict[str, Tensor]:
        moved = (clip - clip.median(2, keepdim=True).values).abs().sum(1) + 1e-3
        place = torch.linspace(-1, 1, clip.shape[-1])
        mass = moved.sum((2, 3))
        x, y = (moved * place).sum((2, 3)) / mass, (moved * place[:, None]).sum((2, 3)) / mass
        mean = clip.mean((1, 2, 3, 4))[:, None].expand(-1, 2)
        return {"blind": mean, "motion": torch.cat((x, y, mass / mass.mean(1, keepdim=True)), 1)}


def sees_motion() -> nn.Module:
    return SeesMotion()


def convolutional(pretrained: bool = True) -> nn.Module:
    torch.manual_seed(1 if pretrained else 2)
    return nn.Sequential(nn.Conv3d(3, 5, 3), nn.BatchNorm3d(5), nn.ReLU())


NOT_A_FUNCTION = 3


def no_module() -> int:
    return 3


@pytest.fixture
def few_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(module._COUNTS, "small", (100, 60, 12))


def spec(name: str) -> str:
    return f"{__name__}:{name}"


def test_the_axes_are_pairs_of_the_probe() -> None:
    pairs = [pair for pairs in AXES.values() for pair in pairs]
    assert set(MOTION_PAIRS) - set(pairs) == {("left then up", "up then left")}
    assert len(set(pairs)) == len(pairs)


def test_an_encoder_that_sees_motion_gets_good_grades_and_its_controls_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(module._COUNTS, "small", (600, 400, 60))
    config = ReportConfig(spec("sees_motion"), num_frames=FRAMES, side=SIDE, output=str(tmp_path))
    (grades,) = report_card(config)
    assert grades.stages == ["blind", "motion"]
    assert grades.untrained is None
    assert grades.one_frame is not None
    assert grades.shuffled is not None
    assert grades.backwards is not None
    for axis in ("direction", "order", "scale", "path", "path or its reverse"):
        assert grades.axes[axis][1] > 0.9, axis
    assert grades.axes["speed"][1] > 0.65  # of a random phase, which is not linear in places
    for axis, values in grades.one_frame.items():
        assert values[1] < 0.65, axis
    for axis in ("direction", "turn", "speed"):
        assert grades.shuffled[axis][1] < 0.75, axis
    assert grades.backwards[1] > 0.7  # what is played backwards is called by the opposite name
    assert grades.backwards[0] < 0.65
    for axis, values in grades.axes.items():
        assert abs(values[0] - 0.5) < 0.3, axis  # of the blind stage; 40 clips for a pair


def test_clips_are_a_function_of_the_settings(few_clips: None) -> None:
    config = ReportConfig("x", seed=4)
    first, second = (draw_material(config, FRAMES, SIDE) for _ in range(2))
    assert torch.equal(first.motions.fit.clips, second.motions.fit.clips)
    assert torch.equal(first.paths, second.paths)
    other = draw_material(ReportConfig("x", seed=5), FRAMES, SIDE)
    assert not torch.equal(other.motions.fit.clips, first.motions.fit.clips)
    assert first.motions.fit.clips.shape == (100, 3, FRAMES, SIDE, SIDE)
    assert first.paths.shape == (4, 12, 3, FRAMES, SIDE, SIDE)
    # The anchor's path backwards, in the look of the second clip: that clip with its frames the other way round.
    assert torch.equal(first.paths[3], first.paths[1].flip(2))
    assert (first.paths[2] != first.paths[1]).any()


class Page(HTMLParser):
    """Collects text and sources, and that tags close."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_command_writes_a_page_of_several(
    few_clips: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    encoder = build_encoder("r2plus1d_10", width=4)
    torch.save({"state_dict": encoder.state_dict()}, tmp_path / "plain.pth")
    output = tmp_path / "card"
    arguments = ["report", spec("convolutional"), "--compare", spec("sees_motion"), "--output", str(output)]
    assert main([*arguments, "--names", "one <b>", "two", *SIZE]) == 0
    printed = capsys.readouterr().out
    assert "one <b>" in printed
    assert "path or its reverse" in printed
    results = json.loads((output / "report.json").read_text())
    assert [encoder["name"] for encoder in results["encoders"]] == ["one <b>", "two"]
    first = results["encoders"][0]
    assert set(first["axes"]) == {*AXES, "speed", "path", "path or its reverse"}
    assert first["untrained"]["direction"] != first["axes"]["direction"]
    assert first["clips"] > 0
    assert first["peak_memory"] > 0
    assert all(0 <= share <= 1 for values in first["axes"].values() for share in values)
    page = Page()
    page.feed((output / "report.html").read_text())
    assert not page.open
    assert "one <b>" in page.text
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    for axis in first["axes"]:
        assert axis in page.text
    assert "tubeletx-train render gym --output gym/ makes them" in page.text  # no rendered set was given
    assert (output / "report.png").stat().st_size > 10_000


def test_a_run_of_ours_and_its_untrained_twin(few_clips: None, tmp_path: Path) -> None:
    arguments = ["pretrain", "--config", "demo_leaves", "--run.output", str(tmp_path / "run"), "--optim.steps", "2"]
    arguments += ["--optim.warmup_steps", "0", "--optim.batch_size", "8", "--data.leaves.pairs", "16"]
    arguments += ["--model.width", "4", "--data.num_workers", "0", "--run.checkpoint_every", "2"]
    assert main(arguments) == 0
    config = ReportConfig(
        str(tmp_path / "run"), num_frames=FRAMES, side=SIDE, controls=False, ceiling_steps=2, output=str(tmp_path)
    )
    (grades,) = report_card(config)
    assert grades.stages == ["stem", "layer1", "layer2", "layer3", "layer4"]
    assert grades.one_frame is None
    assert grades.backwards is None
    assert grades.untrained is not None
    assert grades.ceiling is not None
    assert 0 <= grades.ceiling <= 1


def tiny(name: str) -> Any:
    transformers = pytest.importorskip("transformers")
    small = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    video = {**small, "image_size": 32, "patch_size": 8, "num_frames": 4}
    configs: dict[str, Any] = {
        "VideoMAE": lambda: transformers.VideoMAEConfig(**video, tubelet_size=2),
        "Timesformer": lambda: transformers.TimesformerConfig(**video),
        "ViT": lambda: transformers.ViTConfig(**small, image_size=32, patch_size=8),
        "VJEPA2": lambda: transformers.VJEPA2Config(
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            crop_size=32,
            frames_per_clip=4,
            pred_hidden_size=12,
            pred_num_attention_heads=2,
            pred_num_hidden_layers=1,
        ),
    }
    torch.manual_seed(0)
    return transformers.AutoModel.from_config(configs[name]())


@pytest.mark.parametrize("name", ["VideoMAE", "Timesformer", "ViT", "VJEPA2"])
def test_models_of_transformers_by_their_folder(name: str, tmp_path: Path) -> None:
    model = tiny(name)
    model.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(
        json.dumps({"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.2, 0.1]})
    )
    encoder = load_stages(str(tmp_path), CPU)
    assert encoder.side == 32
    assert encoder.num_frames == (16 if name == "ViT" else 4)
    assert encoder.normalization.mean == (0.5, 0.4, 0.3)
    clips = torch.randint(256, (5, 3, encoder.num_frames, 32, 32), dtype=torch.uint8)
    stages = encoder.embed(clips, batch_size=2)
    assert list(stages) == ["embedding", "block 1", "block 2"]
    assert {tuple(values.shape) for values in stages.values()} == {(5, 16)}
    # A clip's features are its own, whatever else is in the batch.
    alone = encoder.embed(clips[3:4])
    torch.testing.assert_close(alone["block 2"], stages["block 2"][3:4], rtol=1e-4, atol=1e-5)
    twin = encoder.untrained(clips, seed=1)
    assert twin is not None
    assert not torch.allclose(twin.embed(clips)["block 1"], stages["block 1"])


def test_a_model_of_a_fixed_size_is_asked_at_that_size(few_clips: None, tmp_path: Path) -> None:
    tiny("VideoMAE").save_pretrained(tmp_path / "model")
    (grades,) = report_card(
        ReportConfig(str(tmp_path / "model"), controls=False, untrained=False, output=str(tmp_path))
    )
    assert grades.size == (4, 32, 32)
    with pytest.raises(UsageError, match="takes 4 frames of 32 pixels"):
        report_card(ReportConfig(str(tmp_path / "model"), side=64, output=str(tmp_path)))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("/nowhere/at/all.pt", "no such"),
        ("no_such_package:encoder", "no such file, and no function of a module"),
        (spec("nothing"), "no such file, and no function of a module"),
        (spec("NOT_A_FUNCTION"), "got int, needs a function"),
        (spec("no_module"), "got int, needs a function that returns a torch module"),
    ],
)
def test_what_is_no_encoder_is_said_in_one_line(
    source: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", source, "--output", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1


def test_names_must_be_as_many_as_encoders() -> None:
    with pytest.raises(ValueError, match=re.escape("names: got 1, needs one for each of 2 encoders")):
        ReportConfig("a", compare=("b",), names=("only",))
