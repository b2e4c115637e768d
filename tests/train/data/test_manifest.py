from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tubeletx_train.data import (
    DataError,
    ManifestError,
    TimedLabel,
    VideoRecord,
    load_videos,
    manifest,
    plain_rows,
    read_manifest,
    scan_folder,
    write_manifest,
)


def write(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "list.csv"
    path.write_bytes(text.encode(encoding))
    return path


def test_reads_rows_and_resolves_paths(tmp_path):
    path = write(
        tmp_path,
        "path,label,start,end,split\nclips/a b.mp4,jump,,,train\n"
        '"/abs/é, ü.mp4",,1.5,3,\n\n"say ""hi"".mp4",2,0,,val\n',
    )
    assert read_manifest(path) == [
        VideoRecord(str(tmp_path / "clips/a b.mp4"), "jump", split="train"),
        VideoRecord("/abs/é, ü.mp4", start=1.5, end=3.0),
        VideoRecord(str(tmp_path / 'say "hi".mp4'), "2", start=0.0, split="val"),
    ]


def test_accepts_a_byte_order_mark_and_any_column_order(tmp_path):
    path = write(tmp_path, "label,path\r\nrun,x.mp4\r\n", "utf-8-sig")
    assert read_manifest(path) == [VideoRecord(str(tmp_path / "x.mp4"), "run")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", ":1: the first line must name the columns"),
        ("path;label\na.mp4;run\n", ":1: .* it reads 'path;label' .cells are separated by commas, not by semicolons"),
        ("path\tlabel\na.mp4\trun\n", ":1: .* .cells are separated by commas, not by tabs"),
        ("a.mp4\nb.mp4\n", ":1: the first line must name the columns"),
        ("path,lable\na.mp4,1\n", "lable"),
        ("path,path\na.mp4,1\n", "each once"),
        ("path,label\na.mp4\n", ":2: 1 cells where the header names 2 columns"),
        ("path\na.mp4\nb, c.mp4\n", ":3: 2 cells"),
        ("path,start\na.mp4,soon\n", ":2: start: got 'soon', needs seconds"),
        ("path,end\na.mp4,1\nb.mp4,nan\n", ":3: end: got 'nan', needs seconds"),
        ("path,start\na.mp4,-1\n", "got '-1'"),
        ("path,start,end\na.mp4,3,2\n", ":2: end: got 2 s, needs a time after start .3 s."),
        ("path,label\n,x\n", ":2: the path is empty"),
        ("path,num_frames\na.mp4,0\n", ":2: num_frames: got"),
        ('path,label\n"a.mp4,1\n', "malformed CSV"),
        ("path,labels\na.mp4,c1 2\n", ":2: labels: got 'c1 2', needs 'label start end' triples"),
        ("path,labels\na.mp4,c1 2 3;\n", ":2: labels: got"),
        ("path,labels\na.mp4,c1 2 soon\n", ":2: labels: got"),
        ("path,boundaries\na.mp4,5 3\n", ":2: boundaries: got '5 3', needs increasing frame numbers"),
        ("path,boundaries\na.mp4,-1 3\n", ":2: boundaries: got"),
        ("path,boundaries\na.mp4,1.5\n", ":2: boundaries: got"),
    ],
)
def test_malformed_manifests_are_refused_by_line(tmp_path, text, message):
    with pytest.raises(ManifestError, match=message):
        read_manifest(write(tmp_path, text))


def test_spaces_around_cells_and_empty_rows_do_not_count(tmp_path):
    (tmp_path / "ends in a space ").touch()
    path = write(
        tmp_path,
        "path , label,start\n a.mp4 , run ,1\n,,\n  , ,\n\nends in a space ,walk\u00a0, 2.5 \n\tb.mp4,\trun\t,\n\n",
    )
    assert read_manifest(path) == [
        VideoRecord(str(tmp_path / "a.mp4"), "run", start=1.0),
        VideoRecord(str(tmp_path / "ends in a space "), "walk", start=2.5),
        VideoRecord(str(tmp_path / "b.mp4"), "run"),
    ]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\n\r\n"])
