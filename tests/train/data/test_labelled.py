import dataclasses
import logging

import numpy as np
import pytest
import torch

from tubeletx_train.config.labelled import LabelledDataConfig
from tubeletx_train.data import DataError, NoUsableVideos, VideoRecord, check_videos
from tubeletx_train.data.clips import (
    draw_short_side_crop,
    frame_indices,
    last_start,
    linear_starts,
    view_windows,
)
from tubeletx_train.data.labelled import TrainingClips, ViewDataset, collate_clips, collate_views
from tubeletx_train.data.labelled_videos import listed_training_videos, review_splits
from tubeletx_train.data.labels import Targets
from tubeletx_train.data.record import TimedLabel
from tubeletx_train.data.subsets import hold_out
from video_files import frame_level, make_uneven_video, make_video

# Videos of the tests run at 10 frames a second.
TOY = LabelledDataConfig(num_frames=4, fps=5.0, crop_size=16, decode_size=None, test_clips=3, num_workers=0)


def test_a_clip_of_two_seconds_takes_32_frames_at_16_hertz():
    step = 25 / 16  # frames of a video of 25 Hz from one of the clip to the next
    assert last_start(250, 32, step) == 250 - 50
    indices = frame_indices(100.0, 250, 32, step, "loop")
    assert indices.tolist() == [int(100 + i * 25 / 16) for i in range(32)]


def test_short_videos_loop_or_stand_still():
    assert frame_indices(0.0, 3, 8, 1.0, "loop").tolist() == [0, 1, 2, 0, 1, 2, 0, 1]
    assert frame_indices(0.0, 3, 8, 1.0, "hold").tolist() == [0, 1, 2, 2, 2, 2, 2, 2]
    assert frame_indices(0.0, 1, 4, 2.5, "loop").tolist() == [0, 0, 0, 0]


def test_test_clips_are_spaced_from_end_to_end():
    starts = linear_starts(100, 10, 2.0, 5)
    assert starts == [0, 20, 40, 60, 80]
    assert frame_indices(starts[-1], 100, 10, 2.0, "loop").max() == 98
    assert linear_starts(20, 10, 2.0, 5) == [0.0]  # no choice: one clip instead of five equal ones
    assert linear_starts(100, 10, 2.0, 1) == [40.0]


@pytest.mark.parametrize(("width", "height"), [(340, 256), (100, 240), (64, 64), (1, 7)])
def test_windows_lie_in_the_frame(width, height):
    for count in (1, 3):
        boxes = view_windows(width, height, count, 0.875)
        assert len(boxes) == count
        for box in boxes:
            assert 0 <= box.x0 < box.x1 <= width
            assert 0 <= box.y0 < box.y1 <= height
            assert box.x1 - box.x0 == box.y1 - box.y0
    left, _, right = view_windows(340, 256, 3, 1.0)
    assert (left.x0, right.x1) == (0, 340)
    top, middle, bottom = view_windows(100, 240, 3, 1.0)
    assert (top.y0, middle.y0, bottom.y1) == (0, 70, 240)


def test_short_side_windows_have_the_drawn_scale():
    rng = np.random.default_rng(0)
    sides = [box.x1 - box.x0 for box in (draw_short_side_crop(rng, 340, 256, 112, (128, 256)) for _ in range(500))]
    assert min(sides) == pytest.approx(256 * 112 / 256, abs=2)
    assert max(sides) == pytest.approx(256 * 112 / 128, abs=2)
    assert np.mean(sides) == pytest.approx(256 * 112 * (1 / 128 + 1 / 256) / 2, rel=0.03)  # 1 / length is uniform


