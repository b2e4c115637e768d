import errno
import json
import logging
import os
import signal
import subprocess
import sys

import pytest
import torch
from PIL import Image

from tubeletx_train.cli import main
from tubeletx_train.common.machine import processor_name
from tubeletx_train.config.ablations import ablation_tables, arms
from tubeletx_train.config.recipes import recipe_names

TOY = [
    *("--data.num_frames", "4", "--data.crop_size", "24", "--data.decode_size", "32", "--data.num_workers", "0"),
    *("--model.encoder", "r2plus1d_10", "--model.width", "2", "--contrast.queue_size", "16"),
    *("--optim.batch_size", "2", "--optim.steps", "2", "--run.device", "cpu", "--run.log_every", "1"),
]


def test_without_a_command_the_usage_is_shown(capsys):
    assert main([]) == 2
    assert main(["--help"]) == 0
    output = capsys.readouterr().out
    for command in ("pretrain", "preview", "retrieval", "recipes"):
        assert command in output


@pytest.mark.parametrize("command", ["pretrain", "preview", "retrieval", "recipes"])
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert f"tubeletx-train {command}" in capsys.readouterr().out


def test_recipes_are_listed_and_printed(capsys):
    assert main(["recipes"]) == 0
    listed = capsys.readouterr().out
    files = [name for name in recipe_names() if name not in arms()]
    tables = [f"{name}/..." for name in ablation_tables()]
    assert [line.split()[0] for line in listed.splitlines()] == files + tables
    assert main(["recipes", "pretrain/temporal_contrast"]) == 0
    assert "mode: temporal" in capsys.readouterr().out


