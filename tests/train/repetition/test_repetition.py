import csv
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import loadmat, savemat

from tubeletx_train.cli import main
from tubeletx_train.config.parse import parse_config
from tubeletx_train.config.repetition import RepetitionConfig, RepetitionDataConfig
from tubeletx_train.data import read_manifest, write_manifest
from tubeletx_train.data.datasets import DATASETS
from tubeletx_train.evaluation.tables import make_table, read_results
from tubeletx_train.models import build_encoder
from tubeletx_train.repetition.count import count_repetitions, cycle_marks
from tubeletx_train.repetition.dataset import Window, draw_stretch, draw_window
from tubeletx_train.repetition.frames import letterbox
from tubeletx_train.repetition.metrics import counting_metrics
from tubeletx_train.repetition.model import CycleNet, NetworkEstimator, cycle_loss, segment_clips
from tubeletx_train.repetition.offsets import cycle_offsets
from tubeletx_train.repetition.procedure import ORIGINAL, REFINED
from tubeletx_train.repetition.refinement import Refinement
from tubeletx_train.repetition.segments import ANCHORS, AnchorTargets, LengthEstimate, anchor_targets, frame_positions
from video_files import ffmpeg

needs_annotations = pytest.mark.skipif(
    "TUBELETX_TEST_ANNOTATIONS" not in os.environ, reason="TUBELETX_TEST_ANNOTATIONS names no folder of annotations"
)


def ucfrep() -> Path:
    return Path(os.environ["TUBELETX_TEST_ANNOTATIONS"]) / "ucfrep" / "annotations"


def text_labels(folder):
    """The label files, one a class: a video's name, then the line of its boundaries."""
    found = {}
    for path in sorted(folder.glob("*.txt")):
        lines = [line for line in path.read_text().splitlines() if line.strip()]
        for name, marks in zip(lines[::2], lines[1::2], strict=True):
            found[name.strip().lower()] = [int(mark) - 1 for mark in marks.split()]
    return found


@needs_annotations
def test_label_files_give_the_published_counts_and_agree():
    labels = text_labels(ucfrep() / "repetition_label")
    counts = {"train": 421, "val": 105}
    for split, expected in counts.items():
        records = DATASETS["ucfrep"].read(ucfrep(), split, 1)
        assert len(records) == expected
        for record in records:
            assert list(record.boundaries) == labels[record.path.lower()]


@needs_annotations
def test_offsets_equal_those_of_every_label_file():
    paths = [*ucfrep().glob("train/*.mat"), *ucfrep().glob("val/*.mat")]
    assert len(paths) == 526
    for path in paths:
        label = loadmat(path, simplify_cells=True)["label"]
        following, previous = cycle_offsets(label["temporal_bound"].tolist())
        np.testing.assert_array_equal(following, label["offset_next_estimate"], err_msg=path.name)
        np.testing.assert_array_equal(previous, label["offset_pre_estimate"], err_msg=path.name)


def test_offsets_between_repetitions_of_very_different_length_are_unknown():
    following, previous = cycle_offsets([10, 20, 40, 44])
    assert (following == -1).all()
    assert (previous == -1).all()
    assert len(following) == len(previous) == 35


def test_offsets_of_neighbours_within_two_frames_are_known_whatever_their_ratio():
    following, previous = cycle_offsets([0, 4, 10])
    # Phase p of the first is at 4 + 6 p: 4, 5.5, 7, 8.5, which is 4, 4.5, 5 and 5.5 frames later.
    assert following.tolist() == [4, 5, 5, 6, *[-1] * 7]
    assert previous.tolist() == [*[-1] * 4, 4, 4, 5, 5, 5, 6, 6]
    for marks in ([3], [0, 4, 4], []):
        with pytest.raises(ValueError, match="two or more increasing"):
            cycle_offsets(marks)


def reference_targets(length, truth):
    """One side of one pair of segments, in plain Python."""
    matches, scales = [], []
    for anchor in ANCHORS:
        if truth <= 0:
            matches.append(-1)
            scales.append(np.nan)
            continue
        overlap = min(truth, anchor * length) / max(truth, anchor * length)
        matches.append(int(overlap >= 0.5))
        scales.append(np.log(truth / (anchor * length)) if overlap >= 0.5 else np.nan)
    return matches, scales