@pytest.fixture(scope="module")
def checked(tmp_path_factory):
    root = tmp_path_factory.mktemp("labelled")
    make_video(root / "long.mp4", frames=40, tint=(200, 30, 30))
    make_video(root / "short.mp4", frames=3, tint=(30, 200, 30), width=56, height=80)
    records = [VideoRecord(str(root / "long.mp4"), label="a"), VideoRecord(str(root / "short.mp4"), label="b")]
    records.append(VideoRecord(str(root / "long.mp4"), label="c", start=1.0, end=3.0))
    good, bad = check_videos(records, progress=False)
    assert not bad
    return good


def numbers(clip):
    """Which frames of a video these are, read off the grey left half: (T, S, S, 3) to T numbers."""
    return [round((frame[:, :4].float().mean().item() - frame_level(0)) / 4) for frame in clip]


def test_views_show_the_frames_they_should(checked):
    views = ViewDataset(checked, TOY)[0].views
    assert views.shape == (3, 4, 16, 16, 3)
    # Step 2, a clip spans 8 of 40 frames: it starts at 0, 16 and 32.
    assert [numbers(view) for view in views] == [[start + 2 * i for i in range(4)] for start in (0, 16, 32)]


def test_views_of_a_stretch_stay_in_it(checked):
    views = ViewDataset(checked, TOY)[2].views
    assert [numbers(view)[0] for view in views] == [10, 16, 22]
    assert numbers(views[-1])[-1] < 30


def test_views_of_a_short_video_are_one_that_loops(checked):
    batch = collate_views(
        [ViewDataset(checked, TOY)[1], ViewDataset(checked, dataclasses.replace(TOY, test_crops=3))[1]]
    )
    assert batch.places.tolist() == [1, 1, 1, 1]
    assert batch.clip.shape == (4, 3, 4, 16, 16)
    centre = ViewDataset(checked, dataclasses.replace(TOY, test_crop_share=1.0))[1].views[0]
    assert numbers(centre) == [0, 2, 1, 0]


