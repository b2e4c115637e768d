from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tubeletx_train.data import VideoError, open_video
from tubeletx_train.data.readers import decord_size
from video_files import ffmpeg, frame_numbers


def test_reads_the_frames_asked_for_in_any_order_with_repeats(videos):
    video = open_video(str(videos / "sub" / "b.mp4"))
    assert video.num_frames == 60
    assert video.fps == pytest.approx(10.0)
    indices = [7, 3, 3, 50, 0, 59, 12, 7]
    frames = video.read(indices)
    assert frames.shape == (8, 54, 96, 3)
    assert frames.dtype == np.uint8
    assert frame_numbers(frames) == indices
    assert frame_numbers(video.read(np.array([20, 1]))) == [20, 1]  # backwards from where the decoder stands


def test_colours_are_rgb(videos):
    right = open_video(str(videos / "a.mp4")).read([5])[0, :, 40:].mean((0, 1))
    assert np.abs(right - (200, 30, 30)).max() < 12


@pytest.mark.parametrize(("name", "shape"), [("a.mp4", (40, 53)), ("sub/b.mp4", (40, 71)), ("sub/c.mp4", (57, 40))])
def test_resizes_the_short_side_and_keeps_the_aspect(videos, name, shape):
    assert open_video(str(videos / name), 40).read([0, 1]).shape == (2, *shape, 3)


def test_given_size_changes_nothing(videos):
    path = str(videos / "sub" / "b.mp4")
    np.testing.assert_array_equal(open_video(path, 32, size=(96, 54)).read([4]), open_video(path, 32).read([4]))


@pytest.mark.parametrize("side", [16, 24, 48, 72])
def test_sizes_that_decord_fails_at_become_a_little_larger(tmp_path, write_video, side):
    path = str(write_video(tmp_path / "square.mp4", width=80, height=80, frames=3))
    height, width = open_video(path, side).read([0, 1, 2]).shape[1:3]
    assert height == width
    assert side < width <= side + 1


@given(st.integers(16, 4000), st.integers(16, 4000), st.integers(8, 300))
def test_decord_size_avoids_ambiguous_rows(width, height, side):
    w, h = decord_size(width, height, side)
    padded = -(-w // 32) * 32
    assert padded == w or 3 * padded % w != 0
    assert side <= min(w, h) <= side + 4
    assert max(w, h) == pytest.approx(max(width, height) * min(w, h) / min(width, height), abs=0.51)


def test_one_frame_odd_sizes_and_accents(videos, tmp_path, write_video):
    assert open_video(str(videos / "one.mp4"), 32).read([0, 0, 0]).shape[0] == 3
    assert open_video(str(videos / "été, naïve vidéo.mp4")).num_frames == 12
    odd = write_video(tmp_path / "odd.mp4", width=67, height=51, frames=4)
    assert open_video(str(odd)).read([3]).shape == (1, 51, 67, 3)


def test_rotated_video_comes_upright(videos, tmp_path):
    turned = tmp_path / "turned.mp4"
    ffmpeg("-display_rotation", "90", "-i", str(videos / "sub" / "b.mp4"), "-c", "copy", str(turned))
    assert open_video(str(turned)).read([0]).shape == (1, 96, 54, 3)
    assert open_video(str(turned), 36).read([0]).shape == (1, 64, 36, 3)


def test_variable_frame_rate_counts_frames_not_time(videos, tmp_path):
    path = tmp_path / "vfr.mp4"
    keep = "select=lt(n\\,10)+not(mod(n\\,5))"
    options = ("-vf", keep, "-fps_mode", "vfr", "-c:v", "libx264", "-crf", "4", "-pix_fmt", "yuv444p")
    ffmpeg("-i", str(videos / "sub" / "b.mp4"), *options, str(path))
    video = open_video(str(path))
    assert video.num_frames == 20
    assert frame_numbers(video.read([9, 10, 11, 19])) == [9, 10, 15, 55]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("truncated.mp4", "cut off or damaged"),
        ("empty.mp4", "empty"),
        ("text.mp4", "cannot be opened"),
        ("noise.mp4", "cannot be opened"),
        ("sound.mp4", "no video stream"),
        ("missing.mp4", "no such file"),
    ],
)
def test_unreadable_files_give_one_line(broken, name, reason):
    path = str(broken / name)
    with pytest.raises(VideoError, match=reason) as caught:
        open_video(path, 32)
    assert caught.value.path == path
    assert "\n" not in str(caught.value)


def test_frames_out_of_range_are_refused(videos):
    with pytest.raises(VideoError, match="asked for, it has 40"):
        open_video(str(videos / "a.mp4")).read([0, 40])


def test_videos_too_narrow_for_decord_are_named_as_such(tmp_path, write_video):
    path = str(write_video(tmp_path / "narrow.mp4", width=48, height=80, frames=3))
    with pytest.raises(VideoError, match="cannot decode frames of this width"):
        open_video(path, 40)
    # Where the size is known the file need not be decoded at it.
    assert open_video(path, 40, size=(48, 80)).read([1]).shape == (1, 67, 40, 3)


def test_unknown_reader(videos):
    with pytest.raises(ValueError, match="reader must be one of decord"):
        open_video(str(videos / "a.mp4"), reader="vhs")
