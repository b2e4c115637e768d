from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
import webdataset
from PIL import Image

from tubeletx_train.cli import main
from tubeletx_train.common.errors import UsageError
from tubeletx_train.common.lock import LOCK_FILE, locked_folder
from tubeletx_train.data import (
    DataConfig,
    DataError,
    EpochSampler,
    PairDataset,
    VideoRecord,
    build_loader,
    open_video,
    prepare_videos,
    read_manifest,
    write_manifest,
)
from tubeletx_train.data.shards import ShardsConfig, pack_shards


@pytest.fixture(scope="module")
def rows(videos, tmp_path_factory) -> list[VideoRecord]:
    """Files, a folder of frames, and two stretches of one file."""
    frames = tmp_path_factory.mktemp("frames") / "ü b"
    frames.mkdir()
    for number in range(1, 8):
        Image.new("RGB", (40, 30), (10 * number, 0, 0)).save(frames / f"img_{number:05d}.png")
    return [
        VideoRecord(str(videos / "a.mp4"), label="jump", split="train", start=0.0, end=2.0),
        VideoRecord(str(videos / "sub" / "b.mp4"), label="run", split="train", num_frames=60, fps=10.0),
        VideoRecord(str(frames), label="walk", split="train"),
        VideoRecord(str(videos / "a.mp4"), label="sit", split="train", start=2.0),
        VideoRecord(str(videos / "sub" / "c.mp4"), split="val"),
    ]


def pack(rows: list[VideoRecord], folder: Path, **settings) -> Path:
    write_manifest(folder / "list.csv", rows)
    return pack_shards(ShardsConfig(str(folder / "list.csv"), str(folder / "shards"), **settings), progress=False)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != LOCK_FILE}


def test_packed_videos_read_as_before(rows, tmp_path):
    packed = read_manifest(pack(rows, tmp_path, shard_mb=0.001))
    assert len(packed) == len(rows)
    for before, after in zip(rows, packed, strict=True):
        assert (after.label, after.split, after.start, after.end) == (
            before.label,
            before.split,
            before.start,
            before.end,
        )
        assert after.num_frames == before.num_frames
        original, member = open_video(before.path, 24), open_video(after.path, 24)
        assert member.num_frames == original.num_frames
        np.testing.assert_array_equal(member.read(range(member.num_frames)), original.read(range(member.num_frames)))
    assert packed[0].path == packed[3].path
    assert len({record.path.split("#")[0] for record in packed}) > 1


def test_dots_in_names_do_no_harm(videos, tmp_path):
    folder = tmp_path / "v1.2.tar" / "set.0"
    folder.mkdir(parents=True)
    names = ["a.b.c.mp4", ".5.mp4", "x.tar.mp4", "no. 3 .MP4"]
    for name in names:
        shutil.copy(videos / "sub" / "b.mp4", folder / name)
    packed = read_manifest(pack([VideoRecord(str(folder / name), label=name) for name in names], folder))
    assert [record.label for record in packed] == names
    expected = open_video(str(videos / "sub" / "b.mp4"), 40).read([3, 44])
    for record in packed:
        np.testing.assert_array_equal(open_video(record.path, 40).read([3, 44]), expected)


def test_lists_tell_what_is_there(rows, tmp_path):
    folder = pack(rows, tmp_path, shard_mb=0.001).parent
    index = json.loads((folder / "index.json").read_text())
    assert (index["complete"], index["videos"], index["rows"]) == (True, 4, 5)
    shards = sorted(path.name for path in folder.glob("*.tar"))
    assert [shard["shard"] for shard in index["shards"]] == shards
    assert sum(shard["videos"] for shard in index["shards"]) == 4
    assert index["bytes"] == sum((folder / name).stat().st_size for name in shards)
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=folder, check=True)
    # The folder can be moved as a whole.
    moved = folder.rename(tmp_path / "elsewhere")
    assert open_video(read_manifest(moved / "manifest.csv")[1].path).num_frames == 60


def test_webdataset_reads_the_shards(rows, tmp_path):
    folder = pack(rows, tmp_path).parent
    dataset = webdataset.WebDataset([str(path) for path in folder.glob("*.tar")], shardshuffle=False)
    samples = {sample["__key__"]: sample for sample in dataset}
    assert sorted(samples) == [f"{i:08d}" for i in range(4)]
    assert samples["00000001"]["mp4"] == Path(rows[1].path).read_bytes()
    assert json.loads(samples["00000001"]["json"])["label"] == "run"
    assert [row["label"] for row in json.loads(samples["00000000"]["json"])] == ["jump", "sit"]
    assert "zip" in samples["00000002"]


def test_bytes_do_not_depend_on_the_processes(rows, tmp_path):
    one = contents(pack(rows, tmp_path / "1", shard_mb=0.001, num_workers=1).parent)
    assert one == contents(pack(rows, tmp_path / "2", shard_mb=0.001, num_workers=2).parent)


def test_a_second_call_writes_only_what_is_not_whole(rows, tmp_path):
    folder = pack(rows, tmp_path, shard_mb=0.001).parent
    before = contents(folder)
    lost, cut, kept = sorted(folder.glob("*.tar"))[:3]
    lost.unlink()
    cut.write_bytes(cut.read_bytes()[:-1])
    stamp = kept.stat().st_mtime_ns
    assert pack(rows, tmp_path, shard_mb=0.001).parent == folder
    assert contents(folder) == before
    assert kept.stat().st_mtime_ns == stamp