def test_training_clips_are_functions_of_seed_epoch_and_sample(checked):
    targets = Targets("recognition", ["a", "b", "c"])
    clips, again, other = (TrainingClips(checked, targets, TOY, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(clips[2, 0].clip, again[2, 0].clip)
    assert not torch.equal(clips[2, 0].clip, clips[3, 0].clip)
    assert not torch.equal(clips[2, 0].clip, other[2, 0].clip)
    assert [int(clips[0, i].target) for i in range(3)] == [0, 1, 2]
    assert len(TrainingClips(checked, targets, dataclasses.replace(TOY, samples_per_video=5))) == 15
    batch = collate_clips([clips[0, i] for i in range(3)])
    assert batch.clip.shape == (3, 3, 4, 16, 16)
    assert batch.clip.is_contiguous(memory_format=torch.channels_last_3d)


def test_training_clips_are_drawn_from_the_whole_video(checked):
    clips = TrainingClips(
        checked, Targets("recognition", ["a", "b", "c"]), dataclasses.replace(TOY, flip=0, crop_area=(0.99, 1))
    )
    starts = [numbers(clips[epoch, 0].clip)[0] for epoch in range(60)]
    assert min(starts) <= 2
    assert max(starts) >= 30
    assert max(starts) <= 32


def test_unreadable_videos_are_named_and_replaced_by_a_fresh_draw(checked, broken):
    gone = dataclasses.replace(checked[0], path=str(broken / "text.mp4"))
    targets = Targets("recognition", ["a", "b", "c"])
    sample = TrainingClips([gone, *checked[1:]], targets, TOY)[0, 0]
    assert [video.path for video in sample.bad] == [gone.path]
    assert int(sample.target) in (1, 2)
    with pytest.raises(NoUsableVideos, match="text"):
        TrainingClips([gone], targets, TOY)[0, 0]
    views = ViewDataset([gone], TOY)[0]
    assert views.bad is not None
    assert views.bad.path == gone.path
    assert len(views.views) == 0


def test_several_labels_count_where_they_overlap():
    record = VideoRecord("x", labels=(TimedLabel("0", 0.0, 1.0), TimedLabel("2", 2.0, 5.0)))
    targets = Targets("multilabel", ["0", "1", "2"], num_classes=4)
    assert targets.of_video(record).tolist() == [1, 0, 1, 0]
    assert targets.of_stretch(record, 0.5, 1.5).tolist() == [1, 0, 0, 0]
    assert targets.of_stretch(record, 1.2, 1.8).tolist() == [0, 0, 0, 0]
    assert targets.of_stretch(record, 1.0, 2.0).tolist() == [1, 0, 1, 0]
    with pytest.raises(DataError, match="'2' is not one of the 2 classes"):
        Targets("multilabel", ["0", "1"]).of_video(record)


@pytest.mark.parametrize("reader", ["decord", "pyav"])
def test_labels_hold_where_the_time_stamps_say(tmp_path, reader):
    """Frame 10 + i is shown at 1 + i / 2 seconds; by the average rate it would be later."""
    path = str(make_uneven_video(tmp_path / "uneven.mp4"))
    record = VideoRecord(path, labels=(TimedLabel("0", 0.0, 0.95), TimedLabel("1", 1.0, 9.0)))
    (checked,), _ = check_videos([record], reader=reader, progress=False)
    config = dataclasses.replace(TOY, num_frames=1, fps=None, stride=1, flip=0, crop_area=(0.99, 1), reader=reader)
    clips = TrainingClips([checked], Targets("multilabel", ["0", "1"]), config)
    seen = set()
    for epoch in range(60):
        sample = clips[epoch, 0]
        late = numbers(sample.clip)[0] >= 10
        assert sample.target.tolist() == ([0, 1] if late else [1, 0])
        seen.add(late)
    assert seen == {False, True}


def test_labels_must_fit():
    labelled, bare = VideoRecord("x", label="walk"), VideoRecord("y")
    with pytest.raises(DataError, match="y: has no label"):
        Targets.of("recognition", [labelled, bare], TOY)
    with pytest.raises(DataError, match="`labels`"):
        Targets.of("multilabel", [labelled], TOY)
    with pytest.raises(DataError, match=r"2 classes, data\.num_classes says 1"):
        Targets.of("recognition", [labelled, VideoRecord("z", label="run")], dataclasses.replace(TOY, num_classes=1))
    assert Targets.of("recognition", [labelled], dataclasses.replace(TOY, num_classes=3)).num_classes == 3


def test_held_out_videos_are_a_share_of_each_class_and_whole_groups():
    records = [VideoRecord(f"{label}{i}", label=label, group=f"g{i // 3}") for label in "ab" for i in range(30)]
    train, held = hold_out(records, 0.2, seed=1)
    assert sorted(train + held, key=records.index) == records
    for label in "ab":
        groups = [{r.group for r in part if r.label == label} for part in (train, held)]
        assert [len(group) for group in groups] == [8, 2]
        assert not groups[0] & groups[1]
    assert hold_out(records, 0.2, seed=1) == (train, held)
    assert hold_out(records, 0.2, seed=2) != (train, held)
    assert hold_out(records, 0, seed=1) == (records, [])


def test_held_out_videos_without_groups():
    records = [VideoRecord(f"{i}", label=str(i % 3)) for i in range(31)]
    train, held = hold_out(records, 0.1, seed=0)
    assert (len(train), len(held)) == (28, 3)
    assert len({record.label for record in held}) == 3
    single = [VideoRecord("x", label="only")]
    assert hold_out(single, 0.5, seed=0) == (single, [])


def test_low_shot_sets_are_drawn_per_class_and_written_out(tmp_path):
    from tubeletx_train.data import read_manifest, write_manifest

    records = [VideoRecord(str(tmp_path / f"{i}.mp4"), label=str(i % 3), split="train") for i in range(30)]
    write_manifest(tmp_path / "all.csv", records)
    config = LabelledDataConfig(train=str(tmp_path / "all.csv"), per_class=4)
    drawn = listed_training_videos(config, 5, tmp_path / "run")
    assert read_manifest(tmp_path / "run" / "train.csv") == drawn
    assert [sum(r.label == str(c) for r in drawn) for c in range(3)] == [4, 4, 4]
    assert listed_training_videos(config, 6) != drawn
    quarter = listed_training_videos(dataclasses.replace(config, per_class=None, share=0.25), 5)
    assert len(quarter) == 9  # three of ten a class, rounded up
    with pytest.raises(DataError, match=r"data\.train is missing"):
        listed_training_videos(LabelledDataConfig(), 0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"num_frames": 0},
        {"fps": 0.0},
        {"share": 1.5},
        {"share": 0.5, "per_class": 3},
        {"test_crop_share": 0.0},
        {"crop": "short_side", "short_sides": (64, 128)},
        {"crop_area": (0.5, 0.2)},
    ],
)
def test_settings_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        LabelledDataConfig(**wrong)