def test_lines_may_end_as_on_any_system(tmp_path, end):
    path = write(tmp_path, end.join(["path,label", "a.mp4,run", 'b.mp4,"two\nlines"', "c.mp4,walk"]) + end)
    assert [(Path(record.path).name, record.label) for record in read_manifest(path)] == [
        ("a.mp4", "run"),
        ("b.mp4", "two\nlines"),
        ("c.mp4", "walk"),
    ]


def test_a_nul_is_named_by_line(tmp_path):
    with pytest.raises(ManifestError, match=r":3: (path holds a NUL|malformed CSV .*NUL)") as caught:
        read_manifest(write(tmp_path, "path\na.mp4\nb\0.mp4\n"))
    assert "\0" not in str(caught.value)


@pytest.mark.parametrize("other", ["thumbs/notes.txt", "empty/.keep"])
def test_a_folder_beside_the_frames_does_not_hide_them(tmp_path, other):
    for name in ("img_0.jpg", "img_1.jpg", other):
        (tmp_path / "video" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "video" / name).touch()
    assert [record.path for record in scan_folder(tmp_path)] == [str(tmp_path / "video")]


def test_pictures_beside_videos_are_named(tmp_path, caplog):
    (tmp_path / "runs").mkdir()
    for name in ("poster1.jpg", "poster2.png", "runs/a.mp4"):
        (tmp_path / name).touch()
    assert [record.path for record in scan_folder(tmp_path)] == [str(tmp_path / "runs" / "a.mp4")]
    assert f"left out the 2 numbered pictures in {tmp_path}" in caplog.text


def test_files_that_are_no_manifests(tmp_path):
    with pytest.raises(ManifestError, match="cannot be read"):
        read_manifest(tmp_path / "nothing.csv")
    (tmp_path / "binary.csv").write_bytes(b"path\n\xff\xfe\x00")
    with pytest.raises(ManifestError, match="UTF-8"):
        read_manifest(tmp_path / "binary.csv")


_names = (
    st.text(st.characters(exclude_characters="/\0", exclude_categories=("Cs", "Cc")), min_size=1, max_size=12)
    .map(str.strip)
    .filter(lambda name: name not in ("", ".", ".."))
)

_times = st.floats(0, 1e6)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.builds(
            VideoRecord,
            path=_names.map(lambda name: f"/videos/{name}"),
            label=st.none() | _names,
            start=st.none() | st.floats(0, 5),
            end=st.none() | st.floats(6, 9),
            split=st.none() | st.sampled_from(["train", "val"]),
            group=st.none() | _names,
            labels=st.lists(
                st.builds(TimedLabel, st.from_regex(r"c\d{3}", fullmatch=True), _times, _times), max_size=3
            ).map(tuple),
            boundaries=st.sets(st.integers(0, 999), max_size=5).map(lambda values: tuple(sorted(values))),
            num_frames=st.none() | st.integers(1, 999),
            fps=st.none() | st.floats(1, 60),
        ),
        max_size=5,
    )
)
def test_written_manifests_read_back_equal(tmp_path_factory, records):
    path = tmp_path_factory.mktemp("round") / "list.csv"
    write_manifest(path, records)
    assert read_manifest(path) == records


_cells = st.one_of(
    st.sampled_from(["", "a.mp4", "b/c.mp4", "/abs/d.mp4", "./e", "f/", "g/.", ".", "..", "../h", "i//j", "k/./l"]),
    st.sampled_from(
        ["1", "25", "29.97", "1e3", "0", "-1", "nan", "x", "\u0661", "12345678901", "0.1234567890123456789"]
    ),
    st.sampled_from(
        [" a ", "\u00a0b", "ü", "ünder x", "train", "pyav", '"q"', 'q"', '"two\nlines"', "1,2", "\0", "\x1f"]
    ),
    st.sampled_from(["12345678a", "12345678b", "87654321a", "x" * 64, "x" * 65, "x" * 64 + "y", "é" * 40]),
)


