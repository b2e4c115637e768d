from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch.utils.data import get_worker_info

from tubeletx_train.common.errors import LoaderError
from tubeletx_train.data import (
    DataConfig,
    DataError,
    EpochSampler,
    NoUsableVideos,
    PairDataset,
    VideoRecord,
    build_loader,
    check_videos,
    scan_folder,
)
from tubeletx_train.data.clips import (
    clip_generator,
    draw_frame_indices,
    draw_random_resized_crop,
    draw_released_crop,
)
from tubeletx_train.data.frames import Sources
from tubeletx_train.data.pairs import resize_frames
from video_files import LEVEL_STEP

# A folder of real footage to try as well.
REAL_VIDEOS = Path(os.environ.get("TUBELETX_TEST_VIDEOS", "no-such-folder"))


@pytest.fixture(scope="module")
def records(videos):
    good, bad = check_videos(scan_folder(videos), progress=False)
    assert not bad
    return good


@pytest.fixture(scope="module")
def config(videos):
    return DataConfig(
        str(videos), num_frames=4, strides=(1, 2), crop_size=32, decode_size=40, num_workers=0, samples_per_video=3
    )


def stub_record(name: str, num_frames: int) -> VideoRecord:
    """A checked record of a file that does not exist."""
    return VideoRecord(f"/none/{name}", num_frames=num_frames, fps=10.0, width=64, height=48)


def same(first, second) -> bool:
    return torch.equal(first.clip_1, second.clip_1) and torch.equal(first.clip_2, second.clip_2)


# ---- draws


@given(
    st.integers(0, 10**6),
    st.integers(1, 200),
    st.integers(1, 32),
    st.lists(st.integers(1, 6), min_size=1, max_size=4),
)
def test_frame_indices_stay_within_the_video(seed, available, num_frames, strides):
    indices = draw_frame_indices(np.random.default_rng(seed), available, num_frames, strides)
    assert indices.shape == (num_frames,)
    assert indices.min() >= 0
    assert indices.max() < available
    assert (np.diff(indices) >= 0).all()
    if available >= num_frames * max(strides):
        assert np.diff(indices).max(initial=1) <= 2 * max(strides) - 1
        assert np.diff(indices).min(initial=1) >= 1


def test_frame_indices_are_drawn_as_stated():
    rng = np.random.default_rng(0)
    drawn = np.stack([draw_frame_indices(rng, 40, 2, (3,)) for _ in range(6000)])
    # Start uniform in 0..36, jitter in 0..2 on each frame, clamped nowhere but at 39.
    expected = Counter()
    for start, jitter in itertools.product(range(37), range(3)):
        expected[start + jitter] += 6000 / (37 * 3)
    found = Counter(drawn[:, 0].tolist())
    assert stats.chisquare([found[i] for i in range(39)], [expected[i] for i in range(39)]).pvalue > 1e-3
    assert set(np.diff(drawn)[:, 0].tolist()) == {1, 2, 3, 4, 5}


def test_strides_are_equally_likely():
    rng = np.random.default_rng(1)
    spans = [np.ptp(draw_frame_indices(rng, 10000, 100, (1, 10))) for _ in range(1000)]
    assert sum(span == 99 for span in spans) == pytest.approx(500, abs=60)


def test_short_videos_repeat_the_last_frame():
    indices = draw_frame_indices(np.random.default_rng(0), 3, 8, (1,))
    assert indices.tolist() == [0, 1, 2, 2, 2, 2, 2, 2]


@given(st.integers(0, 10**6), st.integers(1, 300), st.integers(1, 300), st.booleans())
def test_crops_lie_within_the_frame(seed, width, height, released):
    rng = np.random.default_rng(seed)
    if released:
        box = draw_released_crop(rng, width, height)
    else:
        box = draw_random_resized_crop(rng, width, height, (0.08, 1.0), (0.75, 4 / 3))
    assert 0 <= box.x0 < box.x1 <= width
    assert 0 <= box.y0 < box.y1 <= height


def test_random_resized_crop_keeps_area_and_ratio():
    rng = np.random.default_rng(0)
    boxes = [draw_random_resized_crop(rng, 400, 300, (0.2, 0.4), (0.8, 1.25)) for _ in range(2000)]
    sides = np.array([(b.x1 - b.x0, b.y1 - b.y0) for b in boxes], float)
    area = sides.prod(1) / (400 * 300)
    assert 0.19 < area.min() < 0.21
    assert 0.39 < area.max() < 0.41
    assert stats.kstest(area, stats.uniform(0.2, 0.2).cdf).pvalue > 1e-3
    assert 0.79 < (sides[:, 0] / sides[:, 1]).min() < (sides[:, 0] / sides[:, 1]).max() < 1.27