def test_targets_equal_a_plain_version():
    rng = np.random.default_rng(0)
    lengths = rng.uniform(2, 60, (50, 2))
    truth = rng.integers(-1, 80, (50, 2))
    targets = anchor_targets(torch.from_numpy(lengths), torch.from_numpy(truth))
    for row in range(50):
        for side in (0, 1):
            matches, scales = reference_targets(lengths[row, side], truth[row, side])
            assert targets.matches[row, side].tolist() == matches
            np.testing.assert_allclose(targets.log_scales[row, side], scales, rtol=1e-5, atol=1e-6)


def test_estimates_undo_targets():
    lengths = torch.tensor([[10.0, 20.0], [30.0, 8.0]])
    truth = torch.tensor([[13, 25], [21, 8]])
    targets = anchor_targets(lengths, truth)
    closeness = torch.where(targets.log_scales.isnan(), -1.0, 1 - targets.log_scales.abs())
    estimate = LengthEstimate(closeness, targets.log_scales.nan_to_num())
    torch.testing.assert_close(estimate.lengths(lengths), truth.double(), rtol=1e-5, atol=1e-4)
    wild = LengthEstimate(closeness, torch.full_like(closeness, 9.0))
    assert (wild.lengths(lengths) <= 2 * lengths * np.exp(0.5) + 1e-6).all()


def test_positions_cover_each_segment_and_as_much_again():
    positions = frame_positions(torch.tensor([9]), torch.tensor([[4.0, 6.0]]), 8)[0].tolist()
    assert positions[:8] == list(range(2, 10))
    assert positions[8] == 10
    assert positions[-1] == 21
    assert positions == sorted(positions)


def test_clips_show_the_frames_asked_for_and_the_mean_colour_outside():
    frames = torch.arange(20, dtype=torch.uint8)[:, None, None, None].expand(-1, 4, 4, 3) * 10
    clips = segment_clips([frames, frames[:12]], torch.tensor([9, 9]), torch.tensor([[8.0, 4.0]] * 2), 16)
    assert clips.shape == (2, 3, 32, 4, 4)
    positions = np.array([*range(-6, 10), *np.rint(np.linspace(10, 17, 16)).astype(int)])
    mean, deviation = 0.485, 0.229
    expected = np.where((positions >= 0) & (positions < 20), (positions * 10 / 255 - mean) / deviation, 0)
    np.testing.assert_allclose(clips[0, 0, :, 0, 0], expected, atol=1e-4)
    assert (clips[1, :, 16:][:, positions[16:] >= 12] == 0).all()


def reference_loss(logits, log_scales, matches, wanted, weight):
    logits, log_scales, matches, wanted = (x.numpy().astype(np.float64) for x in (logits, log_scales, matches, wanted))
    total = 0.0
    for side in (0, 1):
        entropies, distances = [], []
        for row in range(len(matches)):
            for anchor in range(len(ANCHORS)):
                match = int(matches[row, side, anchor])
                if match >= 0:
                    pair = logits[row, side, anchor]
                    entropies.append(np.log(np.exp(pair).sum()) - pair[match])
                gap = abs(log_scales[row, side, anchor] - wanted[row, side, anchor])
                distances.append(0.0 if np.isnan(gap) else 0.5 * gap**2 if gap < 1 else gap - 0.5)
        total += np.mean(entropies) + weight * np.mean(distances)
    return total


def test_loss_equals_a_plain_version_and_is_zero_where_nothing_is_known():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 2, 7, 2, generator=generator)
    log_scales = torch.randn(6, 2, 7, generator=generator) * 2
    truth = torch.tensor([[10, 12], [-1, 9], [30, -1], [7, 7], [5, 80], [12, 11]])
    targets = anchor_targets(torch.full((6, 2), 10.0), truth)
    loss = cycle_loss(logits, log_scales, targets, 50.0)
    expected = reference_loss(logits, log_scales, targets.matches, targets.log_scales, 50.0)
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    logits.requires_grad_(True)
    unknown = AnchorTargets(torch.full((6, 2, 7), -1), torch.full((6, 2, 7), torch.nan))
    nothing = cycle_loss(logits, log_scales, unknown, 50.0)
    nothing.backward()
    assert nothing.item() == 0
    assert logits.grad.abs().max() == 0


