import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from moving_squares import write_charades, write_ucf101
from tubeletx_train.cli import main
from tubeletx_train.common.checkpoint import load_checkpoint
from tubeletx_train.common.machine import processor_name
from tubeletx_train.config.labelled import EncoderConfig, FinetuneConfig, LabelledDataConfig
from tubeletx_train.config.optim import OptimConfig
from tubeletx_train.config.parse import parse_config
from tubeletx_train.config.pretrain import ModelConfig
from tubeletx_train.data import read_manifest, write_manifest
from tubeletx_train.engine.loop import TrainingResult
from tubeletx_train.engine.run import open_run
from tubeletx_train.finetune.task import Finetuning, prepare_labelled_videos
from tubeletx_train.models import build_encoder
from tubeletx_train.models.classifier import VideoClassifier, load_pretrained
from tubeletx_train.models.weights import load_encoder, pretrained_settings
from tubeletx_train.repetition.metrics import counting_metrics

NETWORK = ["--model.encoder", "r3d_10", "--model.width", "8"]
CLIPS = [
    *("--data.num_frames", "4", "--data.crop_size", "24", "--data.num_workers", "0", "--data.crop_area", "[0.5, 1]"),
    *("--data.test_clips", "2"),
]
TOY = [
    *("--checkpoint", "scratch", *NETWORK, *CLIPS, "--color.hue", "0.05", "--selection.held_out", "0.25"),
    *("--optim.batch_size", "8", "--optim.steps", "30", "--optim.lr", "0.01", "--optim.milestones", "[10]"),
    *("--run.device", "cpu", "--run.tensorboard", "false", "--run.log_every", "1", "--run.evaluate_every_epochs", "5"),
]


@pytest.fixture(scope="module")
def ucf101(tmp_path_factory):
    root = write_ucf101(tmp_path_factory.mktemp("ucf101"))
    return make_manifest("ucf101", root)


@pytest.fixture(scope="module")
def charades(tmp_path_factory):
    return make_manifest("charades", write_charades(tmp_path_factory.mktemp("charades")))


def make_manifest(dataset, root):
    manifest = root / "list.csv"
    assert main(["manifest", dataset, "--root", str(root), "--output", str(manifest)]) == 0
    return manifest


@pytest.fixture(scope="module")
def finetuned(ucf101, tmp_path_factory):
    output = tmp_path_factory.mktemp("run")
    assert main(["finetune", "--data.train", str(ucf101), "--run.output", str(output), *TOY]) == 0
    return output


def results(folder):
    return json.loads((folder / "results.json").read_text())


