"""What a study's runs learned, fine-tuned by the trainer's own command."""

import pytest

from studies.__main__ import main
from studies.arms import FULL, UNTRAINED, arm_recipe
from studies.results import Results
from studies.runs import Run, Study
from tubeletx_train.common.errors import UsageError
from tubeletx_train.config.parse import config_from_tree
from tubeletx_train.config.pretrain import PretrainConfig
from tubeletx_train.config.tree import merge, to_tree
from tubeletx_train.data import VideoRecord, write_manifest
from tubeletx_train.evaluation.pretrained import save_pretraining
from tubeletx_train.pretrain.build import build_moco
from video_files import make_video

SMALL = {"data": {"videos": "none", "num_frames": 8, "crop_size": 16}, "model": {"width": 2, "dim": 8}}


@pytest.fixture
def study(tmp_path):
    study = Study(tmp_path / "study")
    for arm in (FULL, UNTRAINED):
        config = config_from_tree(PretrainConfig, merge(arm_recipe(arm), SMALL), arm)
        probe = {"linear": 0.5, "knn": 0.4, "chance": 0.05}
        study.write_result(Run(arm, 0), {"config": to_tree(config), "probe": probe})
    save_pretraining(config, build_moco(config), study.encoder(Run(FULL, 0)))
    return study


@pytest.fixture
def manifest(tmp_path):
    records = [
        VideoRecord(
            str(make_video(tmp_path / "set" / f"{label}{number}.mp4", frames=16, tint=(tint, 90, 200 - tint))),
            label=label,
            split=split,
        )
        for label, tint in (("dark", 20), ("light", 180))
        for number, split in enumerate(("train", "train", "test"))
    ]
    write_manifest(tmp_path / "set.csv", records)
    return tmp_path / "set.csv"


def command(study, manifest, *arms, epochs=1):
    places = ["finetune", "--output", str(study.root), "--labelled", f"tints={manifest}", "--seeds", "0"]
    return main([*places, "--epochs", str(epochs), "--per_class", "1", "--arms", *arms])


def test_networks_are_fine_tuned_once(study, manifest, capfd):
    assert command(study, manifest, FULL, UNTRAINED) == 0
    found = [study.result(Run(arm, 0)) for arm in (FULL, UNTRAINED)]
    setting = "tints, fine-tuned on 1 a class"
    for result in found:
        entry = result["finetuned"][setting]
        assert entry["top1"] in (0, 0.5, 1)
        assert entry["chance"] == 0.5
        assert (entry["train_videos"], entry["test_videos"], entry["epochs"]) == (2, 2, 1)
    begun = [(study.folder(Run(arm, 0)) / "finetuned/tints-1-1/log.txt").read_text() for arm in (FULL, UNTRAINED)]
    assert setting in Results(found).measures
    assert "scratch" not in begun[0]
    # What is done is not done again.
    for arm in (FULL, UNTRAINED):
        (study.folder(Run(arm, 0)) / "finetuned/tints-1-1/results.json").unlink()
    assert command(study, manifest, FULL, UNTRAINED) == 0
    assert [study.result(Run(arm, 0)) for arm in (FULL, UNTRAINED)] == found


def test_a_set_that_was_done_in_other_epochs_is_done_again(study, manifest):
    setting = "tints, fine-tuned on 1 a class"
    for epochs in (1, 2):
        assert command(study, manifest, UNTRAINED, epochs=epochs) == 0
        assert study.result(Run(UNTRAINED, 0))["finetuned"][setting]["epochs"] == epochs


def test_what_cannot_be_fine_tuned_is_told(study, manifest, capsys):
    assert command(study, manifest, "temporal") == UsageError.exit_code
    assert "no such run is complete" in capsys.readouterr().err
    study.encoder(Run(FULL, 0)).unlink()
    assert command(study, manifest, FULL) == UsageError.exit_code
    assert "holds no network" in capsys.readouterr().err


def test_a_failure_is_told_and_leaves_no_result(study, manifest, capfd):
    study.encoder(Run(FULL, 0)).write_bytes(b"no checkpoint")
    assert command(study, manifest, FULL) == 1
    assert "finetuned" not in study.result(Run(FULL, 0))
    told = capfd.readouterr()
    assert "rotation, seed 0, tints failed" in told.out + told.err