@settings(max_examples=150, deadline=None)
@given(
    st.permutations(["path", "label", "start", "end", "num_frames", "fps", "reader", "labels"]).flatmap(
        lambda names: st.tuples(
            st.integers(1, len(names)).map(lambda count: list({"path": 0} | dict.fromkeys(names[:count]))),
            st.lists(st.lists(_cells, min_size=len(names), max_size=len(names)), max_size=6),
        )
    ),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.booleans(),
    st.sampled_from([4, 30, 1 << 20]),
)
def test_plain_rows_read_as_any_others(tmp_path_factory, table, end, whole, block):
    """In blocks by arrays, or all by the csv package: the same rows, or the same words."""
    header, rows = table
    lines = [",".join(header), *(",".join(row[: len(header)]) for row in rows)]
    path = tmp_path_factory.mktemp("m") / "list.csv"
    path.write_bytes((end.join(lines) + (end if whole else "")).encode())

    def read():
        try:
            return list(read_manifest(path))
        except ManifestError as error:
            return str(error)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(manifest, "_BLOCK", block)
        by_arrays = read()
        patched.setattr(manifest, "parse_plain", lambda *_: None)
        patched.setattr(manifest, "_BLOCK", 1 << 30)
        assert by_arrays == read()


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_list_as_it_is_written_is_plain(tmp_path, monkeypatch, end):
    lines = ["path,label,start,end,num_frames,fps,reader"]
    lines += [f"videos/c_{i % 7}/ü_{i:05}.mp4,class {i % 7},{i / 8},,{250 + i % 50},29.97,pyav" for i in range(3000)]
    lines[5] = "../x.mp4,,,7.5,,,"
    monkeypatch.setattr(manifest, "_BLOCK", 1 << 12)
    monkeypatch.setattr(manifest, "_read_csv", None)  # is not called
    records = read_manifest(write(tmp_path, end.join(lines)))
    assert len(records) == 3000
    assert records[4] == VideoRecord(f"{tmp_path}/../x.mp4", end=7.5)
    assert records[2999] == VideoRecord(
        f"{tmp_path}/videos/c_3/ü_02999.mp4", "class 3", 2999 / 8, num_frames=299, fps=29.97, reader="pyav"
    )


def test_texts_whose_hashes_are_equal_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.setattr(plain_rows, "_MULTIPLIER", np.uint64(0))  # the last eight bytes alone count
    monkeypatch.setattr(manifest, "_read_csv", None)  # is not called
    labels = [f"{i % 3} of the same ends" for i in range(50)]
    records = read_manifest(write(tmp_path, "path,label\n" + "".join(f"a.mp4,{label}\n" for label in labels)))
    assert [record.label for record in records] == labels


def test_lines_that_end_in_two_ways_are_plain(tmp_path, monkeypatch):
    monkeypatch.setattr(manifest, "_read_csv", None)  # is not called
    records = read_manifest(write(tmp_path, "path,fps\na.mp4,25\r\nb.mp4,\nc.mp4,\r\nd.mp4,29.97"))
    assert [record.fps for record in records] == [25, None, None, 29.97]
    assert [Path(record.path).name for record in records] == ["a.mp4", "b.mp4", "c.mp4", "d.mp4"]


def test_paths_below_the_manifest_are_written_relative(tmp_path):
    record = VideoRecord(str(tmp_path / "deep" / "a.mp4"))
    write_manifest(tmp_path / "list.csv", [record])
    assert "deep/a.mp4" in (tmp_path / "list.csv").read_text().splitlines()
    assert read_manifest(tmp_path / "list.csv") == [record]