def log(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_the_weights_of_a_checkpoint_are_told_once(finetuned, ucf101, tmp_path, caplog):
    caplog.set_level("INFO", "tubeletx_train")
    short = [*TOY, "--checkpoint", str(finetuned), "--optim.steps", "1", "--optim.milestones", "[]"]
    assert main(["finetune", *short, "--data.train", str(ucf101), "--run.output", str(tmp_path)]) == 0
    assert sum("of the encoder's" in line for line in caplog.messages) == 1


def test_recognition_learns_moving_squares(finetuned):
    content = results(finetuned)
    assert content["metrics"]["top1"] >= 0.85  # chance is 1/3
    assert content["metrics"]["mean_class_accuracy"] == pytest.approx(content["metrics"]["top1"])  # equal classes
    assert "top5" not in content["metrics"]  # of three classes
    assert (content["train_videos"], content["held_out_videos"], content["test_videos"]) == (18, 6, 9)
    assert (content["method"], content["mode"], content["unreadable"]) == ("scratch", "finetuned", [])
    assert content["config"]["data"]["num_frames"] == 4


def test_a_fine_tuned_network_is_read_again_by_every_command(finetuned, ucf101, tmp_path, capsys):
    state = torch.load(finetuned / "model.pt", weights_only=True)
    expected = {name: value for name, value in state["classifier"].items() if name.startswith("encoder.")}
    for path in (finetuned, finetuned / "model.pt"):
        encoder = load_encoder(path)
        assert {f"encoder.{name}": value.tolist() for name, value in encoder.state_dict().items()} == {
            name: value.tolist() for name, value in expected.items()
        }
        pretrained = load_pretrained(path, EncoderConfig())
        assert pretrained.source == "tubeletx fine-tuning"
        output = tmp_path / "encoder.pt"
        capsys.readouterr()
        assert main(["export", str(path), "--output", str(output)]) == 0
        assert capsys.readouterr().out.splitlines() == [str(output), f"{output}.md"]
        assert load_encoder(output).state_dict().keys() == encoder.state_dict().keys()
        card = Path(f"{output}.md").read_text()
        assert "fine-tuning with labels (recognition, 3 classes), from scratch weights" in card
        made = f"{results(finetuned)['precision']}, on {processor_name(torch.device('cpu'))}, torch {torch.__version__}"
        assert f"| made in | {made} |" in card
    again = [*TOY, "--checkpoint", str(finetuned), "--optim.steps", "1", "--optim.milestones", "[]"]
    assert main(["finetune", *again, "--data.train", str(ucf101), "--run.output", str(tmp_path / "again")]) == 0
    assert results(tmp_path / "again")["method"] == "tubeletx fine-tuning"
    newest = sorted((finetuned / "checkpoints").iterdir())[-1]
    assert pretrained_settings(newest) == ModelConfig()  # it does not say its network's


def test_weights_are_chosen_by_held_out_training_videos(finetuned, ucf101):
    looks = [line for line in log(finetuned) if "evaluation/top1" in line]
    assert [line["step"] for line in looks][:2] == [10, 20]  # two steps an epoch
    best = max(looks, key=lambda line: line["evaluation/top1"])
    content = results(finetuned)
    assert content["chosen_step"] in (best["step"], 30)
    config = FinetuneConfig(checkpoint="scratch", data=LabelledDataConfig(train=str(ucf101), num_workers=0))
    videos = prepare_labelled_videos(config, finetuned)
    tested = {record.path for record in videos.test.records}
    assert not tested & {record.path for record in [*videos.train, *videos.selection]}
    released = prepare_labelled_videos(dataclasses.replace(config, protocol="released"), finetuned)
    assert {record.path for record in released.selection} == tested
    assert len(released.train) == 24


def test_the_papers_protocol_trains_on_all_videos_and_tests_the_last_weights(ucf101, tmp_path):
    arguments = [
        "finetune",
        "--config",
        "downstream/ucf101",
        "--data.train",
        str(ucf101),
        *TOY,
        "--selection.held_out",
        "0",
    ]
    arguments += ["--run.evaluate_every_epochs", "1", "--optim.steps", "6", "--data.num_classes", "3"]
    assert main([*arguments, "--run.output", str(tmp_path)]) == 0
    content = results(tmp_path)
    assert (content["train_videos"], content["held_out_videos"], content["chosen_step"]) == (24, 0, 6)
    assert all("loss" in line for line in log(tmp_path))  # no record of an evaluation that judged nothing
    # Of each class's eight videos a tenth, rounded down, is none: that is said, not passed over.
    assert main([*arguments, "--run.output", str(tmp_path / "b"), "--selection.held_out", "0.1"]) == 2


def test_a_finetuned_network_can_be_tested_again(finetuned, ucf101, tmp_path, capsys):
    arguments = ["evaluate", "--checkpoint", str(finetuned / "model.pt"), "--data.test", str(ucf101), *CLIPS]
    assert main([*arguments, "--output", str(tmp_path), "--device", "cpu"]) == 0
    assert results(tmp_path)["metrics"] == pytest.approx(results(finetuned)["metrics"])
    assert "top1" in capsys.readouterr().out
    assert main([*arguments, "--mode", "linear", "--output", str(tmp_path), "--data.train", str(ucf101)]) == 0


def test_a_resumed_run_ends_as_one_that_was_not_stopped(finetuned, ucf101, tmp_path):
    state = load_checkpoint(finetuned / "checkpoints" / "step-00000030.pt")
    arguments = ["finetune", "--data.train", str(ucf101), "--run.output", str(tmp_path), *TOY]
    assert main([*arguments, "--run.checkpoint_every", "12", "--run.keep_checkpoints", "9"]) == 0
    (tmp_path / "checkpoints" / "step-00000030.pt").unlink()
    (tmp_path / "checkpoints" / "step-00000024.pt").unlink()
    (tmp_path / "results.json").unlink()
    assert main(arguments) == 0
    resumed = load_checkpoint(tmp_path / "checkpoints" / "step-00000030.pt")
    assert state["best"]["step"] == resumed["best"]["step"]
    for name, value in state["model"].items():
        assert torch.equal(value, resumed["model"][name]), name
    assert results(tmp_path)["metrics"] == results(finetuned)["metrics"]


@pytest.mark.parametrize("command", [["finetune"], ["count", "train"]])
def test_the_checkpoint_is_read_before_the_videos_are(command, ucf101, tmp_path, capsys, monkeypatch):
    for module in ("finetune.task", "repetition.run"):
        looked = f"tubeletx_train.{module}.check_training_videos"
        monkeypatch.setattr(looked, lambda *_: pytest.fail("the videos were looked at"))
    arguments = [*command, "--checkpoint", "/nowhere.pt", "--data.train", str(ucf101), "--run.output", str(tmp_path)]
    assert main([*arguments, "--run.device", "cpu"]) == 2
    assert "/nowhere.pt: no such file" in capsys.readouterr().err


def test_a_message_that_the_videos_changed_says_which_came_and_went(ucf101, tmp_path, capsys, caplog):
    arguments = ["finetune", "--run.output", str(tmp_path), *TOY, "--optim.steps", "2", "--optim.milestones", "[]"]
    assert main([*arguments, "--data.train", str(ucf101)]) == 0
    (tmp_path / "model.pt").unlink()
    records = list(read_manifest(ucf101))
    gone = next(record for record in records if record.split == "train")
    new = ucf101.parent / "new.avi"
    shutil.copy(gone.path, new)
    other = ucf101.parent / "other.csv"
    records[records.index(gone)] = dataclasses.replace(gone, path=str(new))
    write_manifest(other, records)
    arguments[arguments.index("--optim.steps") + 1] = "3"
    capsys.readouterr()
    assert main([*arguments, "--data.train", str(other)]) == 2
    message = capsys.readouterr().err
    assert f"(1: new.avi came, 1: {Path(gone.path).name} went)" in message
    assert main([*arguments, "--data.train", str(other), "--run.allow_changed_videos", "true"]) == 0
    assert "new.avi came" in caplog.text


def test_two_processes_test_the_weights_that_they_keep(ucf101, tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "tubeletx_train", "finetune", "--data.train", str(ucf101), *TOY, "--run.output", str(tmp_path)]
    # Few steps: the running statistics of the processes still differ, and the network is often wrong.
    command += ["--optim.steps", "4", "--optim.lr", "0.003"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    content = results(tmp_path)
    assert content["test_videos"] == 9
    arguments = ["evaluate", "--checkpoint", str(tmp_path / "model.pt"), "--data.test", str(ucf101), *CLIPS]
    assert main([*arguments, "--output", str(tmp_path / "again"), "--device", "cpu"]) == 0
    assert results(tmp_path / "again")["metrics"] == pytest.approx(content["metrics"])


def test_several_labels_are_learned(charades, tmp_path):
    arguments = ["finetune", "--config", "downstream/charades", "--data.train", str(charades), *TOY]
    arguments += [
        "--data.stride",
        "2",
        "--data.short_sides",
        "[24, 32]",
        "--model.dropout",
        "0",
        "--data.num_classes",
        "3",
    ]
    arguments += ["--optim.optimizer", "adam", "--optim.nesterov", "false", "--optim.warmup_epochs", "0"]
    assert main([*arguments, "--run.output", str(tmp_path)]) == 0
    content = results(tmp_path)
    assert content["metrics"]["map"] > 0.85  # of scores that say nothing: a half, the share of positives
    assert (content["experiment"], content["test_videos"]) == ("charades", 6)
    blind = main([*arguments, "--run.output", str(tmp_path / "blind"), "--optim.lr", "0"])
    assert blind == 0
    assert results(tmp_path / "blind")["metrics"]["map"] < 0.75


def test_precise_batch_norm_has_the_statistics_of_training_clips(ucf101, tmp_path):
    arguments = ["finetune", "--data.train", str(ucf101), *TOY, "--selection.held_out", "0", "--optim.steps", "2"]
    arguments += ["--optim.lr", "0", "--data.mean", "[0.1, 0.1, 0.1]", "--data.std", "[1, 2, 4]"]
    states = []
    for precise in (0, 3):
        output = tmp_path / str(precise)
        assert main([*arguments, "--model.precise_batches", str(precise), "--run.output", str(output)]) == 0
        states.append(load_checkpoint(output / "model.pt")["classifier"])
    running, precise_state = states
    assert precise_state["encoder.stem.1.num_batches_tracked"] == 3
    assert all(torch.equal(running[name], precise_state[name]) for name in running if name.endswith("weight"))
    # The mean of the first convolution's outputs over three batches, by hand.
    config = parse_config(FinetuneConfig, [*arguments[1:], "--run.output", str(tmp_path / "by_hand")], prog="test")
    with open_run(config.run) as run:
        task = Finetuning(config, prepare_labelled_videos(config, run.output), run)
        task.net.load_state_dict(precise_state)
        outputs = []
        for batch in task.source.batches(2, 5):
            clip = task.augment(batch.clip, batch.sample_ids, epoch=batch.epoch, which=0)
            outputs.append(task.net.encoder.stem[0](clip).mean((0, 2, 3, 4)))
    expected = torch.stack(outputs).mean(0)
    torch.testing.assert_close(precise_state["encoder.stem.1.running_mean"], expected, rtol=1e-3, atol=1e-5)


def test_low_shot_training_uses_few_videos(ucf101, tmp_path):
    arguments = ["finetune", "--config", "downstream/ucf_low_shot", "--data.train", str(ucf101), *TOY]
    arguments += ["--data.per_class", "2", "--data.num_classes", "5", "--optim.steps", "1", "--selection.held_out", "0"]
    assert main([*arguments, "--run.output", str(tmp_path)]) == 0
    content = results(tmp_path)
    assert (content["train_videos"], content["held_out_videos"], content["num_classes"]) == (6, 0, 5)
    assert content["experiment"] == "ucf_low_shot"
    assert len(read_manifest(tmp_path / "train.csv")) == 6


@pytest.mark.parametrize(
    ("mode", "metric", "least"), [("linear", "top1", 0.85), ("knn", "top1", 0.6), ("retrieval", "r@1", 0.6)]
)
def test_frozen_features(mode, metric, least, ucf101, tmp_path, caplog, monkeypatch):
    # Colours are in the features of any network; what a pretrained one adds is not this test's business.
    arguments = ["evaluate", "--mode", mode, "--checkpoint", "scratch", *NETWORK, *CLIPS, "--data.train", str(ucf101)]
    arguments += ["--output", str(tmp_path), "--features", str(tmp_path / "features"), "--device", "cpu"]
    assert main(arguments) == 0
    first = results(tmp_path)
    assert first["metrics"][metric] >= least
    assert (first["train_videos"], first["test_videos"], first["mode"]) == (24, 9, mode)
    assert len(list((tmp_path / "features").iterdir())) == 2
    monkeypatch.setattr("tubeletx_train.evaluation.embed.embed_views", None)  # not needed a second time
    assert main(arguments) == 0
    assert results(tmp_path)["metrics"] == first["metrics"]


def test_frozen_features_leave_batch_norm_alone(ucf101, tmp_path, monkeypatch):
    seen = []

    def remember(checkpoint, config):
        seen.append(load_pretrained(checkpoint, config))
        return seen[-1]

    monkeypatch.setattr("tubeletx_train.evaluation.evaluate.load_pretrained", remember)
    arguments = ["evaluate", "--mode", "knn", "--checkpoint", "scratch", *NETWORK, *CLIPS, "--data.train", str(ucf101)]
    assert main([*arguments, "--output", str(tmp_path), "--features", str(tmp_path / "f"), "--device", "cpu"]) == 0
    norms = [module for module in seen[0].encoder.modules() if isinstance(module, torch.nn.BatchNorm3d)]
    assert all(norm.num_batches_tracked == 0 for norm in norms)


def test_a_pretrained_encoder_brings_its_settings_and_weights(tmp_path, ucf101):
    encoder = build_encoder("r2plus1d_10", 4)
    classifier = VideoClassifier(encoder, 3)
    torch.save(encoder.state_dict(), tmp_path / "weights.pth")
    output = tmp_path / "run"
    arguments = ["finetune", "--data.train", str(ucf101), *TOY, "--run.output", str(output), "--optim.steps", "1"]
    arguments += ["--checkpoint", str(tmp_path / "weights.pth"), "--optim.lr", "0", "--selection.held_out", "0"]
    arguments += ["--model.encoder", "r2plus1d_10", "--model.width", "4"]
    assert main(arguments) == 0
    assert results(output)["method"] == "torchvision"
    tuned = load_checkpoint(output / "model.pt")["classifier"]
    assert tuned.keys() == classifier.state_dict().keys()
    for name, value in encoder.named_parameters():
        assert torch.equal(tuned[f"encoder.{name}"], value), name
    # Another network than the checkpoint's is an error, not a training from scratch.
    assert main([*arguments, "--model.width", "8", "--run.output", str(tmp_path / "other")]) == 2


@pytest.fixture
def damaged(ucf101, tmp_path):
    """The same list with one training and one test video that cannot be read."""
    records = list(read_manifest(ucf101))
    text = tmp_path / "text.avi"
    text.write_text("not a video")
    for split in ("train", "test"):
        place = next(i for i, record in enumerate(records) if record.split == split)
        copy = tmp_path / f"bad_{split}.avi"
        shutil.copy(text, copy)
        records[place] = dataclasses.replace(records[place], path=str(copy))
    write_manifest(tmp_path / "damaged.csv", records)
    return tmp_path / "damaged.csv"


def test_unreadable_videos_stop_a_run_unless_allowed(damaged, tmp_path, capsys):
    arguments = ["finetune", "--data.train", str(damaged), *TOY, "--optim.steps", "1", "--selection.held_out", "0"]
    arguments += ["--run.output", str(tmp_path / "run")]
    assert main([*arguments, "--data.max_bad_share", "0.01"]) == 2
    assert "bad_train.avi" in capsys.readouterr().err
    assert main([*arguments, "--data.max_bad_share", "0.1"]) == 2
    error = capsys.readouterr().err
    assert "bad_test.avi" in error
    assert "--data.allow_unreadable" in error
    assert main([*arguments, "--data.max_bad_share", "0.1", "--data.allow_unreadable", "true"]) == 0
    content = results(tmp_path / "run")
    assert (content["train_videos"], content["test_videos"]) == (23, 8)
    assert len(content["unreadable"]) == len(content["bad_training_videos"]) == 1
    assert "bad_test.avi" in content["unreadable"][0]
    assert "bad_train.avi" in content["bad_training_videos"][0]


def test_labels_that_differ_between_the_splits_are_said(ucf101, tmp_path, capsys, caplog):
    records = list(read_manifest(ucf101))
    classes = sorted({record.label for record in records})
    arguments = ["--data.train", str(tmp_path / "list.csv"), *TOY, "--optim.steps", "1", "--selection.held_out", "0"]
    for renamed, code in ((classes[:1], 0), (classes, 2)):
        rows = [
            dataclasses.replace(record, label=f"{record.label} ")
            if record.split == "test" and record.label in renamed
            else record
            for record in records
        ]
        write_manifest(tmp_path / "list.csv", rows)
        rewritten = (tmp_path / "list.csv").read_text().replace(" ", "-x")
        (tmp_path / "list.csv").write_text(rewritten)
        assert main(["finetune", *arguments, "--run.output", str(tmp_path / str(code))]) == code
    assert f"1 of the 3 labels of the test videos are of no training video, and so never right: '{classes[0]}-x'" in (
        caplog.text
    )
    assert "no training video has any of the test videos' labels" in capsys.readouterr().err


def test_a_runs_folder_stands_for_its_weights(ucf101, finetuned, tmp_path, capsys):
    arguments = ["evaluate", "--data.test", str(ucf101), *CLIPS, "--device", "cpu", "--output", str(tmp_path / "test")]
    assert main([*arguments, "--checkpoint", str(finetuned)]) == 0
    assert results(tmp_path / "test")["metrics"] == results(finetuned)["metrics"]
    assert main([*arguments, "--checkpoint", str(tmp_path)]) == 2
    assert "choose --mode linear, knn or retrieval" in capsys.readouterr().err

    output = tmp_path / "pretrained"
    network = ["--model.encoder", "r3d_10", "--model.width", "2", "--contrast.queue_size", "8"]
    clips = [*CLIPS[:6], "--data.decode_size", "32", "--optim.batch_size", "2", "--optim.steps", "1"]
    run = ["--run.output", str(output), "--run.device", "cpu", "--run.tensorboard", "false"]
    assert main(["pretrain", "--data.videos", str(ucf101), *clips, *network, *run]) == 0
    judged = {}
    for checkpoint in (output, output / "checkpoints" / "step-00000001.pt"):
        arguments = ["evaluate", "--mode", "knn", "--checkpoint", str(checkpoint), "--data.train", str(ucf101), *CLIPS]
        folders = ["--features", str(tmp_path / "features"), "--output", str(tmp_path / "knn"), "--device", "cpu"]
        assert main([*arguments, *folders]) == 0
        judged[checkpoint] = results(tmp_path / "knn")["metrics"]
    assert len(set(map(str, judged.values()))) == 1
    assert len(list((tmp_path / "features").iterdir())) == 2  # the second found those of the first


@pytest.mark.parametrize("command", ["pretrain", "finetune", "count"])
@pytest.mark.parametrize("exit_code", [0, 143])
def test_one_process_of_several_prints_the_last_line(command, exit_code, monkeypatch, capsys, tmp_path):
    function = {
        "pretrain": "pretrain.task.pretrain",
        "finetune": "finetune.task.finetune",
        "count": "repetition.run.train_counter",
    }[command]
    metrics = counting_metrics([3], [3]) if command == "count" else {"top1": 0.5}
    given = {
        "pretrain": ["--data.videos", "x"],
        "finetune": ["--checkpoint", "scratch"],
        "count": ["train", "--checkpoint", "scratch", "--data.train", "x"],
    }[command]
    for is_main in (True, False):
        result = TrainingResult(tmp_path, tmp_path / "step-00000001.pt", 1, exit_code, is_main)
        returned = result if command == "pretrain" else (result, metrics)
        monkeypatch.setattr(f"tubeletx_train.{function}", lambda _, returned=returned: returned)
        assert main([command, *given]) == exit_code
        printed = capsys.readouterr()
        assert bool(printed.out + printed.err) == is_main


# Table 10: batch size, learning rate, epochs, steps.
TABLE_10 = {
    "ucf101": (32, 1e-4, 160, (60, 100, 140), 101),
    "hmdb51": (32, 1e-4, 160, (60, 100, 140), 51),
    "ssv2": (32, 1e-4, 45, (25, 35, 40), 174),
    "gym99": (32, 1e-4, 160, (60, 100, 140), 99),
    "ucf_low_shot": (32, 1e-4, 160, (80, 120, 140), 101),
    "gym_low_shot": (32, 1e-4, 160, (80, 120, 140), 99),
    "fx_s1": (32, 1e-4, 160, (70, 120, 140), 11),
    "ub_s1": (32, 1e-4, 160, (70, 120, 140), 15),
    "charades": (16, 0.0375, 57, (41, 49), 157),
}


@pytest.mark.parametrize("name", [*TABLE_10, "ssv2_sub", "diving48"])
@pytest.mark.parametrize("protocol", ["paper", "released"])
def test_the_recipes_hold_the_papers_numbers(name, protocol):
    recipe = f"downstream/{name}" if protocol == "paper" else f"downstream/released/{name}"
    config = parse_config(FinetuneConfig, ["--config", recipe, "--checkpoint", "scratch"], prog="test")
    assert (config.experiment, config.protocol) == (name, protocol)
    assert (config.data.num_frames, config.data.crop_size) == (32, 112)
    optim: OptimConfig = config.optim
    assert optim.schedule == "step"
    if name in TABLE_10 and protocol == "paper":
        batch_size, lr, epochs, milestones, num_classes = TABLE_10[name]
        assert (optim.batch_size, optim.lr, optim.epochs) == (batch_size, lr, epochs)
        assert optim.milestones == milestones
        assert config.data.num_classes == num_classes
    if name == "charades":
        assert (config.task, optim.gamma, optim.optimizer, optim.nesterov) == ("multilabel", 0.1, "sgd", True)
        assert (config.data.fps, config.data.stride, config.color.probability) == (24, 8, 0)
        assert config.data.views == (10 if protocol == "paper" else 30)
        scales, mean, deviation, precise = (
            ((256, 340), 0.45, 0.225, 200) if protocol == "released" else ((128, 170), 0.485, 0.229, 0)
        )
        assert (config.data.short_sides, config.data.mean[0], config.data.std[0]) == (scales, mean, deviation)
        assert config.model.precise_batches == precise
    else:
        assert (config.task, optim.gamma, optim.optimizer, optim.weight_decay) == ("recognition", 0.3, "adam", 0)
        assert (config.data.fps, config.data.stride, config.data.views) == (16, 1, 10)
        assert config.data.crop_area == (0.08, 1)
        color = config.color
        strengths = (color.probability, color.brightness, color.contrast, color.saturation, color.hue)
        assert strengths == (1, 0.4, 0.4, 0.4, 0.2)
    assert config.data.per_class == {"ucf_low_shot": 10, "gym_low_shot": 11}.get(name)
    assert config.data.share == (0.25 if name == "ssv2_sub" else None)


@pytest.mark.parametrize("name", ["ucf101", "hmdb51"])
def test_the_released_schedule_from_scratch(name):
    config = parse_config(FinetuneConfig, ["--config", f"downstream/released/{name}_scratch"], prog="test")
    assert (config.checkpoint, config.experiment, config.protocol) == ("scratch", name, "released")
    # 20 epochs of 10 visits, steps after 10, 15 and 18 of them.
    assert (config.optim.epochs, config.optim.milestones) == (200, (100, 150, 180))
    assert (config.optim.weight_decay, config.optim.lr, config.optim.gamma) == (1e-4, 1e-4, 0.3)