def labelled(*labels, folder="train", **more):
    return [VideoRecord(f"/{folder}/{place}.mp4", label=label, **more) for place, label in enumerate(labels)]


def test_padded_numbers_are_the_same_classes():
    records = labelled("01", "1", "02")
    targets = Targets.of("recognition", records, LabelledDataConfig())
    assert [targets.index(record) for record in records] == [1, 1, 2]
    with pytest.raises(DataError, match=r"label '07' is not one of the 3 classes \(0, 1, 02\)"):
        targets.index(VideoRecord("x", label="07"))
    review_splits(labelled("01", "02"), labelled("1", "2", folder="test"), None)


def test_what_is_seldom_meant_is_said_before_training(caplog):
    caplog.set_level(logging.INFO)

    def said(train, test, num_classes=None):
        caplog.clear()
        review_splits(train, test, num_classes)
        levels = {record.levelname for record in caplog.records}
        return (
            caplog.text if levels == {"INFO", "WARNING"} else sorted(record.getMessage() for record in caplog.records)
        )

    train, test = labelled("run", "run", "jump"), labelled("run", "jump", folder="test")
    assert said(train, test) == [
        "test: 2 videos of 2 classes, 1 of each",
        "training: 3 videos of 2 classes, 1 to 2 of each",
    ]
    assert "1 of the 3 labels of the test videos are of no training video, and so never right: 'swim'" in said(
        train, labelled("run", "jump", "swim", folder="test")
    )
    assert "data.num_classes is 101, but the videos are of 2 classes" in said(train, test, 101)
    assert "'Run', 'run' are classes of their own, though they differ in case only" in said(
        [*train, *labelled("Run", folder="more")], test
    )
    assert "the label -1, which often stands for none" in said(labelled("0", "-1"), labelled("0", folder="test"))
    numbered = [labelled("1", "2", "9"), labelled("1", folder="test")]
    assert "the indices of classes, from 0 to 9 here: 7 of those have no video (0, 3, 4, 5, 6 ...)" in said(*numbered)
    assert isinstance(said(labelled("0", "1", "2"), labelled("1", folder="test")), list)
    assert "all videos are of one class" in said(labelled("run"), labelled("run", folder="test"))
    assert "training videos listed more than once: '/train/0.mp4' (1 in all)" in said([*train, train[0]], test)
    other = dataclasses.replace(test[0], label="jump")
    assert "test videos listed with different labels: '/test/0.mp4' (1 in all)" in said(train, [*test, other])
    assert "trained and tested on alike: '/train/0.mp4' (1 in all)" in said(train, [*test, train[0]])
    apart = [dataclasses.replace(train[0], start=5.0), dataclasses.replace(train[0], end=5.0)]
    assert isinstance(said([*train[1:], apart[0]], [*test, apart[1]]), list)  # of one file, but nothing in common
    with pytest.raises(DataError, match="are they spelled alike"):
        review_splits(train, labelled("swim"), None)
