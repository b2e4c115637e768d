"""What measures whole training steps, at a size of seconds: it drives the trainer, whose settings change."""

from __future__ import annotations

import importlib
import json
import pathlib
import sys

import pytest
import torch

from tubeletx_train.engine.task import checked_samples


@pytest.fixture(autouse=True)
def into(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets results be written to the test's folder."""
    monkeypatch.setattr(importlib.import_module("harness"), "RESULTS", tmp_path)


def test_the_step_of_the_demo(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ["--synthetic", "--sizes", "demo", "--batch", "4", "--rounds", "1"]
    monkeypatch.setattr(sys, "argv", ["train_step", *options, "--threads", str(torch.get_num_threads())])
    importlib.import_module("train_step").main()
    (result,) = json.loads((tmp_path / "train_step.json").read_text())["results"]
    assert result["batch"] == 4
    assert result["precision"].startswith(("float32", "bfloat16"))
    assert result["ratio_to_plain"].keys() == {"plain", "tubeletx, float32", "tubeletx"}


@pytest.mark.parametrize("case", ["demo", "study"])
def test_the_check_of_the_precision(case: str) -> None:
    script = importlib.import_module("precision_check")
    found = script.measure([*script.CASES[case], "--optim.batch_size", "4"], 1, torch.device("cpu"))
    assert (found["batch"], found["checked"]) == (4, checked_samples(4))
    assert found["check_s"] > 0
    assert found["step_s"] > 0
