import json

import pytest

from moving_squares import write_ucf101
from tubeletx_train.cli import main

TOY = [
    *("--checkpoint", "scratch", "--model.encoder", "r3d_10", "--model.width", "8"),
    *("--data.num_frames", "4", "--data.crop_size", "24", "--data.num_workers", "0", "--data.crop_area", "[0.5, 1]"),
    *("--data.test_clips", "2", "--optim.batch_size", "8", "--optim.steps", "60", "--optim.lr", "0.01"),
    *("--optim.schedule", "cosine", "--optim.milestones", "[]", "--selection.held_out", "0.25", "--color.hue", "0.05"),
    *(
        "--run.seed",
        "2",
        "--run.device",
        "cpu",
        "--run.tensorboard",
        "false",
        "--run.log_every",
        "1",
        "--run.evaluate_every_epochs",
        "3",
    ),
]


@pytest.fixture(scope="module")
def ucf101(tmp_path_factory):
    root = write_ucf101(tmp_path_factory.mktemp("ucf101"))
    manifest = root / "ucf101.csv"
    assert main(["manifest", "ucf101", "--root", str(root), "--output", str(manifest), "--allow_missing", "true"]) == 0
    return manifest


@pytest.fixture(scope="module")
def finetuned(ucf101, tmp_path_factory):
    output = tmp_path_factory.mktemp("run")
    assert main(["finetune", "--data.train", str(ucf101), "--run.output", str(output), *TOY]) == 0
    return output


def results(folder):
    return json.loads((folder / "results.json").read_text())


def test_recognition_learns_moving_squares(finetuned):
    content = results(finetuned)
    assert content["metrics"]["top1"] >= 0.8  # chance is 1/3
    assert content["metrics"]["mean_class_accuracy"] == pytest.approx(content["metrics"]["top1"])  # equal classes
    assert content["metrics"]["top5"] == 1
    assert (content["train_videos"], content["selection_videos"], content["test_videos"]) == (18, 6, 9)