class Oracle:
    """Knows the boundaries, and answers as a network would that is never wrong."""

    def __init__(self, *videos):
        self.offsets = [cycle_offsets(marks) for marks in videos]
        self.calls = 0
        self.clips = 0

    def __call__(self, videos, middles, lengths):
        self.calls += 1
        self.clips += len(videos)
        truth = torch.empty(len(videos), 2)
        for row, (video, middle) in enumerate(zip(videos.tolist(), middles.tolist(), strict=True)):
            following, previous = self.offsets[video]
            truth[row, 0] = previous[middle]
            truth[row, 1] = following[min(middle + 1, len(following) - 1)]
        # Where there is no such repetition it answers something longer than the video, as it would have to be.
        truth[truth < 0] = 1e6
        anchors = lengths.double()[..., None] * torch.tensor(ANCHORS)
        ratio = truth[..., None] / anchors
        return LengthEstimate(torch.minimum(ratio, 1 / ratio).float(), ratio.log().float())


def marks_of(lengths, start=0):
    return [start, *(start + np.cumsum(lengths)).tolist()]


@pytest.mark.parametrize("count", [3, 4, 5, 7, 10, 15, 22, 30])
@pytest.mark.parametrize("period", [8, 13, 30])
def test_an_oracle_is_led_to_the_exact_count(count, period):
    marks = marks_of([period] * count)
    (found,) = count_repetitions(Oracle(marks), [marks[-1] + 1])
    assert found.count == count
    assert found.middles.shape == (31,)
    assert (found.middles.diff() >= 0).all()


def test_an_oracle_counts_repetitions_of_changing_length_and_many_videos_in_13_calls():
    rng = np.random.default_rng(1)
    videos = [marks_of(rng.integers(18, 24, count), start=0) for count in (4, 6, 9, 14, 25)]
    oracle = Oracle(*videos)
    found = count_repetitions(oracle, [marks[-1] + 1 for marks in videos])
    assert [count.count for count in found] == [4, 6, 9, 14, 25]
    assert oracle.calls == 13
    assert oracle.clips <= 74 * len(videos)
    for video, marks in enumerate(videos):  # as each would be counted alone
        (alone,) = count_repetitions(Oracle(marks), [marks[-1] + 1])
        assert alone.count == found[video].count
        edges = cycle_marks(alone)
        assert edges == sorted(edges)
        assert abs(len(edges) - 1 - alone.count) <= 1


@pytest.mark.parametrize("num_frames", [1, 2, 3, 5, 9])
def test_the_shortest_videos_have_a_count(num_frames):
    class Unsure:
        def __call__(self, videos, middles, lengths):
            return LengthEstimate(torch.full((len(videos), 2, 7), 0.5), torch.zeros(len(videos), 2, 7))

    (found,) = count_repetitions(Unsure(), [num_frames])
    assert 0 <= found.count <= num_frames
    assert count_repetitions(Unsure(), []) == []
    with pytest.raises(ValueError, match="every video needs a frame"):
        count_repetitions(Unsure(), [5, 0])


def test_passes_of_a_network_are_batched_without_gradients():
    torch.manual_seed(0)
    net = CycleNet(build_encoder("r2plus1d_10", 2), side_frames=4)
    frames = [torch.randint(0, 256, (size, 16, 16, 3), dtype=torch.uint8) for size in (40, 61)]
    whole, parts = (NetworkEstimator(net, frames, clips_per_pass=size) for size in (64, 7))
    first, second = (count_repetitions(estimator, [40, 61]) for estimator in (whole, parts))
    assert whole.passes == 13
    assert parts.passes > 13
    assert not first[0].lengths.requires_grad
    torch.testing.assert_close(first[0].lengths, second[0].lengths, rtol=1e-3, atol=1e-3)


def window_of(marks, size=None, repetitions=None):
    frames = torch.zeros(marks[-1] + 1 if size is None else size, 1, 1, 3, dtype=torch.uint8)
    return Window(frames, tuple(marks), repetitions or len(marks) - 1, 0, 0, [])


def perfect(refinement):
    """The estimate of a network that is never wrong; where nothing is known, that the lengths are right."""
    truth = refinement.true_lengths().double()
    truth = truth.where(truth > 0, refinement.lengths)
    ratio = truth[..., None] / (refinement.lengths[..., None] * torch.tensor(ANCHORS))
    return LengthEstimate(torch.minimum(ratio, 1 / ratio), ratio.log())


