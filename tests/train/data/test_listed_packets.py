"""A shard's member that is MP4 is read by its own index, and never wrongly where that index lies."""

from __future__ import annotations

import io
import itertools

import av
import numpy as np
import pytest

from tubeletx_train.data import VideoError
from tubeletx_train.data.readers import Media
from tubeletx_train.data.readers.pyav import PyAVReader
from tubeletx_train.data.transcode import TranscodeConfig, transcode
from video_files import ffmpeg, make_video

FRAMES = 150


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return make_video(tmp_path_factory.mktemp("listed") / "source.mp4", frames=FRAMES)


@pytest.fixture(scope="module", params=[1, 12])
def content(source, request):
    return transcode(str(source), TranscodeConfig(short_side=32, gop=request.param), None, lambda: None).content


def open_content(content: bytes) -> PyAVReader:
    return PyAVReader(Media("made.mp4", content), None, None)


def in_order(content: bytes) -> np.ndarray:
    """All frames as they are shown, decoded from the first on."""
    with av.open(io.BytesIO(content)) as container:
        frames = sorted(container.decode(video=0), key=lambda frame: frame.pts)
        return np.stack([frame.to_ndarray(format="rgb24", interpolation="BICUBIC") for frame in frames])


def some_indices(seed: int, count: int) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    drawn = [sorted(rng.choice(FRAMES, size, replace=False).tolist()) for size in rng.integers(1, 9, count)]
    starts = rng.integers(0, FRAMES - 70, 4)
    return [
        *drawn,
        *(list(range(start, start + 16 * step, step)) for start, step in zip(starts, (1, 2, 3, 4), strict=True)),
    ]


def all_checked(monkeypatch: pytest.MonkeyPatch, content: bytes) -> PyAVReader:
    with monkeypatch.context() as patched:
        patched.setattr(PyAVReader, "_take_index", lambda _: False)
        return open_content(content)


def remuxed(content: bytes, times) -> bytes:
    """The same packets, packet i with the time of decoding and that of showing that `times(i)` gives."""
    output = io.BytesIO()
    with av.open(io.BytesIO(content)) as container, av.open(output, "w", format="mp4") as made:
        stream = made.add_stream_from_template(container.streams.video[0])
        stream.time_base = container.streams.video[0].time_base
        for number, packet in enumerate(packet for packet in container.demux(video=0) if packet.size):
            packet.stream = stream
            packet.dts, packet.pts = times(number)
            made.mux(packet)
    return output.getvalue()


def test_opening_reads_no_packets(content, monkeypatch):
    expected = in_order(content)
    monkeypatch.setattr(PyAVReader, "_index_packets", None)  # is not called
    video = open_content(content)
    assert video.num_frames == FRAMES
    for indices in some_indices(0, 20):
        np.testing.assert_array_equal(video.read(indices), expected[indices])


def test_files_of_a_list_are_read_whole(content, tmp_path, monkeypatch):
    (tmp_path / "a.mp4").write_bytes(content)
    monkeypatch.setattr(PyAVReader, "_index_packets", None)
    with pytest.raises(TypeError):
        PyAVReader(Media.load(str(tmp_path / "a.mp4")), None, None)


def test_times_and_plainness_are_those_of_the_packets(content, monkeypatch):
    video, checked = open_content(content), all_checked(monkeypatch, content)
    np.testing.assert_array_equal(video.seconds, checked.seconds)
    assert open_content(content).ticks == checked.ticks
    assert open_content(content).is_plain() == checked.is_plain()


def test_key_frames_that_do_not_start_anew(source, tmp_path):
    """x264's periodic intra refresh marks as key frames pictures that need those before."""
    path = tmp_path / "refresh.mp4"
    ffmpeg("-i", str(source), "-c:v", "libx264", "-bf", "0", "-x264-params", "intra-refresh=1:keyint=12", str(path))
    content = path.read_bytes()
    expected = in_order(content)
    with av.open(io.BytesIO(content)) as container:
        keys = [entry.is_keyframe for entry in container.streams.video[0].index_entries]
    assert sum(keys) > 5
    for indices in some_indices(1, 20):
        np.testing.assert_array_equal(open_content(content).read(indices), expected[indices])