def test_a_manifest_that_is_not_written_whole_leaves_the_old_one(tmp_path):
    path = tmp_path / "list.csv"
    write_manifest(path, [VideoRecord("/a.mp4")])
    with pytest.raises(UnicodeEncodeError):
        write_manifest(path, [VideoRecord("/b.mp4"), VideoRecord("/\udcff.mp4")])
    assert [record.path for record in read_manifest(path)] == ["/a.mp4"]
    assert list(tmp_path.iterdir()) == [path]


def test_scan_finds_videos_only(tmp_path):
    for name in ("b.MP4", "x/a.webm", "x/.hidden.mp4", "notes.txt", "x/y/c.avi"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.mp4").mkdir()
    found = scan_folder(tmp_path, label_from_folder=True)
    assert [(Path(r.path).relative_to(tmp_path).as_posix(), r.label) for r in found] == [
        ("b.MP4", tmp_path.name),
        ("x/a.webm", "x"),
        ("x/y/c.avi", "y"),
    ]
    assert all(record.label is None for record in scan_folder(tmp_path))


def test_load_videos_chooses_a_split(tmp_path):
    path = write(tmp_path, "path,split\na.mp4,train\nb.mp4,val\n")
    assert [Path(r.path).name for r in load_videos(path)] == ["a.mp4", "b.mp4"]
    assert [Path(r.path).name for r in load_videos(path, "val")] == ["b.mp4"]
    with pytest.raises(DataError, match="'test'; its splits: train, val"):
        load_videos(path, "test")


def test_load_videos_takes_a_single_video(tmp_path):
    video = tmp_path / "one.MP4"
    video.write_bytes(b"")
    assert load_videos(video) == [VideoRecord(str(video))]
    with pytest.raises(DataError, match="a video has no splits"):
        load_videos(video, "train")


def test_load_videos_says_what_is_missing(tmp_path):
    with pytest.raises(DataError, match="no such manifest or folder"):
        load_videos(tmp_path / "nowhere")
    with pytest.raises(DataError, match="holds no video"):
        load_videos(tmp_path)
    with pytest.raises(DataError, match="lists no video"):
        load_videos(write(tmp_path, "path\n"))
    with pytest.raises(DataError, match="has no splits"):
        load_videos(tmp_path, "train")


def test_frame_range_counts_whole_frames():
    record = VideoRecord("a", start=1.0, end=2.05, num_frames=100, fps=10.0)
    assert record.frame_range == (10, 21)
    assert VideoRecord("a", num_frames=7, fps=10.0).frame_range == (0, 7)
    assert VideoRecord("a", start=50.0, num_frames=7, fps=10.0).frame_range == (6, 7)
    with pytest.raises(ValueError, match="check_videos"):
        _ = VideoRecord("a").frame_range


@pytest.mark.parametrize(
    ("path", "command"),
    [
        (
            "manifests/mini_kinetics.csv",
            "manifest mini_kinetics --root $KINETICS --splits train --output manifests/mini_kinetics.csv",
        ),
        (
            "manifests/kinetics400_0.05_seed1.csv",
            "--splits train --subset 0.05 --subset_seed 1 --output manifests/kinetics400_0.05_seed1.csv",
        ),
        ("lists/ucf101.csv", "manifest ucf101 --root VIDEOS --annotations LISTS --output lists/ucf101.csv"),
        ("my videos.csv", "tubeletx-train manifest folder --root VIDEOS --output 'my videos.csv'"),
    ],
)
def test_a_missing_manifest_comes_with_the_command_that_makes_it(path, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="no such manifest or folder") as caught:
        load_videos(path)
    assert command in str(caught.value)


def test_a_folder_without_videos_points_to_its_manifest(tmp_path):
    (tmp_path / "manifest.csv").write_text("path\n")
    with pytest.raises(DataError, match=r"give the manifest: .*manifest\.csv"):
        load_videos(tmp_path)
