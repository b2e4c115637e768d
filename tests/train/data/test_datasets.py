from __future__ import annotations

import itertools
import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from tubeletx_train.cli import main
from tubeletx_train.data import DataError, ManifestError, TimedLabel, VideoRecord, class_names, read_manifest
from tubeletx_train.data.datasets import DATASETS, read_folder
from tubeletx_train.data.datasets.build import ManifestConfig, build_manifest
from tubeletx_train.data.find import VideoIndex, find_videos
from tubeletx_train.data.subsets import draw_per_class, draw_share

# The published list files, one folder a data set, to try as well.
REAL_LISTS = Path(os.environ.get("TUBELETX_TEST_ANNOTATIONS", "no-such-folder"))

Files = dict[str, str]


def write_files(root: Path, files: Files) -> None:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")


def write_ucfrep(root: Path) -> None:
    for split, name, bounds in (("train", "v_Biking_g01_c01", [1, 36, 67]), ("val", "v_JumpRope_g21_c02", [5, 300])):
        (root / split).mkdir(parents=True, exist_ok=True)
        label = {
            "duration": 310,
            "start_frame": bounds[0],
            "end_frame": bounds[-1],
            "temporal_bound_num": len(bounds),
            "temporal_bound": np.array(bounds, np.uint16)[:, None],
        }
        savemat(root / split / f"{name}.mat", {"label": label})


def record(path: str, label: str | None, split: str, **more) -> VideoRecord:
    return VideoRecord(path, label=label, split=split, **more)


