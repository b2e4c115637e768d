from __future__ import annotations

import io
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from tubeletx_train.cli import main
from tubeletx_train.data import (
    DataConfig,
    TooManyBadVideos,
    VideoError,
    VideoRecord,
    open_record,
    open_video,
    prepare_videos,
    read_manifest,
    scan_folder,
    write_manifest,
)
from tubeletx_train.data.readers import Media
from tubeletx_train.data.readers.pyav import PyAVReader
from tubeletx_train.data.shards import ShardsConfig, pack_shards
from tubeletx_train.data.transcode import TranscodeConfig, Transcoded, transcode
from video_files import ffmpeg, frame_numbers, make_uneven_video, make_video


def encode(path: Path, fps: float | None = None, **settings) -> tuple[Transcoded, PyAVReader]:
    made = transcode(str(path), TranscodeConfig(**{"short_side": 32, **settings}), fps, lambda: None)
    return made, PyAVReader(Media("made.mp4", made.content), None, None)


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    return 10 * np.log10(255**2 / np.mean((one.astype(np.float64) - other) ** 2))


def pack(rows: list[VideoRecord], folder: Path, **settings) -> Path:
    write_manifest(folder / "list.csv", rows)
    config = ShardsConfig(
        str(folder / "list.csv"), str(folder / "shards"), transcode=TranscodeConfig(short_side=32, **settings)
    )
    return pack_shards(config, progress=False)


# ---- one video


@pytest.mark.parametrize("gop", [1, 12])
def test_frames_stay_the_same_ones(videos, gop):
    for record in scan_folder(videos):
        source = open_video(record.path, 32, "pyav")
        made, video = encode(Path(record.path), gop=gop)
        assert video.num_frames == source.num_frames
        assert min(video.read([0]).shape[1:3]) == 32
        everything = video.read(range(video.num_frames))
        assert frame_numbers(everything) == list(range(video.num_frames))
        assert made.finding.fps == pytest.approx(10)
        assert video.fps == pytest.approx(10)
        assert made.psnr > 30
        assert encode(Path(record.path), gop=gop)[0] == made  # bit for bit
        packets = av.open(io.BytesIO(made.content)).demux(video=0)
        keys = [i for i, packet in enumerate(packet for packet in packets if packet.size) if packet.is_keyframe]
        assert keys == list(range(0, video.num_frames, gop))
        assert video.is_plain()  # so that other decoders read it exactly, too


def test_quality_is_that_of_the_frames_that_readers_give(tmp_path):
    rng = np.random.default_rng(0)
    texture = np.kron(rng.integers(0, 256, (12, 16, 1), np.uint8), np.ones((8, 8, 3), np.uint8))
    folder = tmp_path / "frames"
    folder.mkdir()
    for number in range(8):  # so few that all are compared
        Image.fromarray(np.roll(texture, number, 1)).save(folder / f"{number}.png")
    worse = None
    for crf in (10, 35):
        made, video = encode(folder, short_side=96, crf=crf)
        expected = psnr(open_video(str(folder)).read(range(8)), video.read(range(8)))
        # The source at the encoder's size is what FFmpeg's resize makes of it: here the same size.
        assert made.psnr == pytest.approx(expected, abs=0.2)
        assert worse is None or made.psnr < worse - 3
        worse = made.psnr


def test_times_of_a_variable_rate_are_kept(tmp_path):
    path = make_uneven_video(tmp_path / "uneven.mp4")
    source = PyAVReader(Media.load(str(path)), None, None)
    made, video = encode(path)
    np.testing.assert_allclose(video.seconds, source.seconds, atol=1e-4)
    assert len(set(np.diff(source.seconds).round(3))) == 2
    assert made.finding.fps == source.fps
    assert made.finding.seconds == pytest.approx(source.seconds.tolist())
    rows = [VideoRecord(str(path), start=1.4, end=3.2), VideoRecord(str(path))]
    stretch, whole = read_manifest(pack(rows, tmp_path))
    # Frames 0 to 9 come at 10 a second, 10 to 19 at 2 a second from second 1 on, and show 10, 15, 20 ...
    shown = frame_numbers(open_record(stretch, None, "decord").read(range(*stretch.frame_range)))
    assert shown == [10, 15, 20, 25, 30]
    assert whole.frame_range == (0, 20)


