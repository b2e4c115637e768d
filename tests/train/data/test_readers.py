from __future__ import annotations

import gc
import os
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import av
import imageio_ffmpeg
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tubeletx_train.data import DataError, VideoError, open_video
from tubeletx_train.data.inspection import inspect_video
from tubeletx_train.data.readers import ShardMember, decord_or_pyav, require_reader, storage_path
from tubeletx_train.data.readers.pyav import PyAVReader
from video_files import NEEDS_DECORD, ffmpeg, frame_level, frame_numbers, make_video

VIDEO_READERS = ["decord", "decord_only", "pyav"] if decord_or_pyav.HAS_DECORD else ["decord", "pyav"]


def x264(*options: str) -> tuple[str, ...]:
    return ("-c:v", "libx264", "-crf", "4", "-pix_fmt", "yuv444p", "-g", "12", *options)


def save_pictures(path: Path, frames: np.ndarray, extension: str = "png") -> Path:
    """A folder of numbered pictures, from 1 as ffmpeg counts."""
    path.mkdir(parents=True)
    for number, frame in enumerate(frames, 1):
        Image.fromarray(frame).save(path / f"img_{number:05d}.{extension}")
    return path


def pack_pictures(folder: Path, path: Path, compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as file:
        for picture in folder.iterdir():
            file.write(picture, picture.name)
    return path


@pytest.fixture(scope="module")
def pictures(videos, tmp_path_factory) -> Path:
    """The frames of sub/b.mp4 as a folder."""
    frames = open_video(str(videos / "sub" / "b.mp4")).read(range(60))
    return save_pictures(tmp_path_factory.mktemp("pictures") / "b", frames)


# ---- every reader


@pytest.mark.parametrize("kind", [*VIDEO_READERS, "folder", "zip", "deflated"])
def test_reads_the_frames_asked_for_in_any_order_with_repeats(videos, pictures, tmp_path, kind):
    path, reader = videos / "sub" / "b.mp4", kind if kind in VIDEO_READERS else "decord"
    if kind == "folder":
        path = pictures
    elif kind not in VIDEO_READERS:
        compression = zipfile.ZIP_DEFLATED if kind == "deflated" else zipfile.ZIP_STORED
        path = pack_pictures(pictures, tmp_path / "b.zip", compression)
    video = open_video(str(path), reader=reader)
    assert video.num_frames == 60
    assert video.fps == pytest.approx(10.0 if path.suffix == ".mp4" else 25.0)
    indices = [7, 3, 3, 50, 0, 59, 12, 7]
    frames = video.read(indices)
    assert frames.shape == (8, 54, 96, 3)
    assert frames.dtype == np.uint8
    assert frame_numbers(frames) == indices
    assert frame_numbers(video.read(np.array([20, 1]))) == [20, 1]  # backwards from where the decoder stands
    for wrong in ([0, 60], [-1]):
        with pytest.raises(VideoError, match="asked for, it has 60"):
            video.read(wrong)
    with pytest.raises(ValueError, match="at least one frame"):
        video.read([])
    resized = open_video(str(path), 40, reader).read([0, 1])
    assert resized.shape == (2, 40, 71, 3)
    assert frame_numbers(resized) == [0, 1]


@pytest.mark.parametrize("reader", VIDEO_READERS)
@pytest.mark.parametrize("name", ["a.mp4", "sub/b.mp4", "sub/c.mp4", "one.mp4", "été, naïve vidéo.mp4"])
def test_decoders_agree(videos, reader, name):
    path = str(videos / name)
    ours, other = open_video(path, reader=reader), open_video(path, reader="decord")
    assert ours.num_frames == other.num_frames
    assert ours.fps == pytest.approx(other.fps)
    indices = np.random.default_rng(0).integers(0, ours.num_frames, 8)
    np.testing.assert_array_equal(ours.read(indices), other.read(indices))
    small = open_video(path, 40, reader).read(indices), open_video(path, 40, "decord").read(indices)
    assert small[0].shape == small[1].shape
    assert np.abs(small[0].astype(int) - small[1]).mean() < 1.0


# decord alone misses frames in the second list, as its documentation says, and does not open the third.
EXACT_IN_BOTH = [
    ("b.mp4", x264("-bf", "3")),
    ("b.mkv", x264("-bf", "3")),
    ("v.webm", ("-c:v", "libvpx", "-crf", "4", "-b:v", "2M", "-g", "12")),
    ("x.avi", ("-c:v", "mpeg4", "-q:v", "1", "-g", "12", "-vtag", "xvid")),
    ("f.flv", ("-c:v", "flv", "-q:v", "1")),
]
EXACT_IN_PYAV = [
    ("open.mkv", x264("-bf", "3", "-x264-params", "open-gop=1")),
    ("bframes.avi", ("-c:v", "mpeg4", "-q:v", "1", "-g", "12", "-bf", "2", "-vtag", "xvid")),
    ("t.ts", x264("-bf", "2")),
]
NOT_IN_DECORD = [
    ("av1.mkv", ("-c:v", "libaom-av1", "-cpu-used", "8", "-crf", "10", "-g", "12")),
    ("av1.mp4", ("-c:v", "libaom-av1", "-cpu-used", "8", "-crf", "10", "-g", "12")),
]


@pytest.mark.parametrize(("name", "codec"), EXACT_IN_BOTH + EXACT_IN_PYAV + NOT_IN_DECORD)
def test_seeking_is_exact(tmp_path, write_video, name, codec):
    path = str(write_video(tmp_path / name, frames=60, codec=codec))
    for reader in VIDEO_READERS if (name, codec) in EXACT_IN_BOTH else ["decord", "pyav"]:
        video = open_video(path, reader=reader)
        assert video.num_frames == 60
        for indices in ([40], [13, 14, 2], [59, 0], [11, 12, 35, 36], [7]):
            assert frame_numbers(video.read(indices)) == indices


@pytest.mark.parametrize("container", ["mp4", "mkv", "avi"])
@pytest.mark.parametrize(
    "options", ["intra-refresh=1:bframes=0", "intra-refresh=1:bframes=2", "open-gop=1:bframes=3", "bframes=3"]
)
def test_pyav_gives_the_pixels_of_a_whole_pass(tmp_path, container, options):
    # With intra refresh x264 marks as key frames pictures that are renewed part by part from there on.
    path = tmp_path / f"made.{container}"
    source = make_video(tmp_path / "source.mp4", frames=60)
    ffmpeg("-i", str(source), "-c:v", "libx264", "-x264-params", f"{options}:keyint=12:scenecut=0", str(path))
    with av.open(str(path)) as opened:
        shown = [frame.to_ndarray(format="rgb24", interpolation="BICUBIC") for frame in opened.decode(video=0)]
    everything = np.stack(shown)
    rng = np.random.default_rng(0)
    video = open_video(str(path), None, "pyav")
    assert video.num_frames == len(everything) == 60
    for count in (1, 1, 1, 2, 4, 8):
        indices = rng.choice(60, count, replace=False)
        np.testing.assert_array_equal(video.read(indices), everything[indices])


@pytest.mark.parametrize("gop", [1, 5, 40])
def test_pyav_passes_over_what_is_not_asked_for(tmp_path, write_video, monkeypatch, gop):
    codec = ("-c:v", "libx264", "-crf", "4", "-pix_fmt", "yuv420p", "-g", str(gop), "-keyint_min", str(gop), "-bf", "0")
    path = write_video(tmp_path / "groups.mp4", frames=60, codec=(*codec, "-sc_threshold", "0"))
    with av.open(str(path)) as container:
        everything = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    decoded = []
    counted = PyAVReader._numbered

    def count(self, frames):
        for number, frame in counted(self, frames):
            decoded.append(number)
            yield number, frame

    monkeypatch.setattr(PyAVReader, "_numbered", count)
    rng = np.random.default_rng(gop)
    video = open_video(str(path), None, "pyav")
    for _ in range(20):
        indices = rng.choice(60, int(rng.integers(1, 8)), replace=False)
        decoded.clear()
        np.testing.assert_array_equal(video.read(indices), everything[indices])
        # From the key frame before each frame on, and no further.
        needed = {number for index in indices.tolist() for number in range(index - index % gop, index + 1)}
        assert len(decoded) == len(needed)


_MEMORY = """
import os, sys
from pathlib import Path
from tubeletx_train.data import open_video

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

def read(times):
    for number in range(times):
        path = sys.argv[1 + number % (len(sys.argv) - 1)]
        open_video(path, 32, "pyav").read(range(0, 12, 1 + number % 3))

read(40)
before, threads = resident(), len(os.listdir("/proc/self/task"))
read(300)
print(resident() - before, len(os.listdir("/proc/self/task")) - threads)
"""


def test_the_memory_of_a_pyav_worker_is_bounded(videos):
    paths = [str(videos / name) for name in ("a.mp4", "sub/b.mp4", "sub/c.mp4")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run(
        [sys.executable, "-c", _MEMORY, *paths], env=environment, check=True, capture_output=True, text=True
    )
    grown, threads = map(float, run.stdout.split())
    assert grown < 10
    assert threads == 0


def test_pyav_counts_frames_that_have_no_time_stamps(tmp_path, write_video):
    whole = write_video(tmp_path / "whole.mp4", frames=60, codec=x264("-bf", "3"))
    ffmpeg("-i", str(whole), "-c", "copy", str(tmp_path / "raw.h264"))
    video = open_video(str(tmp_path / "raw.h264"), reader="pyav")
    assert video.num_frames == 60
    assert frame_numbers(video.read([40, 3, 59])) == [40, 3, 59]
    assert frame_numbers(video.read([7])) == [7]


@NEEDS_DECORD
@pytest.mark.parametrize(("name", "codec"), NOT_IN_DECORD)
def test_the_fallback_can_be_forbidden(tmp_path, write_video, name, codec):
    path = str(write_video(tmp_path / name, frames=3, codec=codec))
    assert open_video(path).decoder == "pyav"
    with pytest.raises(VideoError):
        open_video(path, reader="decord_only")


def test_a_file_without_a_duration_is_read(tmp_path, write_video):
    whole = write_video(tmp_path / "whole.mp4", frames=60, codec=x264())
    with (tmp_path / "live.mkv").open("wb") as file:  # a pipe, into which the muxer cannot go back to write it
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", whole, "-c", "copy", "-f", "matroska", "-"]
        subprocess.run(command, stdout=file, check=True)
    video = open_video(str(tmp_path / "live.mkv"))
    assert frame_numbers(video.read([40, 3, 59])) == [40, 3, 59]


@NEEDS_DECORD
def test_what_decord_turns_out_not_to_read_pyav_reads_at_the_same_size(tmp_path, write_video, monkeypatch):
    path = str(write_video(tmp_path / "v.mp4", width=80, height=80, frames=20))
    video = open_video(path, 48, size=(80, 80))
    assert video.decoder == "decord"
    first = video.read([3])

    def fail(*_: object) -> None:
        raise VideoError(path, "not today")

    monkeypatch.setattr(video._video, "_decode", fail)
    second = video.read([3, 7])
    assert video.decoder == "pyav"
    assert second.shape[1:] == first.shape[1:] == (49, 49, 3)
    assert frame_numbers(second) == [3, 7]


def test_a_header_that_counts_a_frame_too_many_is_forgiven(tmp_path, write_video):
    path = write_video(tmp_path / "x.avi", frames=30, codec=("-c:v", "mpeg4", "-q:v", "1", "-g", "12"))
    content = bytearray(path.read_bytes())
    length = content.index(b"strh") + 8 + 32
    assert int.from_bytes(content[length : length + 4], "little") == 30
    content[length : length + 4] = (31).to_bytes(4, "little")
    path.write_bytes(content)
    for reader in ("decord", "pyav"):
        video = open_video(str(path), reader=reader)
        assert frame_numbers(video.read(range(video.num_frames))) == list(range(30))
    content[length : length + 4] = (40).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(VideoError, match="cut off or damaged"):
        open_video(str(path))


def scrolling(path: Path, frames: int = 60) -> Path:
    """A video of noise that moves, so that a frame decoded from the wrong place differs much from the right one."""
    noise = np.random.default_rng(0).integers(0, 255, (48 + frames, 64 + frames, 3), np.uint8)
    images = np.stack([noise[i : 48 + i, i : 64 + i] for i in range(frames)])
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", "64x48", "-r", "10", "-i", "-"]
    ffmpeg(*raw, "-c:v", "libx264", "-crf", "10", str(path), stdin=images.tobytes())
    return path


# Key frames that follow each other at once are decoded before the first of them is shown.
CLOSE_KEYS = ("-c:v", "libx264", "-bf", "3", "-x264-params", "keyint=12:min-keyint=1", "-force_key_frames", "3.6,3.7")


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("h264.avi", ("-c:v", "libx264", "-bf", "0", "-g", "12")),
        ("h264.asf", ("-c:v", "libx264", "-g", "12")),
        ("wmv2.wmv", ("-c:v", "wmv2", "-q:v", "3", "-g", "12", "-r", "25")),
        ("close.flv", CLOSE_KEYS),
        ("close.mp4", (*CLOSE_KEYS, "-use_editlist", "0")),
        ("close.mkv", CLOSE_KEYS),
        ("fragments.mp4", (*CLOSE_KEYS, "-movflags", "frag_keyframe+empty_moov")),
    ],
)
def test_a_checked_file_gives_the_same_frames_wherever_one_begins(tmp_path, name, codec):
    path = str(tmp_path / name)
    ffmpeg("-i", str(scrolling(tmp_path / "source.mp4")), *codec, "-pix_fmt", "yuv420p", path)
    found = inspect_video(path, "decord")
    everything = open_video(path, None, "pyav").read(range(found.num_frames)).astype(int)
    video = open_video(path, None, found.reader or "decord", (found.width, found.height))
    rng = np.random.default_rng(0)
    for indices in [*rng.permutation(found.num_frames)[:, None], *rng.integers(0, found.num_frames, (20, 4))]:
        assert np.abs(video.read(indices) - everything[indices]).mean((1, 2, 3)).max() < 4, indices