# What each data set's lists look like, and what they say.
CASES: dict[str, tuple[Files | Callable[[Path], None], list[VideoRecord]]] = {
    "lists": (
        {
            "train.csv": "videos/a b.mp4 0\nclips/c.mp4,12\n\n",  # SlowFast
            "my_val_list_rawframes.txt": "some/frames 240 3\n",  # mmaction2
            "notes.md": "the split was trained on\n",
        },
        [
            record("videos/a b", "0", "train"),
            record("clips/c", "12", "train"),
            record("some/frames", "3", "val"),
        ],
    ),
    "kinetics400": (
        {
            "train.csv": "label,youtube_id,time_start,time_end,split,is_cc\n"
            '"riding or walking with horse",-3B32lodo2M,59,69,train,0\nabseiling,0wR5jVB-WPk,417,427,train,0\n',
            "validate.csv": "label,youtube_id,time_start,time_end,split\nzumba,ZZZ__aaa-11,0,10,validate\n",
        },
        [
            record("-3B32lodo2M_000059_000069", "riding or walking with horse", "train"),
            record("0wR5jVB-WPk_000417_000427", "abseiling", "train"),
            record("ZZZ__aaa-11_000000_000010", "zumba", "val"),
        ],
    ),
    "mini_kinetics": (
        {
            "action_names.txt": "abseiling 1\nair drumming 2\n",
            "train_split_1.txt": "kIRmvrmc2nM_000020_000030 2\n-QfOEoMWe5c_000014_000024 1\n",
            "val_split_1.txt": "zkyy5cC7SL4_000000_000010 1\n",
        },
        [
            record("kIRmvrmc2nM_000020_000030", "air drumming", "train"),
            record("-QfOEoMWe5c_000014_000024", "abseiling", "train"),
            record("zkyy5cC7SL4_000000_000010", "abseiling", "val"),
        ],
    ),
    "ucf101": (
        {
            "trainlist01.txt": "HandstandPushups/v_HandStandPushups_g08_c01.avi 37\r\n",
            "testlist01.txt": "Archery/v_Archery_g01_c02.avi\r\nArchery/v_Archery_g02_c01.avi\r\n",
        },
        [
            record("HandstandPushups/v_HandStandPushups_g08_c01.avi", "HandstandPushups", "train", group="g08"),
            record("Archery/v_Archery_g01_c02.avi", "Archery", "test", group="g01"),
            record("Archery/v_Archery_g02_c01.avi", "Archery", "test", group="g02"),
        ],
    ),
    "hmdb51": (
        {
            "wave_test_split1.txt": "Abschieds-winken_!!!!!!_wave_u_cm_np1_fr_bad_0.avi 1 \nb_wave.avi 2 \nc.avi 0 \n",
            "brush_hair_test_split1.txt": "A #1 (x).avi 2 \n",
            "wave_test_split2.txt": "b_wave.avi 1 \n",
        },
        [
            record("wave/Abschieds-winken_!!!!!!_wave_u_cm_np1_fr_bad_0.avi", "wave", "train"),
            record("brush_hair/A #1 (x).avi", "brush_hair", "test"),
            record("wave/b_wave.avi", "wave", "test"),
        ],
    ),
    "ssv2": (
        {
            "something-something-v2-labels.json": '{"Closing something":"5", "Showing something on something": "7"}',
            "something-something-v2-train.json": json.dumps(
                [{"id": "12", "label": "closing a door", "template": "Closing [something]", "placeholders": ["door"]}]
            ),
            "something-something-v2-validation.json": json.dumps(
                [{"id": "34", "template": "Showing [something] on [something]"}]
            ),
        },
        [record("12", "5", "train"), record("34", "7", "val")],
    ),
    "gym99": (
        {"gym99_train.txt": "A0xA_E_002184_002237_A_0035_0036.avi 93\n", "gym99_val.txt": "b.avi 0\n"},
        [record("A0xA_E_002184_002237_A_0035_0036.avi", "93", "train"), record("b.avi", "0", "val")],
    ),
    "gym288": (
        {"gym288_train_element_v1.1.txt": "A0xA_E_1_A_2 287\n", "gym288_val_element.txt": "b 0\n"},
        [record("A0xA_E_1_A_2", "287", "train"), record("b", "0", "val")],
    ),
    "fx_s1": (
        {"gym99_train.txt": "a.avi 5\nb.avi 6\nc.avi 16\nd.avi 17\n", "gym99_val.txt": "e.avi 7\n"},
        [record("b.avi", "0", "train"), record("c.avi", "10", "train"), record("e.avi", "1", "val")],
    ),
    "ub_s1": (
        {"gym99_train.txt": "a.avi 73\nb.avi 74\nc.avi 88\nd.avi 89\n", "gym99_val.txt": "e.avi 80\n"},
        [record("b.avi", "0", "train"), record("c.avi", "14", "train"), record("e.avi", "6", "val")],
    ),
    "diving48": (
        {
            "Diving48_V2_train.json": '[{"vid_name": "-mm_00155", "label": 3, "start_frame": 0, "end_frame": 48}]',
            "Diving48_V2_test.json": '[{"vid_name": "x_1", "label": 47, "start_frame": 0, "end_frame": 9}]',
        },
        [record("-mm_00155", "3", "train"), record("x_1", "47", "test")],
    ),
    "ucfrep": (
        write_ucfrep,
        [
            record("v_Biking_g01_c01", "Biking", "train", group="g01", boundaries=(0, 35, 66)),
            record("v_JumpRope_g21_c02", "JumpRope", "val", group="g21", boundaries=(4, 299)),
        ],
    ),
    "charades": (
        {
            "Charades_v1_train.csv": "id,subject,script,actions,length\n"
            '46GP8,HR43,"He says ""hi"", leaves.",c092 11.90 21.20;c147 0.00 12.60,24.83\nN11GT,A,x,,9.0\n',
            "Charades_v1_test.csv": "id,subject,script,actions,length\nAAAAA,B,y,c000 1 2,5\n",
        },
        [
            record("46GP8", None, "train", labels=(TimedLabel("92", 11.9, 21.2), TimedLabel("147", 0.0, 12.6))),
            record("N11GT", None, "train"),
            record("AAAAA", None, "test", labels=(TimedLabel("0", 1.0, 2.0),)),
        ],
    ),
}


def write_case(name: str, folder: Path) -> None:
    files = CASES[name][0]
    if callable(files):
        files(folder)
    else:
        write_files(folder, files)