def test_the_original_walk_starts_in_the_first_repetition_and_advances_by_the_window():
    # Marks beyond a window's ends tell the lengths of the repetitions that it cuts.
    marks, size = [-7, 5, 17, 29, 41, 53, 65], 61
    for seed in range(60):
        refinement = Refinement([window_of(marks, size, 5)], ORIGINAL, np.random.default_rng(seed))
        middle, length = int(refinement.middles[0]), float(refinement.lengths[0, 0])
        assert refinement.lengths[0, 1] == length
        begin = middle - length + 1
        assert 0 <= begin < 12
        assert middle + length < size
        assert refinement.true_lengths().tolist() == [[13 if middle >= 5 else -1, 13 if middle + 1 < 53 else -1]]
        before = middle
        refinement.advance(perfect(refinement))
        moved = int(refinement.middles[0])
        if float(refinement.lengths[0, 0]) == pytest.approx(13, abs=1e-6) and moved > before:
            assert 61 // 20 <= moved - before <= 61 // 5  # the window's share, whatever the repetition's length


def test_training_believes_larger_corrections_in_the_original_procedure():
    for procedure, factor in ((ORIGINAL, np.exp(2)), (REFINED, np.exp(0.5))):
        refinement = Refinement([window_of(marks_of([10] * 40))], procedure, np.random.default_rng(1))
        before = refinement.lengths.clone()
        scores = torch.zeros(1, 2, 7)
        scores[..., 3] = 1
        refinement.advance(LengthEstimate(scores, torch.full((1, 2, 7), 9.0)))
        torch.testing.assert_close(refinement.lengths, before * factor)


def test_original_windows_are_cut_at_any_frame_and_once():
    marks = marks_of([20, 25, 30, 20, 200, 190], start=3)
    rng = np.random.default_rng(0)
    drawn = [draw_stretch(rng, marks, 300) for _ in range(500)]
    assert all(3 <= first < last <= marks[-1] and last - first < 300 for first, last, _ in drawn)
    assert {repetitions for *_, repetitions in drawn} == {2, 3, 4, 5, 6, 7}
    assert len({first for first, *_ in drawn} - set(marks)) > 50


def test_an_oracle_that_is_asked_as_the_original_code_asks():
    for count in (4, 7, 15):
        marks = marks_of([13] * count)
        oracle = Oracle(marks)
        (found,) = count_repetitions(oracle, [marks[-1] + 1], unit_refinement=True)
        assert (found.count, oracle.calls) == (count, 13)


def test_training_segments_stay_in_their_windows_and_follow_the_estimates():
    windows = [window_of(marks_of(lengths)) for lengths in ([10] * 6, [7, 8, 9], [30, 31])]
    refinement = Refinement(windows, REFINED, np.random.default_rng(0))
    sizes = torch.tensor([len(window.frames) for window in windows])
    known = 0
    for _ in range(200):
        assert (refinement.middles >= 0).all()
        assert (refinement.middles <= sizes - 2).all()
        assert (refinement.lengths >= 2).all()
        truth = refinement.true_lengths()
        known += int((truth > 0).sum())
        anchors = refinement.lengths[..., None] * torch.tensor(ANCHORS)
        ratio = truth.clamp(min=1)[..., None] / anchors
        refinement.advance(LengthEstimate(torch.minimum(ratio, 1 / ratio), ratio.log()))
    assert known > 600
    torch.testing.assert_close(refinement.lengths[0], torch.tensor([10.0, 10.0]).double(), rtol=0, atol=8)


def test_windows_hold_two_repetitions_and_no_more_frames_than_allowed():
    marks = marks_of([20, 25, 30, 20, 200, 190])
    rng = np.random.default_rng(0)
    windows = [draw_window(rng, marks, 80) for _ in range(300)]
    assert all(last - first < 80 or repetitions == 2 for first, last, repetitions in windows)
    assert {first for first, *_ in windows} == set(marks[:-2])
    assert {repetitions for *_, repetitions in windows} == {2, 3}
    assert all(marks.index(last) - marks.index(first) == repetitions for first, last, repetitions in windows)


