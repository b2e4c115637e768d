"""The three things `tubeletx-train count` does: train and test a counter, test one, count in any video."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from tubeletx_train.common.checkpoint import (
    MODEL_FILE,
    CheckpointError,
    checkpoint_file,
    load_checkpoint,
    save_checkpoint,
)
from tubeletx_train.common.device import resolve_device
from tubeletx_train.common.files import writable_folder
from tubeletx_train.common.machine import made_on
from tubeletx_train.config.parse import config_from_checkpoint, config_from_tree
from tubeletx_train.config.pretrain import ModelConfig
from tubeletx_train.config.repetition import CountTestConfig, CountVideosConfig, RepetitionConfig
from tubeletx_train.config.tree import to_tree
from tubeletx_train.data import DataError, VideoError, VideoRecord, load_videos, measured, open_video
from tubeletx_train.data.labelled_videos import TestVideos, check_test_videos, check_training_videos
from tubeletx_train.engine.loop import TrainingResult, run_training
from tubeletx_train.engine.run import open_run
from tubeletx_train.evaluation.results import write_results
from tubeletx_train.models.classifier import load_pretrained
from tubeletx_train.models.weights import build_from_settings
from tubeletx_train.repetition.count import Count, count_repetitions
from tubeletx_train.repetition.frames import read_letterboxed
from tubeletx_train.repetition.model import CycleNet, NetworkEstimator
from tubeletx_train.repetition.picture import count_picture
from tubeletx_train.repetition.procedure import procedure_of
from tubeletx_train.repetition.records import CountedVideos, count_records
from tubeletx_train.repetition.task import RepetitionTraining

_logger = logging.getLogger(__name__)

_MODE = "repetition"
_INDEX_FILE = "videos.json"

# Frames of a video that are looked at: of longer ones every second, third, ..., which changes no count as long as a
# repetition keeps a few frames.
_MAX_FRAMES = 2048


def train_counter(config: RepetitionConfig) -> tuple[TrainingResult, dict[str, float]]:
    """Train (or go on with it), test, and write results.json and model.pt.

    Returns:
        How the run ended, and the metrics of the test; none where a signal ended it early.

    Raises:
        UsageError, DataError: The input cannot be used; one line says why.
        NonFiniteError: The loss or the gradient became NaN or infinite.
    """
    data = config.data
    with open_run(config.run) as run:
        # What is wrong with these is said before the videos are looked at, which takes its time.
        run.ranks.share(config.optim.batch_size, "optim.batch_size")
        load_pretrained(config.checkpoint, config.model, quiet=True)
        with run.ranks.main_first():
            index = run.output / _INDEX_FILE
            train, bad_videos = check_training_videos(load_videos(data.train, data.train_split), data, index)
            _require_marks_inside(data.train, train)
            test = _marked_test_videos(data.test or data.train, data.test_split, config, index)
        task = RepetitionTraining(config, run, train, test.records, bad_videos)
        result = run_training(task, run)
        if run.ranks.is_main:
            bad_videos.log_count()
        if result.exit_code:
            return result, {}
        step = task.take_best()
        counted = task.count(test.records, "counting")
        if run.ranks.is_main:
            state = {
                "counter": task.net.state_dict(),
                "encoder": to_tree(task.pretrained.settings),
                "source": task.pretrained.source,
                "train_videos": len(task.records),
                "config": to_tree(config),
                "made": made_on(run.device, str(task.optimization.settled)),
            }
            save_checkpoint(state, run.output / MODEL_FILE)
            _write(
                run.output,
                config,
                state,
                test,
                counted,
                device=run.device,
                precision=str(task.optimization.settled),
                chosen_step=step,
            )
        return result, counted.metrics


def _marked_test_videos(path: str, split: str | None, config: RepetitionConfig, index: Path) -> TestVideos:
    listed = load_videos(path, split)
    unmarked = [record.path for record in listed if len(record.boundaries) < 2]
    if unmarked:
        raise DataError(
            f"{path}: {len(unmarked)} of {len(listed)} test videos have no repetition in the column boundaries "
            f"(the first: {unmarked[0]})"
        )
    least = procedure_of(config).least_repetitions
    counted = [record for record in listed if len(record.boundaries) > least]
    if len(counted) < len(listed):
        _logger.warning(
            "%s: %d of %d test videos have fewer than %d repetitions and are left out, as the original code does",
            path,
            len(listed) - len(counted),
            len(listed),
            least,
        )
    test = check_test_videos(counted, config.data, index)
    _require_marks_inside(path, test.records)
    return test


def _require_marks_inside(path: str, records: Sequence[VideoRecord]) -> None:
    """Raises DataError where a checked video ends before its last mark: the list is wrong, not the video."""
    past = [
        f"{record.path} has {record.num_frames:,} frames and a mark at {record.boundaries[-1]}"
        for record in records
        if record.boundaries and record.num_frames and record.boundaries[-1] >= record.num_frames
    ]
    if past:
        raise DataError(
            f"{path}: the column boundaries marks frames past the end of {len(past)} videos; marks are frame numbers "
            f"from 0, so that the last possible one is the number of frames less 1: {past[0]}"
        )


def _write(
    folder: Path,
    config: RepetitionConfig,
    state: dict[str, Any],
    test: TestVideos,
    counted: CountedVideos,
    *,
    device: torch.device,
    precision: str,
    **extra: object,
) -> None:
    write_results(
        folder,
        config,
        method=config.method or state["source"],
        mode=_MODE,
        encoder=config_from_tree(ModelConfig, state["encoder"], "the counter"),
        seed=config.run.seed,
        metrics=counted.metrics,
        train_videos=state["train_videos"],
        test_videos=len(counted.counts),
        num_classes=0,
        device=device,
        precision=precision,
        unreadable=[*test.unreadable, *counted.unreadable],
        counts=[asdict(video) for video in counted.counts],
        **extra,
    )


def evaluate_counter(config: CountTestConfig) -> dict[str, float]:
    """Test a trained counter on marked videos, and write results.json.

    Raises:
        UsageError: The checkpoint or the videos cannot be used.
    """
    output = writable_folder(config.output)
    device = resolve_device(config.device)
    counter = load_counter(config.checkpoint, device)
    trained = counter.config
    data = replace(trained.data, allow_unreadable=config.allow_unreadable, num_workers=config.num_workers)
    trained = replace(trained, data=data)
    path = config.videos or data.test or data.train
    split = config.split or (data.test_split if config.videos is None else None)
    test = _marked_test_videos(path, split, trained, output / _INDEX_FILE)
    counted = count_records(
        counter.net,
        test.records,
        data,
        frame_size=data.frame_size,
        videos_per_pass=trained.videos_per_pass,
        clips_per_pass=config.clips_per_pass,
        unit_refinement=procedure_of(trained).unit_refinement,
        progress="counting",
    )
    _write(
        output,
        trained,
        counter.state,
        test,
        counted,
        device=device,
        precision="float32",
        tested=config.checkpoint,
        videos=path,
    )
    return counted.metrics


def count_videos(config: CountVideosConfig) -> list[tuple[str, Count, Path]]:
    """Count the repetitions in videos, and draw each with its repetitions marked off.

    Returns:
        Path, count and picture of each video that could be read.

    Raises:
        UsageError: The checkpoint cannot be used, or not one video be read.
    """
    output = writable_folder(config.output)
    device = resolve_device(config.device)
    counter = load_counter(config.checkpoint, device)
    records = load_videos(config.videos)
    done: list[tuple[str, Count, Path]] = []
    bad: list[VideoError] = []
    hidden = True if len(records) == 1 else None
    for place, record in enumerate(tqdm(records, "counting", unit="video", disable=hidden)):
        try:
            frames, stride = _whole_video(record, counter.config.data.frame_size, config.reader)
        except VideoError as error:
            _logger.warning("left out %s", error)
            bad.append(error)
            continue
        estimator = NetworkEstimator(counter.net, [frames.to(device)], clips_per_pass=config.clips_per_pass)
        (count,) = count_repetitions(estimator, [len(frames)], procedure_of(counter.config).unit_refinement)
        name = Path(record.path)
        picture = output / (f"{name.stem}.png" if len(records) == 1 else f"{place:03d}_{name.stem}.png")
        done.append((record.path, count, count_picture(picture, frames, count, title=name.name, stride=stride)))
    if not done:
        raise DataError(f"{config.videos}: not one of {len(bad)} videos can be read (the first: {bad[0]})")
    return done


def _whole_video(record: VideoRecord, size: int, reader: str) -> tuple[Tensor, int]:
    """Its frames, thinned out where there are very many, and by how much."""
    video = open_video(record.path, None, reader)
    height, width = video.read([0]).shape[1:3]
    known = replace(measured(record, video), width=width, height=height, reader=video.decoder)
    first, stop = known.frame_range
    stride = -(-(stop - first) // _MAX_FRAMES)
    return read_letterboxed(known, size, reader, first, stop, stride), stride


@dataclass(frozen=True)
class Counter:
    """A trained counter.

    Attributes:
        net: Ready to count, on its device.
        config: Settings it was trained with.
        state: What its file holds besides.
    """

    net: CycleNet
    config: RepetitionConfig
    state: dict[str, Any]


def load_counter(path: str, device: torch.device) -> Counter:
    """Read a counter that `train_counter` wrote, a file or its folder. Raises CheckpointError for anything else."""
    needed = ("counter", "encoder", "config", "source", "train_videos")
    state = load_checkpoint(checkpoint_file(path), needed, f"a counter, as `count train` leaves it in {MODEL_FILE}")
    config = config_from_checkpoint(RepetitionConfig, state, path)
    settings = config_from_tree(ModelConfig, state["encoder"], path)
    net = CycleNet(build_from_settings(settings), config.model.side_frames)
    try:
        net.load_state_dict(state["counter"])
    except RuntimeError as error:
        raise CheckpointError(f"{path}: {' '.join(str(error).split())}") from error
    return Counter(net.to(device).eval(), config, state)