def test_print_config_prints_and_stops(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["pretrain", "--config", "demo", "--data.videos", "x", "--print_config"])
    assert stop.value.code == 0
    assert "videos: x" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["pretran"], "did you mean 'pretrain'"),
        (["recipes", "demon"], "did you mean 'demo'"),
        (["pretrain"], "data.videos"),
        (["pretrain", "--data.video", "x"], "did you mean 'data.videos'"),
        (["pretrain", "--data.videos", "/nowhere/at/all"], "/nowhere/at/all"),
        (["pretrain", "--config", "nothing"], "no recipe or file called 'nothing'"),
        (["pretrain", "--data.videos", "x", "--optim.learning_rate", "1"], "optim has optimizer, batch_size"),
        (["pretrain", "--data.videos", "x", "--optim.stepz", "1"], "did you mean 'optim.steps'"),
        (["pretrain", "--config", "pretrain/mini_kinetics"], "tubeletx-train manifest mini_kinetics"),
        (["pretrain", "--data.videos", "x", "--model.dim", "0"], "model.dim: got 0, needs 1 or more"),
        (
            ["pretrain", "--data.videos", "x", "--contrast.temperature", "0"],
            "temperature: got 0.0, needs a positive number",
        ),
        (
            ["pretrain", "--data.videos", "x", "--contrast.momentum", "2"],
            "momentum: got 2.0, needs one in [0, 1]",
        ),
        (["pretrain", "--data.videos", "x", "--run.seed", "-1"], "run.seed: got -1, needs a whole number from 0"),
        (["pretrain", "--data.videos", "x", "--evaluation.videos", "y"], "needs run.evaluate_every"),
        (["pretrain", "--data.videos", "x", "--evaluation.clips", "0"], "evaluation.clips: got 0, needs 1 or more"),
        # Before the videos, which are not there, are looked for.
        (["pretrain", "--data.videos", "x", "--model.init_from", "no.pt"], "model.init_from no.pt: no such file"),
        (["check", "--videos", "x", "--output", "/proc/none/x.json"], "cannot write to the output folder /proc/none"),
        (["manifest", "folder", "--root", "x", "--output", "/"], "cannot write /: it is a folder"),
        (["pretrain", "--data.videos", "x", "--model.encoder", "r50"], "model.encoder: got 'r50', needs one of r2plus"),
        (["pretrain", "--data.videos", "x", "--model.width", "0"], "model.width: got 0"),
        (["pretrain", "--data.videos", "x", "--run.device", "gpu"], """device: got 'gpu', needs "auto", "cpu","""),
        (["pretrain", "--data.videos", "x", "--run.output", ""], "run.output: got an empty text"),
        (["pretrain", "--data.videos", "x", "--run.output="], "run.output: got an empty text"),
        (
            ["pretrain", "--config", "demo", "--data.videos", "x", "--optim.batch_size", "1"],
            "optim.batch_size: got one",
        ),
        (
            ["pretrain", "--data.videos", "x", "--run.seed", "99999999999999999999"],
            "run.seed: got 99999999999999999999, needs a",
        ),
        (["check", "--videos", "x", "--seed", "-1"], "seed: got -1, needs a whole number from 0"),
        (["check", "--videos", "x", "--check_timeout", "0"], "check_timeout: got 0.0, needs a positive number"),
        (["attention", "--checkpoints", "x", "--videos", "x", "--seed", "-1"], "seed: got -1"),
        (["probe", "--checkpoint", "x", "--videos", "x", "--seed", "-1"], "seed: got -1"),
        (["retrieval", "--checkpoint", "x", "--videos", "x", "--seed", "-1"], "seed: got -1"),
        (["retrieval", "--checkpoint", "x", "--videos", "x", "--pairs", "1"], "pairs: got 1, needs 2 or more"),
        (["retrieval", "--checkpoint", "x", "--videos", "x", "--sets", "0"], "sets: got 0, needs 1 or more"),
        (["evaluate", "--checkpoint", "x", "--data.train", "x", "--seed", "-1"], "seed: got -1"),
        (["retrieval", "--checkpoint", "/nowhere.pt", "--videos", "x"], "/nowhere.pt: no such file"),
        (["finetune", "--checkpoint", "scratch"], "data.train is missing"),
        (["finetune", "--data.train", "x.csv"], "checkpoint"),
        (["finetune", "--checkpoint", "scratch", "--data.per_clas", "3"], "did you mean 'data.per_class'"),
        (["evaluate", "--checkpoint", "/nowhere.pt"], "/nowhere.pt: no such checkpoint"),
        (["evaluate", "--checkpoint", "x", "--mode", "linear", "--task", "multilabel"], "linear"),
    ],
)
def test_mistakes_end_with_code_2_and_one_line(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert "\n" not in error
    assert "Traceback" not in error


@pytest.mark.parametrize("arguments", ["--help", "recipes", "pretrain --help", "pretrain --config demo --print_config"])
def test_a_reader_that_has_enough_ends_a_command_without_a_traceback(arguments):
    program = f"import sys; from tubeletx_train.cli import main; sys.exit(main({arguments.split()}))"
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as output:
        ended = subprocess.run([sys.executable, "-c", program], stdout=output, stderr=subprocess.PIPE, text=True)
    assert ended.stderr == ""
    assert ended.returncode in (0, 128 + signal.SIGPIPE)  # argparse, which writes the help, passes over it


def test_a_name_that_the_locale_cannot_write_is_told_all_the_same(tmp_path):
    video = tmp_path / "h\u00e9.mp4"
    video.write_text("not a video")
    program = f"import sys; from tubeletx_train.cli import main; sys.exit(main(['check', '--videos', {str(video)!r}]))"
    locale = {**os.environ, "PYTHONIOENCODING": "ascii"}
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=locale)
    assert r"h\xe9.mp4: cannot be opened" in ended.stdout
    assert (ended.stderr, ended.returncode) == ("", 2)


def test_a_folder_of_rubbish_ends_with_code_2(tmp_path, capsys):
    videos = tmp_path / "videos"
    videos.mkdir()
    (videos / "text.mp4").write_text("not a video")
    (videos / "empty.mp4").touch()
    assert main(["pretrain", "--data.videos", str(videos), "--run.output", str(tmp_path / "run"), *TOY]) == 2
    assert "error: " in capsys.readouterr().err.splitlines()[-1]


def test_what_only_a_run_can_tell_is_one_line_too(videos, tmp_path, capsys):
    run = ["pretrain", "--data.videos", str(videos), "--run.output", str(tmp_path), *TOY]
    assert main([*run, "--optim.warmup_epochs", "1"]) == 2
    assert "warm-up of 2 steps" in capsys.readouterr().err.splitlines()[-1]