@pytest.mark.parametrize("name", DATASETS)
def test_lists_are_read_and_their_videos_found(name, tmp_path, capsys):
    expected = CASES[name][1]
    lists, videos, output = tmp_path / "lists", tmp_path / "videos", tmp_path / "out" / "list.csv"
    write_case(name, lists)
    for item in expected:
        path = videos / item.split / item.path
        path = path if path.suffix == ".avi" else path.with_name(f"{path.name}.mp4")
        write_files(path.parent, {path.name: ""})
    arguments = [name, "--root", str(videos), "--annotations", str(lists), "--output", str(output)]
    assert main(["manifest", *arguments]) == 0
    found = read_manifest(output)
    assert [(r.label, r.split, r.group, r.labels, r.boundaries) for r in found] == [
        (r.label, r.split, r.group, r.labels, r.boundaries) for r in expected
    ]
    for item, listed in zip(found, expected, strict=True):
        assert Path(item.path).is_file()
        assert Path(item.path).stem == Path(listed.path).name.removesuffix(".avi")
    counts = Counter(item.split for item in expected)
    table = [line.split() for line in capsys.readouterr().out.splitlines()[1:-1]]
    assert [(row[0], row[2], row[5]) for row in table] == [(s, str(n), str(n)) for s, n in counts.items()]
    assert not output.with_name("list_missing.csv").exists()


def test_missing_videos_are_listed_and_stop_the_command(tmp_path, capsys):
    write_case("gym99", tmp_path)
    write_files(tmp_path, {"videos/b.mp4": ""})
    output = tmp_path / "list.csv"
    arguments = ["gym99", "--root", str(tmp_path / "videos"), "--annotations", str(tmp_path), "--output", str(output)]
    assert main(["manifest", *arguments]) == 2
    captured = capsys.readouterr()
    assert "1 of 2 videos are missing" in captured.err
    assert "--allow_missing true" in captured.err
    assert not output.exists()
    missing = tmp_path / "list_missing.csv"
    assert missing.read_text() == (
        "path,split,label,reason\nA0xA_E_002184_002237_A_0035_0036.avi,train,93,no such file\n"
    )
    assert main(["manifest", *arguments, "--allow_missing", "true"]) == 0
    assert "without 1 videos" in capsys.readouterr().out
    assert [r.path for r in read_manifest(output)] == [str(tmp_path / "videos" / "b.mp4")]
    # Nothing missing any more: the old list goes.
    write_files(tmp_path, {"videos/A0xA_E_002184_002237_A_0035_0036.webm": ""})
    assert main(["manifest", *arguments]) == 0
    assert not missing.exists()


def test_nothing_found_is_an_error_even_where_missing_is_allowed(tmp_path):
    write_case("gym99", tmp_path)
    (tmp_path / "videos").mkdir()
    arguments = ["gym99", "--root", str(tmp_path / "videos"), "--annotations", str(tmp_path)]
    assert main(["manifest", *arguments, "--output", str(tmp_path / "l.csv"), "--allow_missing", "true"]) == 2
    assert not (tmp_path / "l.csv").exists()


def test_one_split_needs_only_its_own_list(tmp_path):
    write_case("ssv2", tmp_path)
    (tmp_path / "something-something-v2-train.json").unlink()
    write_files(tmp_path, {"v/34.webm": ""})
    config = ManifestConfig("ssv2", str(tmp_path / "v"), "", annotations=str(tmp_path), splits=("val",))
    assert [r.split for r in build_manifest(config).records] == ["val"]
    with pytest.raises(ManifestError, match=r"holds no something-something-v2-train\.json"):
        build_manifest(ManifestConfig("ssv2", str(tmp_path / "v"), "", annotations=str(tmp_path)))


def test_folds_read_their_own_lists(tmp_path):
    write_case("hmdb51", tmp_path)
    assert [r.path for r in DATASETS["hmdb51"].read(tmp_path, "train", 2)] == ["wave/b_wave.avi"]
    with pytest.raises(ManifestError, match=r"holds no CLASS_test_split3\.txt"):
        DATASETS["hmdb51"].read(tmp_path, "train", 3)