def test_an_avi_file_with_dropped_frames_or_without_a_count_is_whole(tmp_path, write_video):
    codec = ("-c:v", "mpeg4", "-q:v", "1", "-g", "12")
    source = write_video(tmp_path / "source.avi", frames=50, codec=codec)
    gaps = tmp_path / "gaps.avi"
    # Where frames are missing this format holds empty ones, which the header counts.
    ffmpeg("-i", str(source), "-vf", "select=lt(n\\,20)+not(mod(n\\,7))", "-fps_mode", "vfr", *codec, str(gaps))
    streamed = tmp_path / "streamed.avi"
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(source), *codec, "-f", "avi", "-"]
    streamed.write_bytes(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    for path, shown in ((gaps, [*range(20), 21, 28, 35, 42, 49]), (streamed, list(range(50)))):
        for reader in ("decord", "pyav"):
            video = open_video(str(path), reader=reader)
            assert frame_numbers(video.read(range(video.num_frames))) == shown
            assert frame_numbers(video.read([21])) == shown[21:22]
        np.testing.assert_allclose(open_video(str(path), reader="pyav").seconds, np.array(shown) / 10)
        path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
        with pytest.raises(VideoError, match="cannot be opened as a video"):
            open_video(str(path))


def test_a_cover_picture_is_no_video_and_the_largest_of_several_streams_is_read(tmp_path, write_video):
    source = write_video(tmp_path / "source.mp4")
    cover = tmp_path / "cover.png"
    ffmpeg("-i", str(source), "-frames:v", "1", str(cover))
    sound = tmp_path / "sound.mp4"
    ffmpeg(
        *("-f", "lavfi", "-i", "sine=d=1", "-i", str(cover), "-map", "0", "-map", "1"),
        *("-c:v", "png", "-disposition:v:0", "attached_pic", str(sound)),
    )
    with pytest.raises(VideoError, match="holds no video stream"):
        open_video(str(sound))
    small = tmp_path / "small.mkv"
    ffmpeg(
        "-i", str(source), "-map", "0", "-map", "0", "-c:v:1", "copy", "-c:v:0", "mjpeg", "-s:v:0", "16x16", str(small)
    )
    first = tmp_path / "first.mkv"
    ffmpeg("-i", str(cover), "-i", str(source), "-map", "0", "-map", "1", "-c", "copy", str(first))
    for path in (small, first):
        for reader in VIDEO_READERS:
            video = open_video(str(path), reader=reader)
            assert video.num_frames == 40
            assert video.read([3]).shape == (1, 48, 64, 3)


def test_videos_are_closed_when_they_are_let_go(videos):
    gc.collect()
    gc.disable()  # not by luck of a collection
    try:
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(20):
            open_video(str(videos / "a.mp4"), reader="pyav").read([0, 30])
        assert len(os.listdir("/proc/self/fd")) == before
    finally:
        gc.enable()


@pytest.mark.parametrize("reader", ["decord", "pyav"])
def test_reads_what_an_edit_list_leaves(tmp_path, write_video, reader):
    whole = write_video(tmp_path / "whole.mp4", frames=60, codec=x264("-bf", "3"))
    ffmpeg("-ss", "1.3", "-i", str(whole), "-c", "copy", str(tmp_path / "cut.mp4"))
    video = open_video(str(tmp_path / "cut.mp4"), reader=reader)
    assert frame_numbers(video.read(range(video.num_frames))) == list(range(13, 60))
    assert frame_numbers(video.read([20])) == [33]


def test_colours_are_rgb(videos):
    for reader in VIDEO_READERS:
        right = open_video(str(videos / "a.mp4"), reader=reader).read([5])[0, :, 40:].mean((0, 1))
        assert np.abs(right - (200, 30, 30)).max() < 12


@pytest.mark.parametrize("reader", VIDEO_READERS)
@pytest.mark.parametrize(("name", "shape"), [("a.mp4", (40, 53)), ("sub/b.mp4", (40, 71)), ("sub/c.mp4", (57, 40))])
def test_resizes_the_short_side_and_keeps_the_aspect(videos, reader, name, shape):
    assert open_video(str(videos / name), 40, reader).read([0, 1]).shape == (2, *shape, 3)


@pytest.mark.parametrize("reader", VIDEO_READERS)
def test_given_size_changes_nothing(videos, reader):
    path = str(videos / "sub" / "b.mp4")
    given = open_video(path, 32, reader, size=(96, 54)).read([4])
    np.testing.assert_array_equal(given, open_video(path, 32, reader).read([4]))


@NEEDS_DECORD
@pytest.mark.parametrize("side", [16, 24, 48, 72])
def test_sizes_that_decord_fails_at_become_a_little_larger(tmp_path, write_video, side):
    path = str(write_video(tmp_path / "square.mp4", width=80, height=80, frames=3))
    height, width = open_video(path, side).read([0, 1, 2]).shape[1:3]
    assert height == width
    assert side < width <= side + 1


@NEEDS_DECORD
@given(st.integers(16, 4000), st.integers(16, 4000), st.integers(8, 300))
def test_decord_size_avoids_ambiguous_rows(width, height, side):
    from tubeletx_train.data.readers.decord import decord_size

    w, h = decord_size(width, height, side)
    padded = -(-w // 32) * 32
    assert padded == w or 3 * padded % w != 0
    assert side <= min(w, h) <= side + 4
    assert max(w, h) == pytest.approx(max(width, height) * min(w, h) / min(width, height), abs=0.51)


@pytest.mark.parametrize("reader", VIDEO_READERS)
def test_one_frame_odd_sizes_and_accents(videos, tmp_path, write_video, reader):
    assert open_video(str(videos / "one.mp4"), 32, reader).read([0, 0, 0]).shape[0] == 3
    assert open_video(str(videos / "été, naïve vidéo.mp4"), reader=reader).num_frames == 12
    odd = write_video(tmp_path / "odd.mp4", width=67, height=51, frames=4)
    assert open_video(str(odd), reader=reader).read([3]).shape == (1, 51, 67, 3)


# What cameras and editors write, beside 8-bit 4:2:0: how the file is made, and how far the levels may be off.
KINDS = {
    "10 bits": (("-c:v", "libx265", "-x265-params", "log-level=none", "-crf", "4", "-pix_fmt", "yuv420p10le"), 3),
    "4:2:2": (("-c:v", "libx264", "-crf", "4", "-pix_fmt", "yuv422p"), 3),
    "grey": (("-c:v", "libx264", "-crf", "4", "-pix_fmt", "gray"), 3),
    "alpha": (("-c:v", "prores_ks", "-profile:v", "4444", "-pix_fmt", "yuva444p10le"), 3),
    "interlaced": (("-c:v", "libx264", "-crf", "4", "-pix_fmt", "yuv420p", "-x264-params", "interlaced=1:tff=1"), 3),
    "full range": (("-c:v", "libx264", "-crf", "4", "-pix_fmt", "yuvj420p"), 4),
}


@pytest.mark.parametrize("reader", VIDEO_READERS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("short_side", [None, 36])
def test_pixels_of_every_kind_keep_their_levels(tmp_path, write_video, reader, kind, short_side):
    codec, tolerance = KINDS[kind]
    name = "v.mov" if kind == "alpha" else "v.mp4"
    path = str(write_video(tmp_path / name, width=96, height=64, frames=40, codec=codec))
    video = open_video(path, short_side, reader)
    assert video.num_frames == 40
    for index in (0, 17, 39):
        frame = video.read([index])[0]
        left = frame[:, : frame.shape[1] // 3]
        assert np.abs(left.mean((0, 1)) - frame_level(index)).max() <= tolerance


@pytest.mark.parametrize("reader", VIDEO_READERS)
def test_odd_names_and_metadata_that_are_not_utf_8_do_no_harm(tmp_path, write_video, reader):
    odd = "it's 100% #1 [ä] \U0001f600 \n $HOME; *.mp4"
    path = write_video(tmp_path / odd, frames=5, options=("-metadata", "title=PLACEHOLDER"))
    content = path.read_bytes()
    assert content.count(b"PLACEHOLDER") == 1
    path.write_bytes(content.replace(b"PLACEHOLDER", b"\xff\xfe\x80abcdefgh"))
    assert frame_numbers(open_video(str(path), reader=reader).read([4, 0])) == [4, 0]


@pytest.mark.parametrize("reader", VIDEO_READERS)
@pytest.mark.parametrize("short_side", [16, 24, 37, 48, 64])
@pytest.mark.parametrize("angle", [90, 180, 270])
def test_rotation_holds_at_every_decode_size(videos, tmp_path, reader, short_side, angle):
    turned = tmp_path / "turned.mp4"
    ffmpeg("-display_rotation", str(angle), "-i", str(videos / "sub" / "b.mp4"), "-c", "copy", str(turned))
    frame = open_video(str(turned), short_side, reader).read([3])[0]
    height, width = frame.shape[:2]
    assert short_side <= min(height, width) <= short_side + 4
    assert (height > width) == (angle != 180)
    stored = np.rot90(frame, -angle // 90)
    left, right = stored[:, : stored.shape[1] // 3], stored[:, -stored.shape[1] // 3 :]
    assert np.abs(left.mean((0, 1)) - frame_level(3)).max() < 4
    assert right[..., 1].mean() > 180 > 60 > right[..., 0].mean()  # b.mp4 is green on its right


@pytest.mark.parametrize("reader", VIDEO_READERS)
@pytest.mark.parametrize("angle", [90, 180, 270])
def test_rotated_video_comes_upright(videos, tmp_path, reader, angle):
    turned = tmp_path / "turned.mp4"
    ffmpeg("-display_rotation", str(angle), "-i", str(videos / "sub" / "b.mp4"), "-c", "copy", str(turned))
    upright = open_video(str(turned), reader=reader).read([3])
    np.testing.assert_array_equal(
        upright[0], np.rot90(open_video(str(videos / "sub" / "b.mp4")).read([3])[0], angle // 90)
    )
    assert open_video(str(turned), 36, reader).read([0]).shape == (1, *((64, 36) if angle != 180 else (36, 64)), 3)


@pytest.mark.parametrize("reader", ["decord", "pyav"])
@pytest.mark.parametrize("angle", [0, 90, 180, 270])
@pytest.mark.parametrize("flip", ["-display_hflip", "-display_vflip"])
def test_mirrored_video_comes_as_a_player_shows_it(tmp_path, write_video, reader, angle, flip):
    codec = (*x264(), "-vf", "drawbox=0:0:20:20:red:fill")  # a corner that tells all eight places apart
    whole = write_video(tmp_path / "whole.mp4", width=96, height=54, frames=3, codec=codec)
    stored = open_video(str(whole)).read([1])[0]
    turned = tmp_path / "turned.mp4"
    ffmpeg("-display_rotation", str(angle), flip, "-i", str(whole), "-c", "copy", str(turned))
    shown = tmp_path / "shown.mkv"
    ffmpeg("-i", str(turned), "-c:v", "ffv1", "-pix_fmt", "bgr0", str(shown))  # ffmpeg's own filters turn it
    frame = open_video(str(turned), reader=reader).read([1])[0]
    expected = open_video(str(shown), reader="pyav").read([1])[0]
    assert frame.shape == expected.shape == (stored.shape if angle % 180 == 0 else (96, 54, 3))
    assert np.abs(frame.astype(int) - expected).mean() < 3


@pytest.mark.parametrize("reader", VIDEO_READERS)
def test_variable_frame_rate_counts_frames_not_time(videos, tmp_path, reader):
    path = tmp_path / "vfr.mp4"
    keep = "select=lt(n\\,10)+not(mod(n\\,5))"
    options = ("-vf", keep, "-fps_mode", "vfr", "-c:v", "libx264", "-crf", "4", "-pix_fmt", "yuv444p")
    ffmpeg("-i", str(videos / "sub" / "b.mp4"), *options, str(path))
    video = open_video(str(path), reader=reader)
    assert video.num_frames == 20
    assert frame_numbers(video.read([9, 10, 11, 19])) == [9, 10, 15, 55]


@pytest.mark.parametrize("reader", VIDEO_READERS)
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("truncated.mp4", "cut off or damaged"),
        ("empty.mp4", "empty"),
        ("text.mp4", "cannot be opened"),
        ("noise.mp4", "cannot be opened"),
        ("sound.mp4", "no video stream"),
        ("missing.mp4", "no such file"),
        ("sub\\\\missing.mp4", "no such file .a backslash is part of a name here"),
    ],
)
def test_unreadable_files_give_one_line(broken, reader, name, reason):
    path = str(broken / name)
    with pytest.raises(VideoError, match=reason) as caught:
        open_video(path, 32, reader)
    assert caught.value.path == path
    assert "\n" not in str(caught.value)


def test_the_cause_is_kept(tmp_path):
    (tmp_path / "to_nowhere.mp4").symlink_to("nowhere.mp4")
    (tmp_path / "circle.mp4").symlink_to("circle.mp4")
    os.mkfifo(tmp_path / "pipe.mp4")
    for name, reason in (
        ("to_nowhere.mp4", "is a link to nowhere.mp4, which does not exist"),
        ("circle.mp4", r"cannot be read \(Too many levels of symbolic links\)"),
        ("pipe.mp4", "is no file"),
        ("a\0b.mp4", "cannot hold a NUL"),
    ):
        with pytest.raises(VideoError, match=reason):
            open_video(str(tmp_path / name))


def test_a_file_that_may_not_be_read_is_said_to_be_so(videos, monkeypatch):
    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(VideoError, match=r"cannot be read \(Permission denied\)"):
        open_video(str(videos / "a.mp4"))


@NEEDS_DECORD
def test_videos_too_narrow_for_decord_are_named_as_such(tmp_path, write_video):
    path = str(write_video(tmp_path / "narrow.mp4", width=48, height=80, frames=3))
    with pytest.raises(VideoError, match="cannot decode frames of this width"):
        open_video(path, 40, "decord_only")
    assert open_video(path, 40).read([1]).shape == (1, 67, 40, 3)
    # Where the size is known the file need not be decoded at it.
    assert open_video(path, 40, size=(48, 80)).read([1]).shape == (1, 67, 40, 3)


# ---- damage


@pytest.mark.parametrize("reader", VIDEO_READERS)
def test_damaged_frames_are_an_error_or_frames_but_no_crash(tmp_path, write_video, reader):
    path = write_video(tmp_path / "whole.mp4", codec=x264(), options=("-movflags", "+faststart"))
    content = path.read_bytes()
    reasons = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        torn = bytearray(content)
        start = int(rng.integers(len(content) // 4, len(content) - 200))
        torn[start : start + 200] = rng.bytes(200)
        path.write_bytes(torn)
        try:
            video = open_video(str(path), reader=reader)
            assert video.read(range(video.num_frames)).shape[1:] == (48, 64, 3)
        except VideoError as error:
            reasons.append(error.reason)
    assert all(reason and "\n" not in reason for reason in reasons)


@NEEDS_DECORD
@pytest.mark.parametrize("fails", ["open", "read"])
def test_where_decord_fails_at_a_checked_file_it_is_said_once(tmp_path, write_video, monkeypatch, caplog, fails):
    """As it does where memory runs short; what PyAV shows instead is not the same to the last bit."""
    from tubeletx_train.data.readers.decord import DecordReader

    path = str(write_video(tmp_path / f"{fails}.mp4"))

    def fail(*arguments):
        raise VideoError(path, "cannot be opened as a video")

    expected = open_video(path, 32, "pyav").read([3, 20])
    monkeypatch.setattr(DecordReader, "_open" if fails == "open" else "_decode", fail)
    for _ in range(2):
        np.testing.assert_array_equal(open_video(path, 32, size=(64, 48)).read([3, 20]), expected)
    (record,) = caplog.records
    assert f"{path}: decord failed (cannot be opened as a video)" in record.getMessage()


def test_whether_a_damaged_file_is_readable_is_not_luck(tmp_path, write_video):
    path = write_video(tmp_path / "whole.mp4", codec=x264(), options=("-movflags", "+faststart"))
    content = path.read_bytes()
    outcomes = set()
    for seed in range(40):
        rng = np.random.default_rng(seed)
        torn = bytearray(content)
        start = int(rng.integers(len(content) // 6, len(content) - 200))
        torn[start : start + 200] = rng.bytes(200)
        path.write_bytes(torn)
        findings = {repr(inspect_video(str(path), "decord")) for _ in range(4)}
        assert len(findings) == 1
        indices = rng.integers(0, 40, 6)
        verdicts = {can_be_read(str(path), indices, reader) for reader in ("decord",) * 4 + ("pyav",)}
        assert len(verdicts) == 1
        outcomes |= verdicts
    assert outcomes == {True, False}


def can_be_read(path: str, indices: np.ndarray, reader: str) -> bool:
    try:
        open_video(path, None, reader).read(indices)
    except VideoError:
        return False
    return True


# ---- pictures


@pytest.mark.parametrize("extension", ["jpg", "jpeg", "PNG", "webp", "bmp", "tif", "tiff"])
def test_pictures_are_ordered_by_number(tmp_path, extension):
    folder = tmp_path / "ü b"
    folder.mkdir()
    for number in (2, 10, 1, 9):
        grey = np.full((40, 60, 3), frame_level(number), np.uint8)
        options = {} if extension.startswith("t") else {"quality": 95}
        Image.fromarray(grey).save(folder / f"frame{number}.{extension}", **options)
    (folder / "notes.txt").write_text("x")
    (folder / ".frame3.jpg").write_text("x")
    for path in (folder, pack_pictures(folder, tmp_path / "p.zip")):
        video = open_video(str(path))
        assert frame_numbers(video.read(range(4))) == [1, 2, 9, 10]


@pytest.mark.parametrize("extension", ["png", "tif"])
def test_grey_levels_of_16_bits_are_kept_as_levels(tmp_path, extension):
    levels = np.linspace(0, 65535, 20 * 30).reshape(20, 30).astype(np.uint16)
    Image.fromarray(levels).save(tmp_path / f"img_1.{extension}")
    frame = open_video(str(tmp_path)).read([0])[0]
    assert np.abs(frame - levels[..., None] / 257).max() <= 0.5 + 1e-6


# What the EXIF standard says that a viewer does, by the field's value.
UPRIGHT = {
    1: lambda image: image,
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.transpose(1, 0, 2),
    6: lambda image: np.rot90(image, -1),
    7: lambda image: image[::-1, ::-1].transpose(1, 0, 2),
    8: lambda image: np.rot90(image, 1),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("short_side", [None, 64])
def test_pictures_come_upright(tmp_path, orientation, short_side):
    stored = np.zeros((256, 384, 3), np.uint8)
    stored[:64, :128] = 255  # a corner that tells all eight places apart
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(tmp_path / "img_1.jpg", quality=95, exif=exif)
    expected = UPRIGHT[orientation](stored)
    if short_side is not None:
        expected = expected[::4, ::4]
    frame = open_video(str(tmp_path), short_side).read([0])[0]
    assert frame.shape == expected.shape
    assert np.abs(frame.astype(int) - expected).mean() < 6


def test_jpegs_are_decoded_small(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (512, 640, 3), np.uint8)
    smooth = np.asarray(Image.fromarray(noise).resize((20, 16)).resize((640, 512), Image.Resampling.BICUBIC))
    folder = save_pictures(tmp_path / "f", smooth[None], "jpg")
    small = open_video(str(folder), 64).read([0])
    assert small.shape == (1, 64, 80, 3)
    expected = np.asarray(Image.fromarray(smooth).resize((80, 64), Image.Resampling.BILINEAR))
    assert np.abs(small[0].astype(int) - expected).mean() < 4


def test_hostile_pictures_give_one_line(tmp_path, pictures):
    good = (pictures / "img_00001.png").read_bytes()
    cases = {
        "empty": (b"", "cannot be decoded"),
        "text": (b"no picture\n" * 9, "cannot be decoded"),
        "cut": (good[: len(good) // 2], "cannot be decoded"),
    }
    for name, (content, reason) in cases.items():
        folder = tmp_path / name
        folder.mkdir()
        (folder / "img_1.png").write_bytes(content)
        for path in (folder, pack_pictures(folder, tmp_path / f"{name}.zip")):
            with pytest.raises(VideoError, match=rf"img_1.png {reason}") as caught:
                open_video(str(path), 32).read([0])
            assert "\n" not in str(caught.value)
    (tmp_path / "none").mkdir()
    with pytest.raises(VideoError, match="no numbered pictures"):
        open_video(str(tmp_path / "none"))
    sizes = save_pictures(tmp_path / "sizes", np.zeros((1, 20, 30, 3), np.uint8))
    Image.new("RGB", (31, 20)).save(sizes / "img_2.png")
    with pytest.raises(VideoError, match="pictures differ in size"):
        open_video(str(sizes)).read([0, 1])


def test_hostile_zips_give_one_line(tmp_path, pictures, monkeypatch):
    whole = pack_pictures(pictures, tmp_path / "whole.zip").read_bytes()
    torn = bytearray(whole)
    torn[60:600] = bytes(540)
    for name, content, reason in (
        ("cut", whole[: len(whole) // 2], "cannot be opened as a zip"),
        ("text", b"no zip", "cannot be opened as a zip"),
        ("empty", b"", "the file is empty"),
        ("torn", bytes(torn), "cannot be unpacked"),
    ):
        path = tmp_path / f"{name}.zip"
        path.write_bytes(content)
        with pytest.raises(VideoError, match=reason) as caught:
            open_video(str(path)).read(range(60))
        assert "\n" not in str(caught.value)
    monkeypatch.setattr("tubeletx_train.data.readers.pictures._MAX_PICTURE_BYTES", 1 << 20)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("img_1.png", bytes((1 << 20) + 1))
    with pytest.raises(VideoError, match="claims to hold more than"):
        open_video(str(tmp_path / "bomb.zip")).read([0])


# ---- members of shards


@pytest.mark.parametrize("reader", VIDEO_READERS)
def test_members_of_a_shard_read_as_the_file_they_hold(videos, pictures, tmp_path, reader):
    zipped = pack_pictures(pictures, tmp_path / "b.zip")
    shard = tmp_path / "ä #1.tar"
    with tarfile.open(shard, "w") as tar:
        tar.add(videos / "sub" / "b.mp4", "0.mp4")
        tar.add(zipped, "1.zip")
    with tarfile.open(shard) as tar:
        members = [ShardMember(str(shard), m.offset_data, m.size, m.name) for m in tar.getmembers()]
    for member, file in zip(members, (videos / "sub" / "b.mp4", zipped), strict=True):
        assert ShardMember.parse(str(member)) == member
        assert storage_path(str(member)) == str(shard)
        video = open_video(str(member), 40, reader)
        np.testing.assert_array_equal(video.read([3, 44]), open_video(str(file), 40, reader).read([3, 44]))
    with pytest.raises(VideoError, match="the shard is cut off"):
        open_video(str(replace(members[0], size=10**17)), reader=reader)
    with pytest.raises(VideoError, match="no such file"):
        open_video(str(replace(members[0], shard=f"{shard}.tar")), reader=reader)
    with pytest.raises(VideoError, match="cannot be opened as a video"):
        open_video(str(replace(members[0], offset=members[0].offset + 99)), reader=reader)


# ---- the choice of reader


def test_a_reader_that_is_not_installed_is_named(videos, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchcodec", None)
    monkeypatch.delitem(sys.modules, "tubeletx_train.data.readers.torchcodec", raising=False)
    with pytest.raises(DataError, match=r"reader torchcodec cannot be used: .*torchcodec"):
        open_video(str(videos / "a.mp4"), reader="torchcodec")


def test_without_decord_pyav_reads_everything(write_video, monkeypatch, tmp_path):
    path = str(write_video(tmp_path / "a.mp4", frames=12))
    expected = open_video(path, 32, "pyav")
    monkeypatch.setattr(decord_or_pyav, "HAS_DECORD", False)
    monkeypatch.setitem(sys.modules, "decord", None)
    monkeypatch.delitem(sys.modules, "tubeletx_train.data.readers.decord", raising=False)
    size = expected.read([0]).shape[2:0:-1]
    for video in (open_video(path, 32, "decord"), open_video(path, 32, "decord", size=size)):
        assert video.decoder == "pyav"
        np.testing.assert_array_equal(video.read([3, 11, 3]), expected.read([3, 11, 3]))
    with pytest.raises(DataError, match=r"reader decord_only cannot be used: .*decord.*; take reader decord, which"):
        open_video(path, 32, "decord_only")


def test_torchcodec_is_called_as_its_documentation_says(videos, tmp_path, monkeypatch):
    """Against a stand-in of its one class that decodes with PyAV: the package is optional."""

    class VideoDecoder:
        def __init__(self, source, *, dimension_order, num_ffmpeg_threads, seek_mode):
            assert (dimension_order, num_ffmpeg_threads, seek_mode) == ("NCHW", 1, "exact")
            try:
                self.video = open_video(source, reader="pyav")
            except VideoError as error:
                raise RuntimeError(str(error)) from None
            self.metadata = SimpleNamespace(num_frames=self.video.num_frames, average_fps=self.video.fps)

        def get_frames_at(self, *, indices):
            assert all(isinstance(index, int) for index in indices)
            return SimpleNamespace(data=torch.from_numpy(self.video.read(indices)).permute(0, 3, 1, 2))

    decoders = ModuleType("torchcodec.decoders")
    decoders.VideoDecoder = VideoDecoder
    monkeypatch.setitem(sys.modules, "torchcodec", ModuleType("torchcodec"))
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", decoders)
    # Set and deleted, so that what is imported now is forgotten when the test ends.
    monkeypatch.setitem(sys.modules, "tubeletx_train.data.readers.torchcodec", ModuleType("forgotten"))
    monkeypatch.delitem(sys.modules, "tubeletx_train.data.readers.torchcodec")
    path = str(videos / "sub" / "b.mp4")
    video = open_video(path, reader="torchcodec")
    assert (video.num_frames, video.fps) == (60, 10.0)
    np.testing.assert_array_equal(video.read([9, 2, 9]), open_video(path).read([9, 2, 9]))
    assert open_video(path, 40, "torchcodec").read([1]).shape == (1, 40, 71, 3)
    (tmp_path / "not.mp4").write_text("x")
    with pytest.raises(VideoError, match="cannot be opened as a video"):
        open_video(str(tmp_path / "not.mp4"), reader="torchcodec")


def test_unknown_reader(videos):
    with pytest.raises(ValueError, match=r"reader: got .*, needs one of decord"):
        open_video(str(videos / "a.mp4"), reader="vhs")


def test_a_missing_pyav_is_named_with_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    for name in ("decord_or_pyav", "pyav"):
        monkeypatch.delitem(sys.modules, f"tubeletx_train.data.readers.{name}", raising=False)
    with pytest.raises(DataError, match=r"pip install av, .* or take reader decord_only"):
        require_reader("decord")