def test_a_file_that_may_not_be_read_is_one_line(tmp_path, capsys, monkeypatch):
    """Of another user's run, say; refused by hand, as root may read everything."""
    folder = tmp_path / "run" / "checkpoints"
    folder.mkdir(parents=True)

    def refuse(path):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr("pathlib.Path.iterdir", refuse)
    assert main(["export", str(tmp_path / "run"), "--output", str(tmp_path / "x.pt")]) == 2
    assert capsys.readouterr().err == f"tubeletx-train: error: {folder}: Permission denied\n"


def test_pretrain_then_retrieval(videos, tmp_path, capsys):
    output = tmp_path / "run"
    assert main(["pretrain", "--data.videos", str(videos), "--run.output", str(output), *TOY]) == 0
    checkpoint = output / "checkpoints" / "step-00000002.pt"
    assert str(checkpoint) in capsys.readouterr().out
    assert any((output / "tensorboard").iterdir())
    report = tmp_path / "report.json"
    arguments = ["retrieval", "--checkpoint", str(output), "--videos", str(videos), "--output", str(report)]
    assert main([*arguments, "--pairs", "8", "--sets", "2", "--num_workers", "0", "--device", "cpu"]) == 0
    printed = capsys.readouterr().out
    for row in ("trained", "untrained", "chance"):
        assert row in printed
    content = json.loads(report.read_text())
    assert len(content["trained"]["recall_at_1"]) == 2
    assert content["untrained"]["r@5_chance"] == 5 / 8
    assert (content["checkpoint"], content["precision"]) == (str(output), "float32")
    assert content["processor"] == processor_name(torch.device("cpu"))


def test_preview_writes_pictures(videos, tmp_path, capsys):
    assert main(["preview", "--config", "demo", "--data.videos", str(videos), "--output", str(tmp_path)]) == 0
    assert capsys.readouterr().out.split() == [str(tmp_path / "contact_sheet.png"), str(tmp_path / "animation.gif")]
    assert (tmp_path / "contact_sheet.png").read_bytes()[:4] == b"\x89PNG"
    assert (tmp_path / "animation.gif").read_bytes()[:3] == b"GIF"


def test_a_full_disk_under_pictures_is_one_line(videos, tmp_path, capsys, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device", "animation.gif")

    arguments = ["preview", "--config", "demo", "--data.videos", str(videos), "--output", str(tmp_path)]
    monkeypatch.setattr(Image.Image, "save", full)
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert "error: cannot write to " in error.splitlines()[-1]
    assert "No space left on device" in error.splitlines()[-1]


def test_checkpoints_of_something_else_are_named(tmp_path, capsys):
    torch.save({"weights": torch.zeros(2)}, tmp_path / "other.pt")
    for config in ({"config": {"data": {}}, "model": {}}, {}):
        torch.save(config | {"tubeletx": "0", "step": 1, "total_steps": 1}, tmp_path / "finetuned.pt")
        for file, command in (("other.pt", "retrieval"), ("finetuned.pt", "retrieval"), ("finetuned.pt", "export")):
            arguments = ["--checkpoint", str(tmp_path / file)]
            assert main([command, *arguments, *(["--videos", "x"] if command == "retrieval" else [])]) == 2
            assert f"{file}: no" in capsys.readouterr().err


@pytest.mark.parametrize(("rank", "told"), [("0", True), ("1", False)])
def test_one_process_of_several_tells_what_happens(rank, told, monkeypatch):
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", root.level)
    monkeypatch.setenv("RANK", rank)
    ours = logging.getLogger("tubeletx_train")
    before = ours.level
    try:
        assert main(["recipes", "demo"]) == 0
        assert ours.isEnabledFor(logging.INFO) == told
        assert ours.isEnabledFor(logging.WARNING)
        assert not logging.getLogger("matplotlib.font_manager").isEnabledFor(logging.INFO)
    finally:
        ours.setLevel(before)


def test_log_lines_stand_by_themselves_below_a_bar():
    code = (
        "import logging, sys, tqdm; from tubeletx_train.cli import main; main(['recipes']);"
        "bar = tqdm.tqdm(total=3, file=sys.stderr); bar.update(); logging.warning('unreadable video x'); bar.close()"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    line = next(line for line in run.stderr.replace("\r", "\n").splitlines() if "unreadable" in line)
    assert line == "W unreadable video x"