@pytest.mark.parametrize(
    ("name", "file", "content", "message"),
    [
        ("kinetics400", "train.csv", "label,id\na,b\n", "train.csv:1: has no column youtube_id or time_start"),
        ("kinetics400", "train.csv", "label,youtube_id,time_start,time_end\na,b\n", "train.csv:2: has fewer cells"),
        ("kinetics400", "train.csv", "label,youtube_id,time_start,time_end\na,b,x,9\n", "train.csv:2: .* seconds"),
        ("kinetics400", "train.csv", "label,youtube_id,time_start,time_end\na,b,inf,9\n", "train.csv:2: .* seconds"),
        (
            "mini_kinetics",
            "train_split_1.txt",
            "only_a_name\n",
            "_1.txt:1: got 'only_a_name', needs 2 cells",
        ),
        ("mini_kinetics", "train_split_1.txt", "a 1\nb 3\n", "train_split_1.txt:2: class 3 is not in"),
        ("mini_kinetics", "train_split_1.txt", "a one\n", "got 'one', needs a whole number of 1 or more"),
        ("ucf101", "trainlist01.txt", "v_Archery_g01_c01.avi 1\n", "needs one that starts as Class/v_Class"),
        (
            "hmdb51",
            "wave_test_split1.txt",
            "a.avi 3\n",
            "split1.txt:1: got '3', needs one that ends in 0, 1 or 2",
        ),
        ("ssv2", "something-something-v2-train.json", "[{]", "train.json: is not JSON"),
        ("ssv2", "something-something-v2-train.json", "{}", "train.json: needs a list"),
        ("ssv2", "something-something-v2-train.json", '[{"id": "1"}]', "entry 0: needs an object with id, template"),
        ("ssv2", "something-something-v2-train.json", '[{"id": "1", "template": "No"}]', "video 1: 'No' is not in"),
        ("ssv2", "something-something-v2-labels.json", "[]", "needs an object from template"),
        ("gym99", "gym99_train.txt", "a.avi 99\n", "gym99_train.txt:1: class 99 is not one of 99"),
        ("gym99", "gym99_train.txt", "a.avi -1\n", "got '-1', needs a whole number of 0 or more"),
        (
            "diving48",
            "Diving48_V2_train.json",
            '[{"vid_name": "a", "label": null}]',
            "label of a: got None",
        ),
        ("ucfrep", "train/v_Biking_g01_c01.mat", "no MATLAB", "is not a label file of UCFRep"),
        ("ucfrep", "train/v_Biking_g01_c01.mat", "", "is not a label file of UCFRep"),
        ("ucfrep", "train/strange.mat", "", "needs a name as v_Class"),
        (
            "charades",
            "Charades_v1_train.csv",
            "id,actions\nA,c1 2 3\n",
            "train.csv:2: action: got 'c1 2 3'",
        ),
    ],
)
def test_malformed_lists_are_refused_by_name(name, file, content, message, tmp_path):
    write_case(name, tmp_path)
    write_files(tmp_path, {file: content})
    with pytest.raises(ManifestError, match=message) as caught:
        DATASETS[name].read(tmp_path, "train", 1)
    assert "\n" not in str(caught.value)


def test_ucfrep_boundaries_must_increase(tmp_path):
    (tmp_path / "train").mkdir()
    for bounds in ([5], [5, 5], [0, 7]):
        savemat(tmp_path / "train" / "v_Biking_g01_c01.mat", {"label": {"temporal_bound": np.array(bounds)}})
        with pytest.raises(ManifestError):
            DATASETS["ucfrep"].read(tmp_path, "train", 1)


def test_lists_that_are_no_text(tmp_path):
    (tmp_path / "trainlist01.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ManifestError, match="not a text file in UTF-8"):
        DATASETS["ucf101"].read(tmp_path, "train", 1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dataset": "ucf11"}, "dataset: got 'ucf11', needs one of kinetics400"),
        ({"fold": 4}, "fold: got 4, needs one in 1..3"),
        ({"splits": ("val",)}, "has the splits train, test, not 'val'"),
        ({"subset": 0.0}, "subset: got 0.0, needs one in"),
        ({"subset": 0.5, "per_class": 3}, "exclude each other"),
        ({"fps": 0.0}, "fps: got 0.0, needs a positive number"),
        ({"per_class": 0}, "per_class: got 0, needs 1 or more"),
        ({"group_pattern": "(x)"}, 'group_pattern is for "folder"'),
        ({"dataset": "folder", "annotations": "x"}, "annotations is for data sets"),
    ],
)
def test_settings_out_of_range_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        ManifestConfig(**{"dataset": "ucf101", "root": "r", "output": "o", **settings})


# ---- folders