def test_released_crop_has_three_sizes_swapped_for_portrait():
    for width, height, flip in ((342, 256, False), (256, 342, True)):
        rng = np.random.default_rng(0)
        boxes = [draw_released_crop(rng, width, height) for _ in range(200)]
        sizes = {(b.x1 - b.x0, b.y1 - b.y0) for b in boxes}
        wide = {(round(342 * 112 / w), round(256 * 112 / h)) for w, h in ((149, 112), (171, 128), (192, 144))}
        assert sizes == ({(h, w) for w, h in wide} if flip else wide)


def test_generators_are_a_function_of_all_their_keys():
    keys = [(0, 0, 0, 0, 0), *(tuple(int(i == j) for i in range(5)) for j in range(5)), (0, 2**33, 2**40, 0, 0)]
    draws = [clip_generator(*key).random(4).tolist() for key in keys]
    assert draws == [clip_generator(*key).random(4).tolist() for key in keys]
    assert len({tuple(draw) for draw in draws}) == len(keys)


def test_resize_is_an_antialiased_average():
    frames = np.random.default_rng(0).integers(0, 256, (2, 24, 36, 3), np.uint8)
    constant = np.full((1, 17, 9, 3), 77, np.uint8)
    assert (resize_frames(constant, 12) == 77).all()
    out = resize_frames(frames, 12).double()
    assert out.shape == (2, 12, 12, 3)
    assert out.mean() == pytest.approx(frames.mean(), abs=2)
    assert out.std() < 0.6 * frames.std()  # without antialiasing it would keep the noise
    np.testing.assert_array_equal(
        resize_frames(frames[:, ::-1], 12).numpy(), resize_frames(frames, 12).numpy()[:, ::-1]
    )


# ---- sources


def test_segments_partition_the_stretch():
    record = VideoRecord("/v/a", start=1.0, end=9.0, num_frames=100, fps=10.0)
    segments = Sources([record], 3.0)
    edges = [(s.first, s.first + s.num_frames) for s in segments]
    assert edges == [(10, 37), (37, 63), (63, 90)]
    assert [(s.first, s.num_frames) for s in Sources([record], None)] == [(10, 80)]
    assert len(Sources([stub_record("short", 3)], 3.0)) == 1


# ---- pairs


def test_samples_have_the_stated_form(records, config):
    dataset = PairDataset(records, config)
    assert len(dataset) == 15
    sample = dataset[7]
    assert sample.clip_1.shape == sample.clip_2.shape == (4, 32, 32, 3)
    assert sample.clip_1.dtype == torch.uint8
    assert sample.clip_1.is_contiguous()
    assert (sample.sample_id, sample.epoch, sample.bad) == (7, 0, [])
    assert sample.sources[0] == 7 % 5
    with pytest.raises(IndexError):
        dataset[15]


def test_a_sample_depends_on_its_key_alone(records, config):
    dataset, again = PairDataset(records, config, seed=4), PairDataset(records, config, seed=4)
    keys = [(0, 3), (0, 8), (1, 3), (5, 14)]
    first = [dataset[key] for key in keys]
    second = [again[key] for key in reversed(keys)][::-1]
    assert all(same(a, b) for a, b in zip(first, second, strict=True))
    assert not same(first[0], first[2])  # another epoch
    assert not same(first[0], first[1])  # another visit of the same video
    assert not same(first[0], PairDataset(records, config, seed=5)[0, 3])


def test_partners_are_uniform_over_the_other_videos():
    records = [stub_record(f"{i}", 10) for i in range(4)]
    dataset = PairDataset(records, DataConfig("x", num_workers=0, samples_per_video=500))
    partners = Counter()
    dataset._clip = lambda index, rng: torch.zeros(1)
    for key in range(len(dataset)):
        partners[dataset[key].sources] += 1
    assert len(partners) == 12
    assert all(first != second for first, second in partners)
    assert stats.chisquare(list(partners.values())).pvalue > 1e-3