@pytest.mark.parametrize("angle", [90, 180, 270])
def test_turned_videos_are_written_upright(videos, tmp_path, angle):
    path = tmp_path / "turned.mp4"
    ffmpeg("-display_rotation", str(angle), "-i", str(videos / "sub" / "b.mp4"), "-c", "copy", str(path))
    made, video = encode(path)
    source = open_video(str(path), None, "pyav").read([5])
    shown = video.read([5])
    portrait = angle != 180
    assert (shown.shape[1] > shown.shape[2]) == portrait
    small = np.asarray(Image.fromarray(source[0]).resize(shown.shape[2:0:-1], Image.Resampling.BICUBIC))
    assert psnr(shown[0], small) > 25
    assert (made.finding.height, made.finding.width) == shown.shape[1:3]
    assert not next(video.frames())[1].side_data.get("DISPLAYMATRIX")


@pytest.mark.parametrize(("width", "height"), [(57, 41), (41, 57), (64, 31), (5, 3), (2, 2), (300, 6)])
def test_odd_sizes_become_even_ones(tmp_path, width, height):
    path = make_video(tmp_path / "odd.mp4", frames=3, width=width, height=height)
    made, video = encode(path)
    got = video.read([0]).shape[1:3]
    assert got == (made.finding.height, made.finding.width)
    assert not any(side % 2 for side in got)
    scale = min(32 / min(width, height), 1.0)
    np.testing.assert_allclose(got, (height * scale, width * scale), atol=1.01)


def test_pixels_that_are_not_square_stay_so(tmp_path):
    path = make_video(tmp_path / "wide.mp4", frames=2, options=("-vf", "setsar=4/3"))
    assert encode(path)[1].sample_aspect_ratio == pytest.approx(4 / 3)
    turned = tmp_path / "turned.mp4"
    ffmpeg("-display_rotation", "90", "-i", str(path), "-c", "copy", str(turned))
    assert encode(turned)[1].sample_aspect_ratio == pytest.approx(3 / 4)


_COLORS = {
    "bt709": (
        "-c:v",
        "libx264",
        "-crf",
        "4",
        "-pix_fmt",
        "yuv420p",
        "-colorspace",
        "bt709",
        "-color_primaries",
        "bt709",
    ),
    "full": ("-c:v", "libx264", "-crf", "4", "-pix_fmt", "yuvj420p"),
    "full444": ("-c:v", "libx264", "-crf", "4", "-pix_fmt", "yuvj444p"),
    "ten bits": ("-c:v", "libx264", "-crf", "4", "-pix_fmt", "yuv420p10le"),
    "grey": ("-c:v", "ffv1", "-pix_fmt", "gray"),
    "rgb": ("-c:v", "ffv1", "-pix_fmt", "bgr0"),
    "mjpeg": ("-c:v", "mjpeg", "-q:v", "2", "-pix_fmt", "yuvj422p"),
}


@pytest.mark.parametrize("kind", _COLORS)
@pytest.mark.parametrize("reader", ["pyav", "decord"])
def test_colours_stay(tmp_path, kind, reader):
    path = make_video(tmp_path / "colours.mkv", frames=4, width=96, height=64, codec=_COLORS[kind])
    made, _ = encode(path, crf=8, short_side=64)
    (tmp_path / "made.mp4").write_bytes(made.content)
    before, after = (open_video(str(file), None, reader).read([1]) for file in (path, tmp_path / "made.mp4"))
    for half in (np.s_[:, 4:-4, 4:44], np.s_[:, 4:-4, 52:-4]):  # the edge between the halves is blurred
        difference = after[half].mean((0, 1, 2)) - before[half].mean((0, 1, 2))
        assert np.abs(difference).max() < 4, (kind, difference)


def test_pictures_become_a_video_of_their_rate(tmp_path):
    folder = tmp_path / "frames ü"
    folder.mkdir()
    for number in range(1, 8):
        Image.new("RGB", (40, 33), (30 * number, 0, 0)).save(folder / f"img_{number:05d}.png")
    _, video = encode(folder, fps=12.5)
    assert (video.num_frames, video.fps) == (7, pytest.approx(12.5))
    levels = video.read(range(7)).mean((1, 2))[:, 0]
    np.testing.assert_allclose(levels, 30 * np.arange(1, 8), atol=6)
    assert encode(folder)[1].fps == pytest.approx(25)


