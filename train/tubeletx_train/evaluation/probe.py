"""The probe of a checkpoint: motions, or the classes of labelled videos, read from its frozen features."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from tubeletx_train.common.device import resolve_device
from tubeletx_train.common.files import writable_folder, write_json
from tubeletx_train.common.limits import require_at_least, require_seed
from tubeletx_train.common.machine import made_on
from tubeletx_train.config.pretrain import PretrainConfig
from tubeletx_train.data import DataConfig, PairBatch, prepare_videos
from tubeletx_train.data.loader import held_out_batches
from tubeletx_train.evaluation.ceiling import supervised_ceiling
from tubeletx_train.evaluation.labelled import read_labelled, read_out_labels
from tubeletx_train.evaluation.motion_probe import ProbeTask, draw_probe_task, motion_probe
from tubeletx_train.evaluation.motions import MOTION_NAMES
from tubeletx_train.evaluation.pretrained import held_out_data, load_pretraining, trained_net, untrained_net
from tubeletx_train.evaluation.readout import Readout
from tubeletx_train.figures.confusion import confusion_picture

# Clips that the supervised ceiling's frames and patches are taken from.
CEILING_CLIPS = 1024


@dataclass(frozen=True)
class ProbeConfig:
    """Settings of a probe; clips are drawn as the checkpoint's run drew them, where nothing else is said.

    Attributes:
        checkpoint: A checkpoint of `pretrain`, or the folder of a run, whose newest it then is.
        videos: A manifest or folder of videos that were not trained on; null, where clips were drawn in training and
            motions are asked for: others of their kind.
        split: Judge by the manifest's rows of this split; with labels null means "test".
        task: "motion" pastes one moving patch on a still frame and asks how it moves; "labels" asks for the videos'
            own classes: column `label` of a manifest, or a folder for each class.
        fit_videos: With motions: videos that the classifiers are fitted on; null takes those the checkpoint was
            trained on.
        fit_split: Fit on rows of this split; with labels null means "train".
        fit_count: With motions: clips fitted on.
        count: With motions: clips judged by.
        num_frames: Frames of a clip; null as in the run. A network takes clips of any length, and tells fast motion
            better in longer ones, where less of it comes to each frame.
        stride: With labels: from frame to frame of a clip; null takes the middle one of the run's.
        clips: With labels: clips of a video, evenly spaced, whose features are averaged.
        group_pattern: With labels: regular expression whose first group, found in a file's name, names the video's
            group; each is judged by classifiers fitted on the others. Null: `split` is judged by `fit_split` where
            there are splits, else each group of the column `group` by the others, else each video by the others.
        ceiling_steps: With motions: also train the same network with the labels for so many steps; 0 leaves it out.
        seed: Seed of the draws.
        device: "auto", "cpu", "cuda" or "cuda:N".
        num_workers: Decoding processes.
        output: Folder for probe.json and confusion.png; null writes none.
    """

    checkpoint: str
    videos: str | None = None
    split: str | None = None
    task: Literal["motion", "labels"] = "motion"
    fit_videos: str | None = None
    fit_split: str | None = None
    fit_count: int = 1600
    count: int = 800
    num_frames: int | None = None
    stride: int | None = None
    clips: int = 4
    group_pattern: str | None = None
    ceiling_steps: int = 0
    seed: int = 11
    device: str = "auto"
    num_workers: int = 2
    output: str | None = None

    def __post_init__(self) -> None:
        require_at_least(self, len(MOTION_NAMES), "fit_count")
        require_at_least(self, 1, "count", "num_frames", "stride", "clips")
        require_at_least(self, 0, "ceiling_steps", "num_workers")
        require_seed(self)
        if self.task == "labels" and self.videos is None:
            raise ValueError("videos: got null, needs labelled videos")


@dataclass(frozen=True)
class ProbeReport:
    """What a probe found.

    Attributes:
        trained: Of the checkpoint.
        untrained: Of the same network as its run began.
        names: Classes.
        ceiling: Accuracy of the same network trained with the labels, where asked for.
    """

    trained: Readout
    untrained: Readout
    names: tuple[str, ...]
    ceiling: float | None = None


def with_frames(data: DataConfig, num_frames: int | None, stride: int | None) -> DataConfig:
    """The same clips of another number of frames, or at another stride, where one is given."""
    return dataclasses.replace(
        data, num_frames=num_frames or data.num_frames, strides=data.strides if stride is None else (stride,)
    )


def draw_motion_task(data: DataConfig, count: int, seed: int) -> ProbeTask:
    """Labelled motions over the videos of `data`."""
    return draw_probe_task(_batches(data, count, seed), count, seed=seed)


def draw_plain_clips(data: DataConfig, count: int, seed: int) -> Tensor:
    """Clips of the videos of `data` with nothing pasted on: (N, 3, T, S, S) uint8."""
    return torch.cat([batch.clip_1 for batch in _batches(data, count, seed)])[:count]


def _batches(data: DataConfig, count: int, seed: int) -> Iterator[PairBatch]:
    videos, _ = prepare_videos(data)
    return held_out_batches(videos, data, count=count, batch_size=min(64, count), seed=seed)


def probe_checkpoint(config: ProbeConfig) -> ProbeReport:
    """Probe a checkpoint, and the same network untrained.

    Raises:
        UsageError: The checkpoint or the videos cannot be used; one line says why.
    """
    trained, weights = load_pretraining(config.checkpoint)
    trained = dataclasses.replace(trained, data=with_frames(trained.data, config.num_frames, config.stride))
    device = resolve_device(config.device)
    if config.output is not None:
        writable_folder(config.output)
    report = (_probe_motions if config.task == "motion" else _probe_labels)(config, trained, weights, device)
    if config.output is not None:
        made = {"task": config.task, "checkpoint": config.checkpoint, "num_frames": trained.data.num_frames}
        made |= made_on(device, "float32")
        _write(report, Path(config.output), made)
    return report


def _probe_motions(
    config: ProbeConfig, trained: PretrainConfig, weights: dict[str, Tensor], device: torch.device
) -> ProbeReport:
    fit_data = _fitted_data(config, trained)
    fit = draw_motion_task(fit_data, config.fit_count, config.seed)
    judged = held_out_data(trained.data, config.videos, config.split, config.num_workers)
    judge = draw_motion_task(judged, config.count, config.seed + 1)
    untrained = untrained_net(trained, fit.clips, device).encoder
    measured = motion_probe(untrained, fit, judge)
    ceiling = None
    if config.ceiling_steps:
        clips = draw_plain_clips(fit_data, min(CEILING_CLIPS, config.fit_count), config.seed)
        ceiling = supervised_ceiling(untrained, clips, judge, steps=config.ceiling_steps, seed=config.seed).accuracy
    return ProbeReport(
        trained=motion_probe(trained_net(trained, weights, device).encoder, fit, judge),
        untrained=measured,
        names=MOTION_NAMES,
        ceiling=ceiling,
    )


def _probe_labels(
    config: ProbeConfig, trained: PretrainConfig, weights: dict[str, Tensor], device: torch.device
) -> ProbeReport:
    assert config.videos is not None
    videos, bad = read_labelled(config.videos, trained.data, clips=config.clips, group_pattern=config.group_pattern)
    for video in bad:
        print(f"left out {video}")
    untrained = untrained_net(trained, videos.clips.flatten(0, 1), device).encoder
    splits = {"fit_split": config.fit_split or "train", "split": config.split or "test"}
    return ProbeReport(
        trained=read_out_labels(trained_net(trained, weights, device).encoder, videos, **splits),
        untrained=read_out_labels(untrained, videos, **splits),
        names=tuple(videos.names),
    )


def _fitted_data(config: ProbeConfig, trained: PretrainConfig) -> DataConfig:
    data = dataclasses.replace(trained.data, num_workers=config.num_workers)
    if config.fit_videos is None and config.fit_split is None:
        return data
    videos = config.fit_videos or data.videos
    return dataclasses.replace(data, source="videos", videos=videos, split=config.fit_split)


def _write(report: ProbeReport, folder: Path, made: Mapping[str, Any]) -> None:
    content: dict[str, Any] = {name: dataclasses.asdict(readout) for name, readout in _readouts(report).items()}
    content |= {"names": list(report.names), **made}
    if report.ceiling is not None:
        content["ceiling"] = report.ceiling
    write_json(folder / "probe.json", content)
    matrices = {readout.caption(name): readout.confusion for name, readout in _readouts(report).items()}
    confusion_picture(folder / "confusion.png", matrices, report.names, title="Linear probe")


def _readouts(report: ProbeReport) -> dict[str, Readout]:
    return {"trained": report.trained, "untrained": report.untrained}


def format_probe(report: ProbeReport) -> str:
    """A small table of a report."""
    lines = [f"accuracy over {len(report.names)} classes"]
    for name, readout in _readouts(report).items():
        lines.append(f"  {name:10} linear {readout.linear:6.1%}   k-NN {readout.knn:6.1%}")
    chance = report.trained.chance
    lines.append(f"  {'chance':10}        {chance:6.1%}        {chance:6.1%}")
    if report.ceiling is not None:
        lines.append(f"  {'ceiling':10}        {report.ceiling:6.1%}   (the same network trained with the labels)")
    if report.trained.pairs:
        lines.append("\none of two, chance 50 %" + " " * 26 + "trained  untrained")
        for pair, accuracy in report.trained.pairs.items():
            lines.append(f"  {pair:46} {accuracy:7.1%}  {report.untrained.pairs[pair]:9.1%}")
    return "\n".join(lines)