def test_pairs_within_a_file_only_where_allowed():
    records = [stub_record("a", 40), stub_record("b", 30), stub_record("c", 10)]
    base = DataConfig("x", num_workers=0, samples_per_video=40, segment_seconds=1.0)
    for allowed in (True, False):
        dataset = PairDataset(records, replace(base, same_file_pairs=allowed))
        assert len(dataset.sources) == 8
        dataset._clip = lambda index, rng: torch.zeros(1)
        files = [tuple(dataset.sources[i].record.path for i in dataset[key].sources) for key in range(len(dataset))]
        assert any(first == second for first, second in files) is allowed
        assert len({second for _, second in files}) == 3


def test_temporal_mode_reads_one_video_twice(records, config):
    dataset = PairDataset(records, config, mode="temporal")
    for key in range(5):
        sample = dataset[key]
        assert sample.sources[0] == sample.sources[1] == key
    assert not torch.equal(dataset[1].clip_1, dataset[1].clip_2)


def test_clips_run_forward_and_flip_about_half_the_time(records, config):
    only_b = [record for record in records if record.path.endswith("b.mp4")]
    # The whole frame, so that the grey half shows on one side: on which, tells the flip.
    settings_ = replace(config, crop_area=(1.0, 1.0), crop_ratio=(0.1, 10.0), samples_per_video=60)
    dataset = PairDataset(only_b, settings_, mode="temporal")
    flipped = 0
    for key in range(60):
        clip = dataset[key].clip_1.double()
        halves = clip[:, :, :8].std((1, 2, 3)).mean(), clip[:, :, -8:].std((1, 2, 3)).mean()
        mirrored = bool(halves[0] > halves[1])
        flipped += mirrored
        grey = clip[:, :, -8:] if mirrored else clip[:, :, :8]
        steps = grey.mean((1, 2, 3)).diff() / LEVEL_STEP
        assert ((steps > 0.5) & (steps < 3.5)).all()
    assert 18 <= flipped <= 42


def test_frames_from_memory_equal_frames_from_the_file(records, config):
    plain, cached = PairDataset(records, config), PairDataset(records, replace(config, cache_frames=True))
    assert all(same(plain[key], cached[key]) for key in range(15))


def test_a_cache_that_is_too_large_is_refused_before_decoding():
    records = [stub_record("a", 10**6), stub_record("b", 10**6)]
    with pytest.raises(DataError, match=r"12.72 GB.* cache_limit_gb=2"):
        PairDataset(records, DataConfig("x", decode_size=40, cache_frames=True, num_workers=0))


@pytest.mark.parametrize("cache", [False, True])
@pytest.mark.parametrize("mode", ["tubelet", "temporal"])
def test_unreadable_videos_are_replaced_and_named(records, config, cache, mode):
    lost = [stub_record("lost", 30), stub_record("torn", 30)]
    dataset = PairDataset([*records, *lost], replace(config, cache_frames=cache), mode=mode)
    named = set()
    for key in range(len(dataset)):
        sample = dataset[key]
        named |= {(video.path, video.reason) for video in sample.bad}
        paths = [dataset.sources[source].record.path for source in sample.sources]
        assert not set(paths) & {record.path for record in lost}
        assert (paths[0] != paths[1]) is (mode == "tubelet")
        assert same(sample, dataset[key])
    assert named == {("/none/lost", "no such file"), ("/none/torn", "no such file")}


def test_nothing_usable_is_one_clear_line(config):
    dataset = PairDataset([stub_record("a", 30), stub_record("b", 30)], config)
    with pytest.raises(NoUsableVideos, match="met only unreadable videos"):
        dataset[0]
    for workers in (0, 1):
        dataset = PairDataset([stub_record("a", 30), stub_record("b", 30)], replace(config, num_workers=workers))
        with pytest.raises(NoUsableVideos) as caught:
            next(iter(build_loader(dataset, EpochSampler(len(dataset), 2))))
        assert "\n" not in str(caught.value)
        assert str(caught.value).startswith(config.videos)


def test_impossible_pairs_are_refused(records, config):
    with pytest.raises(NoUsableVideos, match="no videos"):
        PairDataset([], config)
    with pytest.raises(DataError, match="two different videos"):
        PairDataset(records[:1], config)
    with pytest.raises(DataError, match="two different videos"):
        PairDataset([stub_record("a", 90)], replace(config, segment_seconds=1.0, same_file_pairs=False))
    with pytest.raises(ValueError, match="mode: got"):
        PairDataset(records, config, mode="spatial")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_frames", 0),
        ("strides", ()),
        ("strides", (0,)),
        ("crop_size", 0),
        ("decode_size", 0),
        ("crop_area", (0.5, 0.2)),
        ("crop_ratio", (0.0, 1.0)),
        ("flip", 1.5),
        ("segment_seconds", -1.0),
        ("max_bad_share", 2.0),
        ("num_workers", -1),
    ],
)
def test_settings_out_of_range_are_named(name, value):
    with pytest.raises(ValueError, match=name):
        DataConfig("x", **{name: value})