_KILLED = """
import sys
from tubeletx_train.data.shards import ShardsConfig, pack_shards

if __name__ == "__main__":
    pack_shards(ShardsConfig(sys.argv[1], sys.argv[2], shard_mb=0.05, num_workers=1), progress=False)
"""


def test_a_killed_call_goes_on(videos, tmp_path):
    rows = []
    for number in range(40):  # enough to be killed among
        path = tmp_path / f"{number}.mp4"
        path.write_bytes((videos / "a.mp4").read_bytes() * 20)
        rows.append(VideoRecord(str(path)))
    write_manifest(tmp_path / "list.csv", rows)
    (tmp_path / "run.py").write_text(_KILLED)
    folder = tmp_path / "shards"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, tmp_path / "run.py", tmp_path / "list.csv", folder]
    run = subprocess.Popen(command, env=environment)
    while len(list(folder.glob("*.tar"))) < 5:
        assert run.poll() is None
        time.sleep(0.005)
    run.send_signal(signal.SIGKILL)
    run.wait()
    time.sleep(0.1)  # its child notices
    written = {path: path.stat().st_mtime_ns for path in folder.glob("*.json") if path.name != "index.json"}
    assert 0 < len(written) < 40
    assert not (folder / "manifest.csv").exists()
    config = ShardsConfig(str(tmp_path / "list.csv"), str(folder), shard_mb=0.05)
    packed = read_manifest(pack_shards(config, progress=False))
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in written.items())
    assert all(open_video(record.path).num_frames == 40 for record in packed[::10])
    for path in folder.glob("*.tar"):
        with tarfile.open(path) as tar:
            assert len(tar.getmembers()) >= 2
    assert not list(folder.glob("*.tmp"))


def test_folders_of_something_else_are_refused(rows, tmp_path):
    folder = pack(rows, tmp_path).parent
    with pytest.raises(DataError, match="holds shards of other videos"):
        pack(rows[:2], tmp_path)
    (folder / "index.json").write_text("[")
    with pytest.raises(DataError, match="is not an index of shards"):
        pack(rows, tmp_path)
    (folder / "index.json").unlink()
    with pytest.raises(DataError, match=r"holds tar files but no index\.json"):
        pack(rows, tmp_path)


def test_missing_videos_and_full_disks_stop_before_anything_is_packed(rows, tmp_path, monkeypatch):
    with pytest.raises(DataError, match=r"gone\.mp4: cannot be read .*nothing was packed"):
        pack([*rows, VideoRecord(str(tmp_path / "gone.mp4"))], tmp_path)
    assert not (tmp_path / "shards").exists()
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 100}))
    with pytest.raises(DataError, match=r"are to be written, 0\.0 GB are free"):
        pack(rows, tmp_path)


def test_a_video_that_vanishes_while_packing_is_named(rows, tmp_path):
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(DataError, match=r"empty\.mp4: the file is empty; the same command goes on"):
        pack([*rows, VideoRecord(str(tmp_path / "empty.mp4"))], tmp_path)


@pytest.mark.parametrize(("name", "value"), [("shard_mb", 0.0), ("num_workers", 0)])
def test_settings_out_of_range_are_named(name, value):
    with pytest.raises(ValueError, match=name):
        ShardsConfig("v", "o", **{name: value})


def test_training_reads_shards_like_files(rows, tmp_path, capsys):
    write_manifest(tmp_path / "list.csv", rows)
    output = tmp_path / "shards"
    arguments = ["--videos", str(tmp_path / "list.csv"), "--output", str(output), "--split", "train"]
    assert main(["shards", *arguments]) == 0
    assert capsys.readouterr().out.split() == [str(output / "manifest.csv")]
    config = DataConfig(str(output / "manifest.csv"), num_frames=4, crop_size=24, decode_size=30, num_workers=1)
    index = tmp_path / "videos.json"
    good, tracker = prepare_videos(config, index=index, progress=False)
    assert len(good) == 4
    assert not tracker.bad
    assert len(index.read_text().splitlines()) == 3  # remembered by the shard's own stamp
    dataset = PairDataset(good, config)
    batch = next(iter(build_loader(dataset, EpochSampler(len(dataset), 4))))
    assert batch.clip_1.shape == (4, 3, 4, 24, 24)
    assert not batch.bad
    for row, sample_id in enumerate(batch.sample_ids.tolist()):
        assert (batch.clip_1[row].permute(1, 2, 3, 0) == dataset[0, sample_id].clip_1).all()


def test_a_folder_is_packed_into_by_one_call_at_a_time(rows, tmp_path):
    (tmp_path / "shards").mkdir()
    held = rf"is being packed into by process {os.getpid()} on .*; choose another --output, or wait"
    with (
        locked_folder(tmp_path / "shards", "packed into"),
        pytest.raises(UsageError, match=held),
    ):
        pack(rows, tmp_path)
    assert [path.name for path in (tmp_path / "shards").iterdir()] == [LOCK_FILE]
    assert pack(rows, tmp_path).exists()
