from __future__ import annotations

import json
import sys
import time

import pytest

from tubeletx_train.cli import main
from tubeletx_train.data import VideoRecord, check_videos, scan_folder
from tubeletx_train.data.decode_rate import measure_decode_rate
from tubeletx_train.data.examine import CheckConfig


def test_rates_are_of_the_time_that_passes(videos, monkeypatch):
    good, _ = check_videos(scan_folder(videos), progress=False)
    seen = []

    def read(self, source, indices):
        seen.append((source.record.path, tuple(indices)))
        time.sleep(0.005)

    monkeypatch.setattr("tubeletx_train.data.frames.FileFrames.read", read)
    settings = {"clips": 20, "num_frames": 4, "strides": (1, 2), "decode_size": 32, "progress": False}
    rate = measure_decode_rate(good, "decord", **settings)
    assert 5 < rate.clips_per_second < 200  # a busy machine sleeps longer
    assert rate.frames_per_second == pytest.approx(4 * rate.clips_per_second)
    assert 5 <= rate.median_ms <= rate.slowest_ms
    assert (rate.clips, rate.failed) == (20, 0)
    first, seen[:] = seen[1:], []
    measure_decode_rate(good, "pyav", **settings)
    assert seen[1:] == first  # every reader decodes the same clips


def test_clips_that_fail_are_counted_and_not_timed(videos):
    good, _ = check_videos(scan_folder(videos), progress=False)
    lost = VideoRecord("/none/lost.mp4", num_frames=30, fps=10.0, width=64, height=48)
    settings = {"num_frames": 2, "strides": (1,), "decode_size": None, "progress": False}
    rate = measure_decode_rate([*good, lost], "decord", clips=30, **settings)
    assert rate.clips + rate.failed == 30
    assert 0 < rate.failed < 30
    nothing = measure_decode_rate([lost], "decord", clips=3, **settings)
    assert (nothing.clips, nothing.failed, nothing.clips_per_second) == (0, 3, 0.0)


def test_the_command_names_bad_videos_and_times_every_reader(videos, broken, tmp_path, capsys):
    output = tmp_path / "deep" / "check.json"
    options = ["--readers", "[decord,pyav]", "--clips", "3", "--num_frames", "2", "--output", str(output)]
    assert main(["check", "--videos", str(videos), *options]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("5 readable, 0 not; 1 to 60 frames, short side 48 to 56 pixels")
    assert [line.split()[0] for line in lines[1:]] == ["reader", "decord", "pyav"]
    content = json.loads(output.read_text())
    assert content["good"] == 5
    assert [rate["clips"] for rate in content["decode_rates"]] == [3, 3]
    assert main(["check", "--videos", str(broken), "--clips", "3"]) == 2
    printed = capsys.readouterr().out
    assert "empty.mp4: the file is empty" in printed
    assert "0 readable, 5 not" in printed


def test_what_cannot_be_used_is_said_at_once(videos, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchcodec", None)
    assert main(["check", "--videos", str(videos), "--readers", "[torchcodec]"]) == 2
    assert "reader torchcodec cannot be used" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["check", "manifest", "shards"])
def test_the_commands_explain_themselves(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert "examples:" in text
    assert f"tubeletx-train {command} " in text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("readers", ("vhs",)),
        ("readers", ()),
        ("clips", -1),
        ("num_frames", 0),
        ("strides", (0,)),
        ("decode_size", 0),
        ("num_workers", 0),
    ],
)
def test_settings_out_of_range_are_named(name, value):
    with pytest.raises(ValueError, match=name):
        CheckConfig("v", **{name: value})