@pytest.mark.parametrize("claimed", [2, 7, 12, 14, 24])
def test_a_list_of_key_frames_that_lies(source, claimed):
    made = transcode(str(source), TranscodeConfig(short_side=32, gop=12), None, lambda: None).content
    expected = in_order(made)
    content = bytearray(made)
    place = content.index(b"stss") + 12 + 4  # the second of its numbers, which begin at 1
    assert int.from_bytes(content[place : place + 4], "big") == 13
    content[place : place + 4] = claimed.to_bytes(4, "big")
    for indices in ([8], [13], [20, 23], list(range(5, 100, 6)), [7, 140], *some_indices(2, 10)):
        np.testing.assert_array_equal(open_content(bytes(content)).read(indices), expected[indices])


@pytest.mark.parametrize(
    "times",
    [
        lambda i: (512 * i, 512 * (i + 1)),
        lambda i: (512 * i, 512 * i + (0 if i < 40 else 4096)),
        lambda i: (512 * i, 512 * (i + 7)),
        lambda i: (512 * i, 512 * i + 100 * (i % 3)),
    ],
    ids=["one later", "later from one on", "seven later", "by turns"],
)
def test_frames_that_are_shown_later_than_decoded(content, times, monkeypatch):
    moved = remuxed(content, times)
    expected, checked = in_order(moved), all_checked(monkeypatch, moved)
    for indices in some_indices(3, 20):
        np.testing.assert_array_equal(open_content(moved).read(indices), checked.read(indices))
        np.testing.assert_array_equal(open_content(moved).read(indices), expected[indices])


def test_what_is_cut_off_is_refused(content, tmp_path):
    (tmp_path / "made.mp4").write_bytes(content)
    options = ("-c", "copy", "-movflags", "faststart")
    ffmpeg("-i", str(tmp_path / "made.mp4"), *options, str(tmp_path / "index_first.mp4"))
    whole = (tmp_path / "index_first.mp4").read_bytes()
    assert open_content(whole).num_frames == FRAMES
    for size in (1, 100, len(whole) // 3):
        with pytest.raises(VideoError):
            open_content(whole[:-size])


@pytest.mark.parametrize("flags", ["frag_keyframe", "frag_keyframe+empty_moov", "frag_keyframe+default_base_moof"])
def test_fragments_are_read_whole(content, tmp_path, flags):
    (tmp_path / "made.mp4").write_bytes(content)
    ffmpeg("-i", str(tmp_path / "made.mp4"), "-c", "copy", "-movflags", flags, str(tmp_path / "fragments.mp4"))
    video = open_content((tmp_path / "fragments.mp4").read_bytes())
    assert video.num_frames == FRAMES
    np.testing.assert_array_equal(video.read([3, 90, 149]), in_order(content)[[3, 90, 149]])


def test_damage_to_the_index_never_gives_other_frames(source, monkeypatch):
    """Bytes of the index changed at random: what is read is what a reader of every packet reads, or nothing."""
    content = transcode(str(source), TranscodeConfig(short_side=32, gop=12), None, lambda: None).content
    index = content.index(b"moov")
    rng = np.random.default_rng(4)
    tables = [content.index(name) for name in (b"stts", b"stss", b"stsz", b"stsc", b"stco", b"elst")]
    places = [*rng.integers(index, len(content), 30), *(table + 4 + rng.integers(0, 40) for table in tables * 8)]

    def read(video):
        try:
            return [video().read(indices) for indices in wanted]
        except VideoError:
            return None

    read_both = 0
    for number, place in enumerate(places):
        changed = bytearray(content)
        changed[place] ^= int(rng.integers(1, 256))
        wanted = some_indices(number, 2)
        given = read(lambda: open_content(bytes(changed)))  # noqa: B023
        expected = read(lambda: all_checked(monkeypatch, bytes(changed)))  # noqa: B023
        if given is not None and expected is not None:
            read_both += 1
            assert all(itertools.starmap(np.array_equal, zip(given, expected, strict=True))), place - index
    assert read_both > 10