def test_folders_give_labels_splits_and_groups(tmp_path):
    names = ("train/wave/p1_a.mp4", "train/jump/p2_b.mp4", "test/wave/p3_c.avi", "p4_d.mp4", "x/y/p5_é.mp4")
    write_files(tmp_path, dict.fromkeys(names, ""))
    found = read_folder(tmp_path, r"(p\d)_")
    assert [(Path(r.path).name, r.label, r.split, r.group) for r in found] == [
        ("p4_d.mp4", None, None, "p4"),
        ("p3_c.avi", "wave", "test", "p3"),
        ("p2_b.mp4", "jump", "train", "p2"),
        ("p1_a.mp4", "wave", "train", "p1"),
        ("p5_é.mp4", "y", None, "p5"),
    ]
    for pattern, message in (("p\\d", "parentheses"), ("(", "not a regular"), ("(q)", "does not match p4_d.mp4")):
        with pytest.raises(DataError, match=message):
            read_folder(tmp_path, pattern)


def test_a_folder_becomes_a_checked_manifest(videos, broken, tmp_path, capsys):
    for source in (*videos.glob("*.mp4"), broken / "text.mp4"):
        write_files(tmp_path / "v", {})
        (tmp_path / "v").mkdir(exist_ok=True)
        (tmp_path / "v" / source.name).write_bytes(source.read_bytes())
    arguments = ["manifest", "folder", "--root", str(tmp_path / "v"), "--output", str(tmp_path / "l.csv")]
    arguments += ["--check", "true", "--allow_missing", "true"]
    assert main(arguments) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == ["all", "-", "4", "4", "1", "3"]
    assert {(Path(r.path).name, r.num_frames) for r in read_manifest(tmp_path / "l.csv")} == {
        ("a.mp4", 40),
        ("one.mp4", 1),
        ("été, naïve vidéo.mp4", 12),
    }
    assert "text.mp4,,,cannot be opened" in (tmp_path / "l_missing.csv").read_text()


def test_finds_files_zips_and_folders_of_frames(tmp_path, caplog):
    names = (
        *("a.mp4", "sub/b.ZIP", "sub/frames/img_00001.jpg", "sub/frames/img_00002.jpg", "sub/frames/notes.txt"),
        *("thumbnails/1.png", "thumbnails/c.mp4", ".cache/d.mp4", "sub/.e.mp4", "texts/cover.jpg"),
    )
    write_files(tmp_path, dict.fromkeys(names, ""))
    (tmp_path / "sub" / "circle").symlink_to(tmp_path)
    (tmp_path / "empty.mp4").mkdir()
    (tmp_path / "self").symlink_to("self")
    (tmp_path / "self.mp4").symlink_to("self.mp4")
    (tmp_path / "gone.mp4").symlink_to("nowhere.mp4")
    (tmp_path / "gone").symlink_to("nowhere")
    found = {path.relative_to(tmp_path).as_posix() for path in find_videos(tmp_path)}
    assert found == {"a.mp4", "sub/b.ZIP", "sub/frames", "thumbnails/c.mp4"}
    left_out = [record.args[0] for record in caplog.records if record.msg.startswith("left out %s")]
    assert sorted(Path(path).name for path in left_out) == ["gone.mp4", "self", "self.mp4"]


def test_names_that_no_manifest_can_hold_are_left_out_and_logged(tmp_path, caplog):
    (tmp_path / "a.mp4").touch()
    (tmp_path / os.fsdecode(b"\xff.mp4")).touch()
    assert [path.name for path in find_videos(tmp_path)] == ["a.mp4"]
    assert "its name is not UTF-8" in caplog.text
    with pytest.raises(DataError, match="is not a folder"):
        list(find_videos(tmp_path / "a.mp4"))


def test_pictures_get_the_rate_that_is_given(tmp_path, videos):
    frames = tmp_path / "v" / "walk"
    frames.mkdir(parents=True)
    for number in range(1, 5):
        Image.new("RGB", (32, 24)).save(frames / f"img_{number:05d}.jpg")
    (tmp_path / "v" / "a.mp4").write_bytes((videos / "a.mp4").read_bytes())
    for fps, expected in ((None, 25.0), (30.0, 30.0)):
        config = ManifestConfig("folder", str(tmp_path / "v"), "", fps=fps, check=True)
        rates = {Path(r.path).name: (r.fps, r.num_frames) for r in build_manifest(config, progress=False).records}
        assert rates == {"a.mp4": (pytest.approx(10.0), 40), "walk": (expected, 4)}