def test_letterboxing_keeps_the_whole_frame_in_its_proportions():
    frames = np.full((2, 30, 60, 3), 200, np.uint8)
    boxed = letterbox(frames, 24)
    assert boxed.shape == (2, 24, 24, 3)
    assert (boxed[:, 6:18] == 200).all()
    assert (boxed[:, :6] == 0).all()
    assert (boxed[:, 18:] == 0).all()
    assert letterbox(frames[:, :, :1], 24).shape == (2, 24, 24, 3)


def test_metrics():
    metrics = counting_metrics([4, 12, 5], [4, 10, 8])
    assert metrics["mean_error"] == pytest.approx((0 + 0.2 + 3 / 8) / 3)
    assert metrics["off_by_one_accuracy"] == pytest.approx(1 / 3)
    assert metrics["over_count"] + metrics["under_count"] == pytest.approx(metrics["mean_error"])
    for found, truth in (([], []), ([1], [1, 2]), ([1], [0])):
        with pytest.raises(ValueError, match="true_counts: got"):
            counting_metrics(found, truth)


def write_periodic_video(path, period, count, seed):
    """A square that goes up and down `count` times."""
    rng = np.random.default_rng(seed)
    num_frames = period * count + 1
    frames = np.full((num_frames, 24, 32, 3), rng.integers(0, 100, 3), np.uint8)
    left = int(rng.integers(4, 20))
    for index in range(num_frames):
        top = round(8 + 7 * np.sin(2 * np.pi * index / period))
        frames[index, top : top + 8, left : left + 8] = 230
    path.parent.mkdir(parents=True, exist_ok=True)
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", "32x24", "-r", "25", "-i", "-"]
    ffmpeg(*raw, "-c:v", "mpeg4", "-q:v", "2", str(path), stdin=frames.tobytes())
    return [1 + period * index for index in range(count + 1)]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Videos as UCF101 has them, and label files as UCFRep has them."""
    root = tmp_path_factory.mktemp("ucfrep")
    for place in range(5):
        split = "train" if place < 3 else "val"
        name = f"v_Square_g{place:02d}_c01"
        marks = write_periodic_video(root / "videos" / "Square" / f"{name}.avi", 8 + place, 4, place)
        label = {"temporal_bound": np.array(marks, np.uint16), "duration": marks[-1], "start_frame": 1}
        (root / split).mkdir(exist_ok=True)
        savemat(root / split / f"{name}.mat", {"label": label})
    manifest = root / "ucfrep.csv"
    assert main(["manifest", "ucfrep", "--root", str(root), "--output", str(manifest)]) == 0
    return manifest


TOY = [
    *("--data.frame_size", "16", "--data.num_workers", "0", "--data.windows_per_video", "2"),
    *("--model.encoder", "r2plus1d_10", "--model.width", "2", "--model.side_frames", "4", "--optim.batch_size", "2"),
    *("--optim.steps", "2", "--refinements", "2", "--run.device", "cpu", "--run.log_every", "1"),
    *("--run.tensorboard", "false", "--checkpoint", "scratch"),
]


def train(dataset, output, *more):
    arguments = ["count", "train", "--config", "downstream/ucfrep", "--data.train", str(dataset), *TOY]
    return main([*arguments, "--run.output", str(output), *more])


def test_train_test_and_count_end_to_end(dataset, tmp_path, capsys):
    output = tmp_path / "run"
    assert train(dataset, output) == 0
    assert "mean error" in capsys.readouterr().out
    results = json.loads((output / "results.json").read_text())
    assert (results["experiment"], results["train_videos"], results["test_videos"]) == ("ucfrep", 3, 2)
    assert [value["marked"] for value in results["counts"]] == [4, 4]
    metrics = results["metrics"]
    assert counting_metrics([value["counted"] for value in results["counts"]], [4, 4]) == metrics
    losses = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in losses] == [1, 2]
    assert all(np.isfinite(entry["loss"]) for entry in losses)

    model = str(output / "model.pt")
    # The folder of the run stands for it.
    assert (
        main(["count", "test", "--checkpoint", str(output), "--output", str(tmp_path / "test"), "--device", "cpu"]) == 0
    )
    assert json.loads((tmp_path / "test" / "results.json").read_text())["metrics"] == metrics

    video = next(dataset.parent.glob("videos/Square/*g03*.avi"))
    arguments = ["count", "videos", "--checkpoint", model, "--device", "cpu", "--output", str(tmp_path / "pictures")]
    capsys.readouterr()
    assert main([*arguments, "--videos", str(video)]) == 0
    count, path, picture = capsys.readouterr().out.strip().split("\t")
    assert int(count) >= 0
    assert path == str(video)
    assert Path(picture).read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize("protocol", ["paper", "released"])
def test_recipes_hold_the_settings_of_the_paper(protocol):
    name = "downstream/ucfrep" if protocol == "paper" else "downstream/released/ucfrep"
    options = ["--config", name, "--data.train", "x.csv", "--checkpoint", "scratch"]
    config = parse_config(RepetitionConfig, options, prog="count train")
    assert config.protocol == protocol
    assert (config.optim.lr, config.optim.epochs, config.optim.batch_size) == (5e-5, 100, 32)
    assert (config.data.frame_size, config.model.side_frames) == (112, 16)
    plain = RepetitionConfig(checkpoint="scratch", data=RepetitionDataConfig(train="x.csv"))
    assert (config.optim, config.data, config.model) == (plain.optim, plain.data, plain.model)


def test_results_fill_the_papers_table(dataset, tmp_path):
    assert train(dataset, tmp_path) == 0
    results = read_results(tmp_path)
    standard = [{**result, "encoder": "r2plus1d_18", "width": 64} for result in results]
    table = make_table("table7", standard)
    (column,) = (place for place, title in enumerate(table.columns) if title.startswith("UCF-RC"))
    assert table.rows["None"][column].mean == pytest.approx(results[0]["metrics"]["mean_error"])


def test_a_resumed_run_ends_with_the_same_weights(dataset, tmp_path):
    assert train(dataset, tmp_path / "whole", "--optim.steps", "4", "--run.checkpoint_every", "2") == 0
    (tmp_path / "resumed" / "checkpoints").mkdir(parents=True)
    half = tmp_path / "whole" / "checkpoints" / "step-00000002.pt"
    (tmp_path / "resumed" / "checkpoints" / half.name).write_bytes(half.read_bytes())
    assert train(dataset, tmp_path / "resumed", "--optim.steps", "4") == 0
    assert train(dataset, tmp_path / "again", "--optim.steps", "4") == 0  # the seed decides the first weights too
    first, *others = (torch.load(tmp_path / name / "model.pt")["counter"] for name in ("whole", "resumed", "again"))
    for other in others:
        assert all(torch.equal(first[name], other[name]) for name in first)


def test_a_message_that_the_videos_changed_says_which_went(dataset, tmp_path, capsys):
    assert train(dataset, tmp_path) == 0
    records = read_manifest(dataset)
    write_manifest(dataset.parent / "fewer.csv", records[1:])
    capsys.readouterr()
    assert train(dataset.parent / "fewer.csv", tmp_path, "--optim.steps", "3") == 2
    assert f"(0 came, 1: {Path(records[0].path).name} went)" in capsys.readouterr().err


def test_unreadable_training_videos_are_counted_at_the_end(dataset, tmp_path, caplog):
    records = read_manifest(dataset)
    torn = dataset.parent / "torn.avi"
    torn.write_bytes(b"no video" * 100)
    first = next(record for record in records if record.split == "train")
    write_manifest(dataset.parent / "torn.csv", [*records, replace(first, path=str(torn))])
    assert train(dataset.parent / "torn.csv", tmp_path, "--data.max_bad_share", "0.5") == 0
    assert "1 of 4 videos could not be read; they are named above" in caplog.text


def test_the_released_protocol_keeps_the_weights_that_test_best(dataset, tmp_path):
    more = ("--protocol", "released", "--run.evaluate_every", "1", "--optim.steps", "3", "--optim.lr", "0.01")
    assert train(dataset, tmp_path, *more) == 0
    results = json.loads((tmp_path / "results.json").read_text())
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    entries = [entry for line in lines if "evaluation/mean_error" in (entry := json.loads(line))]
    looks = {entry["step"]: entry["evaluation/mean_error"] for entry in entries}
    assert len(looks) == 3
    assert results["metrics"]["mean_error"] == min(looks.values()) == looks[results["chosen_step"]]


def test_unreadable_test_videos_are_named(dataset, tmp_path, capsys):
    rows = list(csv.DictReader(dataset.open()))
    for row in rows:
        row["path"] = str(dataset.parent / row["path"])
    broken = tmp_path / "v_Square_g09_c01.avi"
    broken.write_bytes(b"no video" * 100)
    manifest = tmp_path / "list.csv"
    with manifest.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows([*rows, {**rows[-1], "path": str(broken)}])
    assert train(manifest, tmp_path / "run") == 2
    assert "v_Square_g09_c01.avi" in capsys.readouterr().err
    assert train(manifest, tmp_path / "run", "--data.allow_unreadable", "true") == 0
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["test_videos"] == 2
    assert "v_Square_g09_c01.avi" in results["unreadable"][0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["count"], "usage: "),
        (["count", "trian"], "did you mean 'count train'"),
        (["count", "videos", "--checkpoint", "/nowhere.pt", "--videos", "x"], "/nowhere.pt"),
        (["count", "train", "--checkpoint", "scratch", "--data.train", "/nowhere.csv"], "/nowhere.csv"),
    ],
)
def test_mistakes_end_with_code_2(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert message in captured.err + captured.out


def test_manifests_without_marks_are_refused(videos, tmp_path, capsys):
    manifest = tmp_path / "list.csv"
    manifest.write_text(f"path,split\n{videos / 'a.mp4'},train\n{videos / 'a.mp4'},val\n")
    assert train(manifest, tmp_path / "run") == 2
    assert "boundaries" in capsys.readouterr().err


def test_folders_of_all_sorts_of_videos_are_counted_and_broken_ones_left_out(
    dataset, videos, broken, tmp_path, capsys, caplog
):
    assert train(dataset, tmp_path / "run") == 0
    model = tmp_path / "run" / "model.pt"
    folder = tmp_path / "videos"
    folder.mkdir()
    for source in (videos / "a.mp4", videos / "one.mp4", videos / "été, naïve vidéo.mp4", broken / "noise.mp4"):
        (folder / source.name).write_bytes(source.read_bytes())
    arguments = ["count", "videos", "--device", "cpu", "--output", str(tmp_path / "pictures"), "--checkpoint"]
    capsys.readouterr()
    assert main([*arguments, str(model), "--videos", str(folder)]) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [Path(path).name for _, path, _ in lines] == ["a.mp4", "one.mp4", "été, naïve vidéo.mp4"]
    assert len({picture for *_, picture in lines}) == 3
    assert "noise.mp4" in caplog.text
    assert main([*arguments, str(model), "--videos", str(folder / "noise.mp4")]) == 2
    checkpoint = tmp_path / "run" / "checkpoints" / "step-00000002.pt"
    assert main([*arguments, str(checkpoint), "--videos", str(folder)]) == 2
    assert "model.pt" in capsys.readouterr().err


def test_marks_past_the_end_of_a_video_are_reported(dataset, tmp_path, capsys):
    rows = list(csv.DictReader(dataset.open()))
    rows[-1]["boundaries"] = "0 20 5000"
    manifest = dataset.parent / "past.csv"
    with manifest.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    assert train(manifest, tmp_path) == 2
    error = capsys.readouterr().err
    assert Path(rows[-1]["path"]).name in error
    assert (
        "past.csv: the column boundaries marks frames past the end of 1 videos; marks are frame numbers from 0" in error
    )
    assert "and a mark at 5000" in error
    assert not (tmp_path / "checkpoints").exists()  # said before the training, not after it


def test_parts_of_one_video_and_files_of_one_name_are_counted_apart(dataset, tmp_path):
    rows = list(csv.DictReader(dataset.open()))
    tests = [row for row in rows if row["split"] == "val"]
    other = tmp_path / "other" / Path(tests[0]["path"]).name
    other.parent.mkdir()
    other.write_bytes((dataset.parent / tests[0]["path"]).read_bytes())
    marks = tests[0]["boundaries"].split()
    rows += [tests[0] | {"path": str(other)}, tests[0] | {"boundaries": " ".join(marks[:3])}]
    manifest = dataset.parent / "twice.csv"
    with manifest.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    assert train(manifest, tmp_path / "run") == 0
    counts = json.loads((tmp_path / "run" / "results.json").read_text())["counts"]
    assert [count["marked"] for count in counts] == [4, 4, 4, 2]
    assert len({(count["path"], count["marked"]) for count in counts}) == 4
