"""Every example runs, at toy size, with the packages that it is for, and does what it says."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from video_files import make_video

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(autouse=True)
def _can_be_imported(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """By workers too, which look for the classes of an example by name. Benchmarks of the same names stand aside."""
    monkeypatch.syspath_prepend(EXAMPLES)
    names = {path.stem for path in EXAMPLES.glob("*.py")}
    others = {name: sys.modules.pop(name) for name in names & sys.modules.keys()}
    yield
    for name in names:
        sys.modules.pop(name, None)
    sys.modules.update(others)


def run(name: str, *arguments: Any) -> Any:
    return importlib.import_module(name).main(*arguments, toy=True)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_is_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) < 80


def test_every_example_is_run_here() -> None:
    tests = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    assert {path.stem for path in EXAMPLES.glob("*.py")} <= tests


def test_videomae() -> None:
    losses = run("videomae")
    assert losses[2] < losses[1] < losses[0]


def test_smile_mask() -> None:
    from tubeletx import TubeletConfig, TubeletSampler

    smile_mask = importlib.import_module("videomae").smile_mask
    tubelets = TubeletSampler(TubeletConfig.preset("smile"))(torch.arange(4), num_frames=16, height=224, width=224)
    few, many = (smile_mask(tubelets, (2, 16, 16), ratio, torch.Generator().manual_seed(0)) for ratio in (0.05, 0.9))
    cells = 8 * 14 * 14
    assert (few.sum(1) == round(0.05 * cells)).all()
    assert (many.sum(1) == round(0.9 * cells)).all()
    touched = tubelets.coverage((2, 16, 16)).flatten(1) > 0
    assert not few[~touched].any()
    # Each tubelet is shown at one moment of eight, unless another one or the ratio hides it there.
    assert 0.8 < many[touched].float().mean() < 1


def test_lightning_moco() -> None:
    losses = run("lightning_moco")
    assert len(losses) == 4
    assert all(torch.tensor(losses).isfinite())


def test_metric_learning(capsys: pytest.CaptureFixture[str]) -> None:
    assert max(run("metric_learning")) < 1e-5
    output = capsys.readouterr().out
    assert output.count("MiB at the peak") == 2


def test_dataloader(tmp_path: Path) -> None:
    for index in range(5):
        make_video(tmp_path / f"{index}, é.mp4", frames=3 + index, tint=(200, 40 * index, 20))
    clips = run("dataloader", tmp_path)
    assert clips.shape == (5, 3, 4, 32, 32)
    assert clips.dtype == torch.uint8
    assert len({clip.sum().item() for clip in clips}) == 5


def test_augment(tmp_path: Path) -> None:
    for index in range(5):
        make_video(tmp_path / f"{index}.mp4", frames=3 + index, tint=(200, 40 * index, 20))
    clips = run("augment", tmp_path)
    assert clips.shape == (1, 3, 4, 32, 32)
    assert clips.dtype == torch.bfloat16


def test_kornia_pipeline(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("kornia_pipeline") < 0.02
    assert "augmented: (2, 3, 8, 32, 32)" in capsys.readouterr().out


def test_paste_as_a_child_of_kornias_video_sequential() -> None:
    from kornia.augmentation import VideoSequential

    from tubeletx import PasteTubelets

    ids = torch.tensor([4, 7])
    clips = torch.rand(2, 3, 4, 32, 40)
    expected = PasteTubelets(inplace=False)(clips, ids)
    paste = PasteTubelets(layout="(BT)CHW")
    for data_format in ("BCTHW", "BTCHW"):
        axes = [0, 1, 2, 3, 4] if data_format == "BCTHW" else [0, 2, 1, 3, 4]
        with paste.samples(ids):
            pasted = VideoSequential(paste, data_format=data_format)(clips.clone().permute(axes))
        assert torch.equal(pasted.permute(axes), expected)


def test_point_tracker() -> None:
    errors = run("point_tracker")
    assert sum(errors[-10:]) < 0.9 * sum(errors[:10])