def test_outputs_that_cannot_be_written_are_one_line(tmp_path, capsys):
    write_files(tmp_path, {"v/a.mp4": "", "file": ""})
    output = tmp_path / "file" / "list.csv"
    assert main(["manifest", "folder", "--root", str(tmp_path / "v"), "--output", str(output)]) == 2
    error = capsys.readouterr().err.strip()
    assert "cannot write" in error
    assert "\n" not in error


def test_index_finds_by_path_then_name_and_refuses_to_guess():
    index = VideoIndex(map(Path, ["/v/x/a.avi", "/v/y/a.mp4", "/v/y/b.c.zip", "/v/z/d"]))
    assert index.find("x/a.avi") == "/v/x/a.avi"
    assert index.find("y/a") == "/v/y/a.mp4"
    assert index.find("b.c") == "/v/y/b.c.zip"
    assert index.find("q/b.c.avi") == "/v/y/b.c.zip"
    assert index.find("d.mp4") == "/v/z/d"
    assert index.find("b") is None
    for listed in ("a", "q/a.avi"):
        with pytest.raises(DataError, match=r"may be any of /v/x/a.avi, /v/y/a.mp4"):
            index.find(listed)


# ---- subsets


def labelled(**sizes: int) -> list[VideoRecord]:
    return [
        VideoRecord(f"{label}{i}", label=label)
        for i in range(max(sizes.values()))
        for label in sizes
        if i < sizes[label]
    ]


@pytest.mark.parametrize(
    ("share", "kept"), [(0.25, (3, 1, 25)), (0.07, (1, 1, 7)), (1.0, (9, 1, 100)), (0.5, (5, 1, 50))]
)
def test_shares_are_of_every_class_rounded_up(share, kept):
    records = labelled(a=9, b=1, c=100)
    drawn = draw_share(records, share, seed=3)
    counts = Counter(r.label for r in drawn)
    assert (counts["a"], counts["b"], counts["c"]) == kept
    assert drawn == [r for r in records if r in drawn]
    assert drawn == draw_share(records, share, seed=3)
    assert share == 1.0 or drawn != draw_share(records, share, seed=4)


def test_smaller_shares_are_part_of_larger():
    records = labelled(a=40, b=23)
    parts = [set(draw_share(records, share, seed=1)) for share in (0.05, 0.1, 0.25, 0.33, 0.5)]
    assert all(small <= large for small, large in itertools.pairwise(parts))
    assert len({frozenset(draw_share(records, 0.1, seed)) for seed in range(5)}) == 5


def test_every_video_is_drawn_equally_often():
    records = labelled(a=10)
    counts = Counter(r.path for seed in range(2000) for r in draw_per_class(records, 3, seed))
    assert min(counts.values()) > 520
    assert max(counts.values()) < 680


def test_a_number_per_class_needs_as_many():
    records = labelled(a=5, b=12)
    assert Counter(r.label for r in draw_per_class(records, 5, 0)) == {"a": 5, "b": 5}
    with pytest.raises(DataError, match="class a has 5 videos, fewer than the 6"):
        draw_per_class(records, 6, 0)
    with pytest.raises(DataError, match="no label"):
        draw_per_class([VideoRecord("x")], 1, 0)
    assert len(draw_share([VideoRecord(str(i)) for i in range(10)], 0.25, 0)) == 3


def test_subsets_are_of_the_training_split_and_ignore_what_is_missing(tmp_path):
    names = [f"a_{i:02d}" for i in range(20)]
    lists = {"gym99_train.txt": "".join(f"{n} 0\n" for n in names), "gym99_val.txt": "v_0 0\nv_1 0\n"}
    write_files(tmp_path / "lists", lists)
    write_files(tmp_path / "v", {f"{n}.mp4": "" for n in (*names, "v_0", "v_1")})
    config = ManifestConfig("gym99", str(tmp_path / "v"), "", annotations=str(tmp_path / "lists"), subset=0.25)
    report = build_manifest(config)
    assert Counter(r.split for r in report.records) == {"train": 5, "val": 2}
    assert [(c.listed, c.drawn) for c in report.counts] == [(20, 5), (2, 2)]
    lost = Path(report.records[0].path)
    lost.unlink()
    again = build_manifest(config)
    assert again.records == report.records[1:]
    assert [m.record.path for m in again.missing] == [lost.stem]


