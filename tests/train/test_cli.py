import json

import pytest

from tubeletx_train.cli import main
from tubeletx_train.config import recipe_names
from tubeletx_train.config.tables import ablation_tables, arms

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
        (["retrieval", "--checkpoint", "/nowhere.pt", "--videos", "x"], "/nowhere.pt: no such checkpoint"),
    ],
)
def test_mistakes_end_with_code_2_and_one_line(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert "\n" not in error
    assert "Traceback" not in error


def test_a_folder_of_rubbish_ends_with_code_2(tmp_path, capsys):
    videos = tmp_path / "videos"
    videos.mkdir()
    (videos / "text.mp4").write_text("not a video")
    (videos / "empty.mp4").touch()
    assert main(["pretrain", "--data.videos", str(videos), "--run.output", str(tmp_path / "run"), *TOY]) == 2
    assert "error: " in capsys.readouterr().err.splitlines()[-1]


def test_pretrain_then_retrieval(videos, tmp_path, capsys):
    output = tmp_path / "run"
    assert main(["pretrain", "--data.videos", str(videos), "--run.output", str(output), *TOY]) == 0
    checkpoint = output / "checkpoints" / "step-00000002.pt"
    assert str(checkpoint) in capsys.readouterr().out
    assert any((output / "tensorboard").iterdir())
    report = tmp_path / "report.json"
    arguments = ["retrieval", "--checkpoint", str(checkpoint), "--videos", str(videos), "--output", str(report)]
    assert main([*arguments, "--pairs", "8", "--sets", "2", "--num_workers", "0", "--device", "cpu"]) == 0
    printed = capsys.readouterr().out
    for row in ("trained", "untrained", "chance"):
        assert row in printed
    content = json.loads(report.read_text())
    assert len(content["trained"]["recall_at_1"]) == 2
    assert content["untrained"]["r@5_chance"] == 5 / 8


def test_preview_writes_pictures(videos, tmp_path, capsys):
    assert main(["preview", "--config", "demo", "--data.videos", str(videos), "--output", str(tmp_path)]) == 0
    assert capsys.readouterr().out.split() == [str(tmp_path / "contact_sheet.png"), str(tmp_path / "animation.gif")]
    assert (tmp_path / "contact_sheet.png").read_bytes()[:4] == b"\x89PNG"
    assert (tmp_path / "animation.gif").read_bytes()[:3] == b"GIF"