def test_frames_that_change_their_size_are_refused(tmp_path):
    parts = []
    for side in (48, 64):
        part = make_video(tmp_path / f"{side}.h264", frames=4, width=side, height=side)
        parts.append(part.read_bytes())
    path = tmp_path / "changes.h264"
    path.write_bytes(b"".join(parts))
    assert encode(tmp_path / "48.h264")[1].num_frames == 4
    with pytest.raises(VideoError, match="change their size"):
        encode(path)


def test_a_header_that_lies_about_the_size_and_a_single_frame_do_no_harm(tmp_path):
    """What counts are the pictures, of which a hostile header may claim gigabytes each."""
    path = tmp_path / 'ü,"日本".mp4'
    make_video(tmp_path / "plain.mp4", frames=12)
    content = bytearray((tmp_path / "plain.mp4").read_bytes())
    sizes = content.index(b"avc1", content.index(b"stsd")) + 28
    assert content[sizes : sizes + 4] == struct.pack(">HH", 64, 48)
    content[sizes : sizes + 4] = struct.pack(">HH", 60000, 60000)
    path.write_bytes(content)
    result, video = encode(path, short_side=32)
    assert (result.finding.num_frames, video.num_frames) == (12, 12)
    assert video.read([0, 11]).shape[1] == 32
    make_video(tmp_path / "one.mp4", frames=1)
    _, video = encode(tmp_path / "one.mp4", short_side=32)
    assert (video.num_frames, video.read([0]).shape[1]) == (1, 32)


def test_broken_files_give_one_line(broken):
    for record in scan_folder(broken):
        with pytest.raises(VideoError) as error:
            encode(Path(record.path))
        assert "\n" not in str(error.value)


def test_damage_that_a_look_at_both_ends_does_not_see_is_seen(tmp_path):
    path = make_video(tmp_path / "whole.mp4", options=("-movflags", "+faststart"))
    content = bytearray(path.read_bytes())
    container = av.open(str(path))
    packet = [packet for packet in container.demux(video=0) if packet.size][20]
    content[packet.pos + 4 : packet.pos + packet.size] = b"\xff" * (packet.size - 4)
    path.write_bytes(content)
    with pytest.raises(VideoError, match="damaged"):
        encode(path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("short_side", 33),
        ("short_side", 0),
        ("gop", 0),
        ("crf", 0),
        ("crf", 52),
        ("timeout", 0.0),
        ("max_bad_share", 2),
    ],
)
def test_settings_out_of_range_are_named(name, value):
    with pytest.raises(ValueError, match=name):
        TranscodeConfig(**{name: value})


# ---- lists


def test_a_list_is_packed_smaller_and_trained_from_as_it_is(videos, tmp_path):
    rows = [VideoRecord(record.path, label=Path(record.path).stem) for record in scan_folder(videos)]
    before = {path: path.read_bytes() for path in videos.rglob("*.mp4")}
    packed = pack(rows, tmp_path)
    assert {path: path.read_bytes() for path in videos.rglob("*.mp4")} == before
    beside = [path for path in packed.parent.iterdir() if "shard" not in path.name and path.name != ".lock"]
    assert sorted(path.suffix for path in beside) == ["", ".csv", ".json", ".jsonl"]
    found = read_manifest(packed)
    assert [record.label for record in found] == [record.label for record in rows]
    assert "été, naïve vidéo" in [record.label for record in found]
    assert {record.reader for record in found} == {"pyav"}
    index = json.loads((packed.parent / "index.json").read_text())
    assert index["transcode"] == {"short_side": 32, "gop": 12, "crf": 18}
    assert 30 < index["psnr"]["worst"] <= index["psnr"]["mean"]
    assert index["psnr"]["worst_video"] in [record.path for record in rows]
    # Nothing is looked at again: the rows say what a check finds.
    for shard in packed.parent.glob("*.tar"):
        shard.rename(shard.with_suffix(".away"))
    good, _ = prepare_videos(DataConfig(str(packed)), progress=False)
    assert len(good) == len(rows)
    for shard in packed.parent.glob("*.away"):
        shard.rename(shard.with_suffix(".tar"))
    for row, record in zip(rows, found, strict=True):
        source, video = open_video(row.path), open_record(record, 32, "decord")
        assert video.num_frames == record.num_frames == source.num_frames
        assert frame_numbers(video.read([0, video.num_frames - 1])) == [0, source.num_frames - 1]