def test_subsets_need_a_training_split(tmp_path):
    write_case("gym99", tmp_path)
    config = ManifestConfig("gym99", str(tmp_path), "", splits=("val",), per_class=1)
    with pytest.raises(DataError, match="draw from the training videos, the splits are val"):
        build_manifest(config)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"train.csv": "a.mp4 one\n"}, r"train.csv:1: got 'a.mp4 one', needs a path and a class number"),
        ({"train.csv": "a.mp4 1\nb.mp4\n"}, "train.csv:2: got 'b.mp4', needs a path"),
        ({"train_rawframes.txt": "a 1\n"}, "needs a folder of frames, how many, and a class number"),
        ({"train.csv": "", "old_train.txt": ""}, "may be any of old_train.txt, train.csv"),
        ({"other.csv": ""}, "holds no list of split train, such as train.csv"),
    ],
)
def test_lists_of_paths_and_labels_that_are_malformed(tmp_path, files, message):
    write_files(tmp_path, files)
    with pytest.raises(ManifestError, match=message):
        build_manifest(ManifestConfig("lists", str(tmp_path), "out.csv"))


# ---- classes


def test_class_names():
    assert class_names([VideoRecord("x", label=n) for n in ("10", "2", "0")]) == [str(i) for i in range(11)]
    assert class_names([VideoRecord("x", label=n) for n in ("wave", "3", "jump")]) == ["3", "jump", "wave"]
    assert len(class_names([VideoRecord("x", labels=(TimedLabel("4", 0, 1),))], 157)) == 157
    assert class_names([VideoRecord("x", label=n) for n in ("01", "1", "02", "0003")]) == ["0", "1", "02", "0003"]
    assert class_names([VideoRecord("x")]) == []
    with pytest.raises(DataError, match="label 48 is not one of 48"):
        class_names([VideoRecord("x", label="48")], 48)


# ---- the published lists


@pytest.mark.skipif(not REAL_LISTS.is_dir(), reason="TUBELETX_TEST_ANNOTATIONS names no folder of list files")
@pytest.mark.parametrize(
    ("name", "folder", "counts"),
    [
        ("ucf101", "ucf101", {"train": (9537, 101), "test": (3783, 101)}),
        ("hmdb51", "hmdb51", {"train": (3570, 51), "test": (1530, 51)}),
        ("gym99", "finegym", {"train": (20484, 99), "val": (8521, 99)}),
        ("fx_s1", "finegym", {"train": (1882, 11), "val": (777, 11)}),
        ("ub_s1", "finegym", {"train": (3511, 15), "val": (1471, 15)}),
        ("diving48", "diving48", {"train": (15027, 47), "test": (1970, 47)}),
        ("ucfrep", "ucfrep", {"train": (421, 23), "val": (105, 23)}),
        ("ssv2", "ssv2", {"val": (24777, 174)}),
        ("mini_kinetics", "mini-kinetics", {"train": (77266, 200), "val": (4907, 200)}),
    ],
)
def test_published_lists_give_the_published_counts(name, folder, counts):
    dataset = DATASETS[name]
    for split, (videos, classes) in counts.items():
        records = dataset.read(REAL_LISTS / folder, split, 1)
        assert len(records) == len({r.path for r in records}) == videos == dataset.published[split]
        labels = {r.label for r in records}
        assert len(labels) == classes <= dataset.num_classes
        class_names(records, dataset.num_classes)


@pytest.mark.skipif(not REAL_LISTS.is_dir(), reason="TUBELETX_TEST_ANNOTATIONS names no folder of list files")
def test_low_shot_sets_have_the_published_sizes():
    ucf = DATASETS["ucf101"].read(REAL_LISTS / "ucf101", "train", 1)
    gym = DATASETS["gym99"].read(REAL_LISTS / "finegym", "train", 1)
    assert len(draw_per_class(ucf, 10, 0)) == 1010
    assert len(draw_per_class(gym, 11, 0)) == 1089
