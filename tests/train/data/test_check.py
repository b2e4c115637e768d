from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from tubeletx_train.data import (
    BadVideo,
    BadVideoTracker,
    DataConfig,
    DataError,
    NoUsableVideos,
    TooManyBadVideos,
    VideoRecord,
    check_videos,
    measured,
    open_record,
    open_video,
    prepare_videos,
    read_manifest,
    scan_folder,
    write_manifest,
)
from tubeletx_train.data.inspection import Finding, inspect_all
from video_files import NEEDS_DECORD, ffmpeg, frame_numbers, make_uneven_video


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
    assert json.loads(index.read_text().splitlines()[-1])["path"] == str(video)  # on a line of its own


@NEEDS_DECORD
def test_another_reader_looks_for_itself(write_video, tmp_path):
    # decord cannot decode this width, and says that pyav can.
    records = [VideoRecord(str(write_video(tmp_path / "narrow.mp4", width=48, height=40)))]
    index = tmp_path / "videos.json"
    for _ in range(2):
        for reader, readable in (("decord_only", 0), ("pyav", 1), ("decord", 1)):
            good, bad = check_videos(records, reader=reader, index=index, progress=False)
            assert (len(good), len(bad)) == (readable, 1 - readable)
    assert len(index.read_text().splitlines()) == 3


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


@NEEDS_DECORD
def test_the_check_says_which_reader_reads_a_file_and_what_it_says_is_kept(tmp_path, write_video, caplog):
    caplog.set_level(logging.INFO)
    write_video(tmp_path / "a.mp4", frames=20)
    whole = write_video(tmp_path / "whole.tmp", frames=60, options=("-f", "mp4"))
    ffmpeg("-ss", "1.3", "-i", str(whole), "-c", "copy", str(tmp_path / "cut.mp4"))
    records = scan_folder(tmp_path)
    good, bad = check_videos(records, progress=False, index=tmp_path / "index.jsonl")
    assert bad == []
    assert [record.reader for record in good] == [None, "pyav"]
    assert good[1].num_frames == 47
    assert "1 of 2 videos are read by PyAV" in caplog.text
    write_manifest(tmp_path / "list.csv", good)
    assert read_manifest(tmp_path / "list.csv") == good
    assert frame_numbers(open_record(good[1], None, "decord").read([20, 46])) == [33, 59]
    alone, _ = check_videos(records, reader="decord_only", progress=False, index=tmp_path / "index.jsonl")
    assert [record.reader for record in alone] == [None, None]
    assert check_videos(records, progress=False, index=tmp_path / "index.jsonl")[0] == good


@pytest.mark.parametrize("reader", ["decord", pytest.param("decord_only", marks=NEEDS_DECORD), "pyav"])
def test_seconds_are_those_of_the_time_stamps(tmp_path, reader):
    """After one second the average rate is far off."""
    uneven = str(make_uneven_video(tmp_path / "uneven.mp4"))
    shown = [*range(10), *range(10, 60, 5)]  # in tenths of a second
    stretches = [(0.35, 1.2), (1.0, 3.05), (4.9, None), (None, 0.95), (5.6, 5.7), (2.0, 99.0), (None, None)]
    records = [VideoRecord(uneven, start=start, end=end) for start, end in stretches]
    good, bad = check_videos(records, reader=reader, progress=False)
    assert bad == []
    for record, (start, end) in zip(good, stretches, strict=True):
        before = [i for i, time in enumerate(shown) if time <= 10 * (start or 0)]
        until = [i for i, time in enumerate(shown) if end is None or time < 10 * end]
        assert record.frame_range == (before[-1], max(len(until), before[-1] + 1))
    late = VideoRecord(uneven, start=9.0)
    _, bad = check_videos([late], reader=reader, progress=False)
    assert "starts at 9 s but ends at" in bad[0].reason
    video = open_video(uneven, None, reader)
    assert [measured(record, video).frame_range for record in records] == [record.frame_range for record in good]
    even, _ = check_videos(
        [replace(good[0], path=str(tmp_path / "whole.mp4"))], reader=reader, again=True, progress=False
    )
    assert (even[0].first_frame, even[0].stop_frame, even[0].frame_range) == (None, None, (3, 12))


def test_pictures_are_at_the_rate_that_the_manifest_states(tmp_path):
    for number in range(20):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / f"{number:03}.png")
    record = VideoRecord(str(tmp_path), start=1.0, end=3.0, fps=5.0)
    assert check_videos([record], progress=False)[0][0].frame_range == (5, 15)
    assert measured(record, open_video(str(tmp_path))).frame_range == (5, 15)


def test_the_count_of_bad_videos_is_said_at_the_end(caplog):
    tracker = BadVideoTracker(10, 0.5)
    tracker.log_count()
    assert caplog.text == ""
    tracker.update([BadVideo("x.mp4", "torn"), BadVideo("y.mp4", "burnt"), BadVideo("x.mp4", "torn")])
    tracker.log_count()
    assert "2 of 10 videos could not be read" in caplog.records[-1].getMessage()