# ---- sampler


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 60), st.integers(1, 8), st.integers(1, 4), st.integers(0, 12))
def test_ranks_share_an_epoch_and_resuming_continues_it(num_samples, batch_size, world_size, start):
    whole = EpochSampler(num_samples, batch_size * world_size, seed=3, stop=start + 6)
    batches = list(whole)
    ranks = [
        list(EpochSampler(num_samples, batch_size, seed=3, rank=r, world_size=world_size, start=start, stop=start + 6))
        for r in range(world_size)
    ]
    joined = [list(itertools.chain(*parts)) for parts in zip(*ranks, strict=True)]
    assert joined == batches[start:]
    for number, batch in enumerate(batches):
        assert len(batch) == batch_size * world_size
        assert {epoch for epoch, _ in batch} == {number // whole.batches_per_epoch}
    for _, group in itertools.groupby(itertools.chain(*batches), key=lambda key: key[0]):
        ids = Counter(sample_id for _, sample_id in group)
        assert set(ids) <= set(range(num_samples))
        assert max(ids.values()) <= max(-(-batch_size * world_size // num_samples), 1)


def test_epochs_are_shuffled_differently_and_by_seed():
    def order(seed: int, epoch: int) -> list[int]:
        sampler = EpochSampler(50, 50, seed=seed, start=epoch, stop=epoch + 1)
        return [sample_id for _, sample_id in next(iter(sampler))]

    orders = [order(0, 0), order(0, 1), order(1, 0)]
    assert all(sorted(o) == list(range(50)) for o in orders)
    assert len({tuple(o) for o in orders}) == 3
    assert order(0, 1) == orders[1]


@pytest.mark.parametrize(("name", "value"), [("num_samples", 0), ("batch_size", 0), ("rank", 1), ("start", -1)])
def test_sampler_refuses_by_name(name, value):
    arguments = {"num_samples": 4, "batch_size": 2} | {name: value}
    with pytest.raises(ValueError, match=name):
        EpochSampler(**arguments)


# ---- loader


def test_batches_are_channels_last_views(records, config):
    dataset = PairDataset(records, config)
    batch = next(iter(build_loader(dataset, EpochSampler(len(dataset), 6, seed=2, start=3))))
    assert batch.clip_1.shape == batch.clip_2.shape == (6, 3, 4, 32, 32)
    assert batch.clip_1.is_contiguous(memory_format=torch.channels_last_3d)
    assert batch.epoch == 1
    assert batch.sample_ids.dtype == torch.int64
    for row, sample_id in enumerate(batch.sample_ids.tolist()):
        sample = dataset[1, sample_id]
        assert torch.equal(batch.clip_2[row].permute(1, 2, 3, 0), sample.clip_2)
        assert tuple(batch.sources[row].tolist()) == sample.sources
    moved = batch.to("cpu")
    assert torch.equal(moved.clip_1, batch.clip_1)


@pytest.mark.parametrize("cache", [False, True])
def test_workers_give_the_same_batches(records, config, cache):
    config = replace(config, cache_frames=cache)
    records = [*records, stub_record("lost", 30)]
    runs = []
    for workers in (0, 2):
        dataset = PairDataset(records, replace(config, num_workers=workers))
        runs.append(list(build_loader(dataset, EpochSampler(len(dataset), 4, stop=7))))
    for plain, parallel in zip(*runs, strict=True):
        assert same(plain, parallel)
        assert torch.equal(plain.sample_ids, parallel.sample_ids)
        assert plain.epoch == parallel.epoch
        assert plain.bad == parallel.bad
    assert any(batch.bad for batch in runs[0])


class DyingDataset(PairDataset):
    """Its worker is killed at the first video."""

    def _clip(self, index, rng):
        with self.reading(index):
            os.kill(os.getpid(), signal.SIGKILL)


class HangingDataset(PairDataset):
    """Its worker hangs after the first batch of two pairs."""

    clips = 0

    def _clip(self, index, rng):
        self.clips += 1
        if self.clips > 4:
            with self.reading(index):
                time.sleep(600)
        return super()._clip(index, rng)


def check_that_a_video_is_named(error, records):
    assert any(record.path in str(error) for record in records)
    assert "\n" not in str(error)


def test_killed_workers_are_a_clear_error_that_names_the_video(records, config, monkeypatch):
    monkeypatch.setattr("tubeletx_train.data.loader._POLL", 0.5)
    dataset = DyingDataset(records, replace(config, num_workers=1))
    with pytest.raises(LoaderError, match=r"exited unexpectedly|killed by signal") as caught:
        next(iter(build_loader(dataset, EpochSampler(len(dataset), 2))))
    check_that_a_video_is_named(caught.value, records)


def test_hanging_workers_are_a_clear_error_that_names_the_video(records, config):
    dataset = HangingDataset(records, replace(config, num_workers=1))
    batches = iter(build_loader(dataset, EpochSampler(len(dataset), 2)))
    next(batches)  # a worker takes its time to start, on a busy machine very much
    deadline = time.monotonic() + 60
    while not dataset.videos_being_read() and time.monotonic() < deadline:
        time.sleep(0.01)
    dataset.config = replace(dataset.config, timeout=1.0)
    with pytest.raises(LoaderError, match="timed out") as caught:
        next(batches)
    check_that_a_video_is_named(caught.value, records)


class TellingDataset(PairDataset):
    """Writes down which processes make its samples."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.pids = torch.zeros(self.config.num_workers, dtype=torch.int64).share_memory_()

    def _clip(self, index, rng):
        self.pids[get_worker_info().id] = os.getpid()
        return super()._clip(index, rng)


def test_torchs_guess_at_the_right_number_of_workers_is_kept_out(records, config, recwarn):
    workers = 1 + (os.cpu_count() or 1)
    dataset = PairDataset(records, replace(config, num_workers=workers))
    build_loader(dataset, EpochSampler(len(dataset), 2, stop=0))
    assert [str(warning.message) for warning in recwarn if "DataLoader" in str(warning.message)] == []


def test_a_worker_killed_in_mid_run_ends_it(records, config, monkeypatch):
    monkeypatch.setattr("tubeletx_train.data.loader._POLL", 0.5)
    dataset = TellingDataset(records, replace(config, num_workers=2))
    batches = iter(build_loader(dataset, EpochSampler(len(dataset), 2)))
    for _ in range(3 * len(dataset) // 2):
        next(batches)
    first, second = dataset.pids.tolist()
    assert first != second
    os.kill(second, signal.SIGKILL)
    # What was made before it died still comes.
    with pytest.raises(LoaderError, match=r"exited unexpectedly|killed by signal"):
        list(itertools.islice(batches, 100))
    assert dataset.pids.tolist() == [first, second]  # the same two through three epochs


_KILLED_RUN = """
import os, signal, sys
from tubeletx_train.data import DataConfig, EpochSampler, PairDataset, build_loader, check_videos, scan_folder

if __name__ == "__main__":
    good, _ = check_videos(scan_folder(sys.argv[1]), progress=False)
    dataset = PairDataset(good, DataConfig(sys.argv[1], num_frames=2, num_workers=2))
    batches = iter(build_loader(dataset, EpochSampler(len(dataset), 2)))
    next(batches)
    print("reading", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_run_leaves_no_process_behind(videos, tmp_path):
    (tmp_path / "run.py").write_text(_KILLED_RUN)
    # Every process of the run holds the pipe: it reads as ended only when the last of them has.
    run = subprocess.run(
        [sys.executable, tmp_path / "run.py", videos],
        stdout=subprocess.PIPE,
        timeout=60,
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert run.stdout == b"reading\n"
    assert run.returncode == -signal.SIGKILL


@pytest.mark.skipif(not REAL_VIDEOS.is_dir(), reason="TUBELETX_TEST_VIDEOS names no folder of videos")
def test_real_videos():
    good, bad = check_videos(scan_folder(REAL_VIDEOS)[::12], progress=False)
    assert not bad
    dataset = PairDataset(good, DataConfig(str(REAL_VIDEOS), num_workers=0))
    for key in range(len(dataset)):
        sample = dataset[key]
        assert sample.clip_1.shape == (16, 112, 112, 3)
        assert sample.bad == []
        assert sample.clip_1.double().std() > 5