def test_bad_videos_are_named_and_left_out_up_to_a_share(videos, broken, tmp_path, caplog):
    rows = scan_folder(videos) + scan_folder(broken)
    write_manifest(tmp_path / "list.csv", rows)
    with pytest.raises(TooManyBadVideos, match=r"of 10 videos cannot be read"):
        pack(rows, tmp_path)
    caplog.clear()
    packed = pack(rows, tmp_path, max_bad_share=0.5)
    assert len(read_manifest(packed)) == 5
    named = [record.getMessage() for record in caplog.records if "unreadable video" in record.getMessage()]
    assert {Path(line.split(":")[0]).name for line in named} == {path.name for path in broken.iterdir()}
    left_out = json.loads((packed.parent / "index.json").read_text())["left_out"]
    assert {Path(video["path"]).name for video in left_out} == {path.name for path in broken.iterdir()}
    assert all(video["reason"] for video in left_out)


def test_a_second_call_changes_nothing_and_another_quality_is_refused(videos, tmp_path):
    rows = scan_folder(videos)
    folder = pack(rows, tmp_path).parent
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.glob("*.tar")}
    journal = (folder / "transcoded.jsonl").read_bytes()
    pack(rows, tmp_path)
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.glob("*.tar")} == before
    assert (folder / "transcoded.jsonl").read_bytes() == journal
    assert (
        main(
            [
                "shards",
                "--videos",
                str(tmp_path / "list.csv"),
                "--output",
                str(folder),
                "--transcode.short_side=32",
                "--transcode.crf=20",
            ]
        )
        == 2
    )


_KILLED = """
import sys
from tubeletx_train.data.shards import ShardsConfig, pack_shards
from tubeletx_train.data.transcode import TranscodeConfig

if __name__ == "__main__":
    config = ShardsConfig(sys.argv[1], sys.argv[2], num_workers=1, transcode=TranscodeConfig(short_side=32))
    pack_shards(config, progress=False)
"""


def test_a_killed_call_goes_on_and_ends_with_the_same_bytes(videos, tmp_path):
    rows = []
    for number in range(24):
        path = tmp_path / f"{number}.mp4"
        shutil.copy(videos / "a.mp4", path)
        rows.append(VideoRecord(str(path)))
    write_manifest(tmp_path / "list.csv", rows)
    (tmp_path / "run.py").write_text(_KILLED)
    folder = tmp_path / "shards"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.Popen(
        [sys.executable, tmp_path / "run.py", tmp_path / "list.csv", folder], env=environment, start_new_session=True
    )
    journal = folder / "transcoded.jsonl"
    while not journal.exists() or len(journal.read_text().splitlines()) < 4:
        assert run.poll() is None
        time.sleep(0.005)
    run.send_signal(signal.SIGKILL)
    run.wait()
    time.sleep(0.2)  # its child notices
    with journal.open("a") as file:
        file.write('{"source": "cut o')
    done = [json.loads(line) for line in journal.read_text().splitlines()[:4]]
    lost = folder / "parts" / done[0]["file"]
    lost.write_bytes(lost.read_bytes()[:-1])  # a part that is not whole does not count
    config = ShardsConfig(
        str(tmp_path / "list.csv"), str(folder), num_workers=1, transcode=TranscodeConfig(short_side=32)
    )
    packed = read_manifest(pack_shards(config, progress=False))
    assert len(packed) == 24
    entries = [json.loads(line) for line in journal.read_text().splitlines() if line != '{"source": "cut o']
    counts = [sum(entry.get("source") == row.path for entry in entries) for row in rows]
    again = {row.path for row, count in zip(rows, counts, strict=True) if count > 1}
    assert again == {done[0]["source"]}
    assert not (folder / "parts").exists()
    fresh = ShardsConfig(str(tmp_path / "list.csv"), str(tmp_path / "fresh"), transcode=TranscodeConfig(short_side=32))
    pack_shards(fresh, progress=False)
    resumed, at_once = (members(where) for where in (folder, tmp_path / "fresh"))
    assert list(resumed) == list(at_once)
    assert [name for name, content in resumed.items() if content != at_once[name]] == []


def members(folder: Path) -> dict[str, bytes]:
    """What the shards hold, in their order, and the shards themselves."""
    found = {}
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                file = tar.extractfile(member)
                assert file is not None
                found[member.name] = file.read()
        found[path.name] = path.read_bytes()
    return found
