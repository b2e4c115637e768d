from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import time
from pathlib import Path

import pytest

from tubeletx_train.data import (
    BadVideo,
    BadVideoTracker,
    DataConfig,
    DataError,
    NoUsableVideos,
    TooManyBadVideos,
    VideoRecord,
    check_videos,
    prepare_videos,
    scan_folder,
    write_manifest,
)
from tubeletx_train.data.inspection import Finding, inspect_all


def inspect_hostile(path: str) -> Finding:
    """Stands for a decoder: what it does is the file's name."""
    if path == "abort":
        os.abort()
    if path == "exit":
        os._exit(3)
    if path == "hang":
        time.sleep(600)
    return Finding(num_frames=len(path))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_crash_or_hang_costs_one_file(workers):
    paths = ["a", "abort", "bb", "hang", "ccc", "exit", "dddd"]
    found = dict(inspect_all(paths, inspect_hostile, workers, 1.0))
    assert sorted(found) == sorted(paths)
    assert {p: f.num_frames for p, f in found.items() if f.reason is None} == {"a": 1, "bb": 2, "ccc": 3, "dddd": 4}
    assert found["abort"].reason == "crashed the decoder (exit code -6)"
    assert found["exit"].reason == "crashed the decoder (exit code 3)"
    assert found["hang"].reason == "hung the decoder for 1 s"
    assert not any(found[path].lasting for path in ("abort", "exit", "hang"))


def test_good_and_bad_are_told_apart(videos, broken):
    records = scan_folder(videos) + scan_folder(broken) + [VideoRecord(str(videos / "gone.mp4"))]
    good, bad = check_videos(records, workers=2, progress=False)
    assert [record.path for record in good] == [record.path for record in scan_folder(videos)]
    by_name = {Path(record.path).name: record for record in good}
    b = by_name["b.mp4"]
    assert (b.num_frames, b.fps, b.width, b.height) == (60, pytest.approx(10), 96, 54)
    assert by_name["one.mp4"].num_frames == 1
    expected = {"empty.mp4", "noise.mp4", "sound.mp4", "text.mp4", "truncated.mp4", "gone.mp4"}
    assert {Path(video.path).name for video in bad} == expected


def test_rows_of_one_file_are_checked_by_their_stretch(videos):
    path = str(videos / "a.mp4")
    rows = [VideoRecord(path, start=0.0, end=2.0), VideoRecord(path, start=2.0), VideoRecord(path, start=9.0)]
    good, bad = check_videos(rows, progress=False)
    assert [record.start for record in good] == [0.0, 2.0]
    assert bad == [BadVideo(path, "starts at 9 s but ends at 4.00 s")]


def test_a_reader_that_is_not_installed_is_no_fault_of_the_videos(videos, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchcodec", None)
    with pytest.raises(DataError, match="reader torchcodec cannot be used"):
        check_videos(scan_folder(videos), reader="torchcodec", progress=False)


def test_index_remembers_until_the_file_changes(videos, tmp_path):
    video = Path(shutil.copy(videos / "a.mp4", tmp_path / "a.mp4"))
    records, index = [VideoRecord(str(video))], tmp_path / "run" / "videos.json"
    first, _ = check_videos(records, index=index, progress=False)
    # What the file now says shows whether it was believed.
    entry = json.loads(index.read_text())
    entry["finding"]["num_frames"] = 12345
    index.write_text(json.dumps(entry) + '\n{"path": "cut o')
    remembered, _ = check_videos(records, index=index, progress=False)
    assert remembered[0].num_frames == 12345
    os.utime(video, (1, 1))
    again, _ = check_videos(records, index=index, progress=False)
    assert again == first


def test_another_reader_looks_for_itself(write_video, tmp_path):
    # decord cannot decode this width, and says that pyav can.
    records = [VideoRecord(str(write_video(tmp_path / "narrow.mp4", width=48, height=40)))]
    index = tmp_path / "videos.json"
    for _ in range(2):
        for reader, readable in (("decord", 0), ("pyav", 1)):
            good, bad = check_videos(records, reader=reader, index=index, progress=False)
            assert (len(good), len(bad)) == (readable, 1 - readable)
    assert len(index.read_text().splitlines()) == 2


def test_tracker_logs_each_once_and_stops_past_the_share(caplog):
    tracker = BadVideoTracker(10, 0.2)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            tracker.update([BadVideo("x.mp4", "torn"), BadVideo("y.mp4", "burnt")])
    assert [record.getMessage() for record in caplog.records] == [
        "unreadable video x.mp4: torn",
        "unreadable video y.mp4: burnt",
    ]
    with pytest.raises(TooManyBadVideos, match=r"(?s)3 of 10 .*x.mp4: torn.*y.mp4: burnt.*z.mp4: gone"):
        tracker.update([BadVideo("z.mp4", "gone")])
    assert [video.path for video in tracker.bad] == ["x.mp4", "y.mp4", "z.mp4"]


def test_a_folder_trains_on_what_is_good_and_names_the_rest(videos, broken, tmp_path, caplog):
    shutil.copytree(broken, tmp_path / "all")
    shutil.copy(videos / "a.mp4", tmp_path / "all" / "a.mp4")
    with caplog.at_level(logging.WARNING):
        good, tracker = prepare_videos(DataConfig(str(tmp_path / "all"), max_bad_share=0.0), progress=False)
    assert [Path(record.path).name for record in good] == ["a.mp4"]
    assert tracker.bad == []
    for name in ("empty.mp4", "noise.mp4", "sound.mp4", "text.mp4", "truncated.mp4"):
        assert name in caplog.text


def test_a_manifest_counts_what_it_promised(videos, broken, tmp_path):
    write_manifest(tmp_path / "list.csv", [*scan_folder(videos), VideoRecord(str(broken / "text.mp4"))])
    config = DataConfig(str(tmp_path / "list.csv"), max_bad_share=0.2)
    good, tracker = prepare_videos(config, progress=False)
    assert len(good) == 5
    assert len(tracker.bad) == 1
    with pytest.raises(TooManyBadVideos, match="1 of 6"):
        prepare_videos(DataConfig(str(tmp_path / "list.csv"), max_bad_share=0.1), progress=False)


def test_nothing_good_is_one_line(broken):
    with pytest.raises(NoUsableVideos, match="not one of its 5 videos can be read") as caught:
        prepare_videos(DataConfig(str(broken)), progress=False)
    assert "\n" not in str(caught.value)
