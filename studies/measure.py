"""What every run is judged by, drawn once so that all runs are judged by the same clips.

In two parts, since the first wants the device that the network is on and the second any core: `embed` runs the network,
`read_out_all` fits classifiers on what came out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from studies.videos import HELD_OUT, TRAIN
from tubeletx.pair import TubeletPair
from tubeletx_train.common.checkpoint import save_checkpoint
from tubeletx_train.common.errors import UsageError
from tubeletx_train.config.pretrain import PretrainConfig
from tubeletx_train.data import DataConfig, normalize, prepare_videos, read_manifest
from tubeletx_train.data.loader import held_out_batches
from tubeletx_train.evaluation.by_stage import axis_means, read_stages
from tubeletx_train.evaluation.labelled import read_labelled
from tubeletx_train.evaluation.motion_probe import ProbeTask
from tubeletx_train.evaluation.motions import MOTION_NAMES, MOTION_PAIRS
from tubeletx_train.evaluation.pair_retrieval import PairSet, Retrieval, draw_pair_set, recall
from tubeletx_train.evaluation.probe import draw_motion_task
from tubeletx_train.evaluation.readout import Readout, read_out, read_out_by_group
from tubeletx_train.models import EmbeddingNet, VideoEncoder
from tubeletx_train.rendered.sets import rendered_set_of

FIT_CLIPS, JUDGED_CLIPS = 1600, 800
PAIRS, _PAIR_SETS = 256, 2
LABELLED_CLIPS = 4
_FIT_SEED, _JUDGE_SEED, _PAIR_SEED = 11, 12, 13
_BATCH = 128


@dataclass(frozen=True)
class Labelled:
    """Clips of labelled videos.

    Attributes:
        clips: uint8 (N, V, 3, T, S, S), V clips a video.
        labels: (N,) int64, indices into `names`.
        names: Classes.
        groups: Of each video; each group is judged by classifiers fitted on the others, where there are no splits.
        splits: Of each video, or None: those that begin with "test" are each judged by classifiers fitted on "train".
    """

    clips: Tensor
    labels: Tensor
    names: list[str]
    groups: list[str]
    splits: list[str] | None

    @classmethod
    def read(cls, path: str, data: DataConfig, *, clips: int, group_pattern: str | None = None) -> Labelled:
        """Clips of a manifest, of a folder with a folder for each class, or of a file that `save` wrote (.npz).

        Args:
            path: Where to find them.
            data: Frames, strides, size and reader of a clip.
            clips: Clips of a video.
            group_pattern: As in `tubeletx-train probe`, for sets without splits.

        Raises:
            UsageError: A file's clips are of another length.
            DataError: See `read_labelled`.
        """
        if path.endswith(".npz"):
            with np.load(path) as file:
                names, groups, splits = (file[name].tolist() for name in ("names", "groups", "splits"))
                clips_there, labels = torch.from_numpy(file["clips"]), torch.from_numpy(file["labels"])
            frames = clips_there.shape[3]
            if frames != data.num_frames:
                raise UsageError(
                    f"{path}: holds clips of {frames} frames, needs {data.num_frames}; give the videos it was made of"
                )
            return cls(clips_there, labels, names, groups, splits or None)
        # One pattern serves all sets of a study; the names in a set with splits need not follow it.
        with_splits = Path(path).is_file() and any(record.split == "test" for record in read_manifest(path))
        videos, _ = read_labelled(path, data, clips=clips, group_pattern=None if with_splits else group_pattern)
        return cls(
            clips=videos.clips,
            labels=videos.labels,
            names=videos.names,
            groups=videos.groups or [str(number) for number in range(len(videos.labels))],
            splits=[str(split) for split in videos.splits] if "test" in videos.splits else None,
        )

    def save(self, path: Path) -> None:
        """Write them to a file that needs no decoder."""
        np.savez_compressed(
            path,
            clips=self.clips.contiguous().numpy(),
            labels=self.labels.numpy(),
            names=np.array(self.names),
            groups=np.array(self.groups),
            splits=np.array(self.splits or [], dtype=str),
        )


@dataclass(frozen=True)
class Measurements:
    """Clips that a network is measured by.

    Attributes:
        fit: Motions over training videos, to fit the probe on.
        judge: Motions over held-out videos.
        pairs: Held-out pairs of the full method, whatever the arm was trained with.
        labelled: Sets of labelled videos, by name.
    """

    fit: ProbeTask
    judge: ProbeTask
    pairs: list[PairSet]
    labelled: dict[str, Labelled]

    def save(self, path: Path) -> None:
        """Write all clips to a file."""
        save_checkpoint(dataclasses.asdict(self), path)

    @classmethod
    def load(cls, path: Path, device: torch.device | str = "cpu") -> Measurements:
        """Read what `save` wrote, clips onto a device."""
        content = torch.load(path, weights_only=True, map_location=device)
        return cls(
            fit=ProbeTask(**content["fit"]),
            judge=ProbeTask(**content["judge"]),
            pairs=[PairSet(**pairs) for pairs in content["pairs"]],
            labelled={name: Labelled(**videos) for name, videos in content["labelled"].items()},
        )


@dataclass(frozen=True)
class Features:
    """What a network makes of the clips of `Measurements`; all on the CPU.

    Attributes:
        fit: Pooled features of every stage of the encoder, by its name, the last being the encoder's own: (N, D).
        judge: Likewise.
        labels: Of the clips of both.
        retrieval: Of the pairs; None where they were left out.
        labelled: By the set's name: features of the videos by stage, and the set without its clips.
    """

    fit: dict[str, Tensor]
    judge: dict[str, Tensor]
    labels: tuple[Tensor, Tensor]
    retrieval: dict[str, float] | None
    labelled: dict[str, tuple[dict[str, Tensor], Labelled]]


def stage_features(encoder: VideoEncoder, clips: Tensor) -> dict[str, Tensor]:
    """Features after each stage of an encoder, pooled over time and space.

    Args:
        encoder: In evaluation mode.
        clips: uint8 (N, 3, T, S, S).

    Returns:
        By the stage's name (N, D) float32, on the device of the encoder.
    """
    device = next(encoder.parameters()).device
    found: dict[str, list[Tensor]] = {}
    with torch.no_grad():
        for batch in torch.split(clips, _BATCH):
            x = normalize(batch.to(device))
            for name, stage in encoder.named_children():
                x = stage(x)
                found.setdefault(name, []).append(x.mean((2, 3, 4)).float())
    return {name: torch.cat(parts) for name, parts in found.items()}


def embed(net: EmbeddingNet, clips: Measurements, *, whole: bool = True) -> Features:
    """Run a network, in evaluation mode, on what it is to be judged by.

    Args:
        net: Left in the mode it was in.
        clips: On any device.
        whole: All of it; otherwise the last stage on the motion probe alone.
    """

    def stages(batch: Tensor) -> dict[str, Tensor]:
        features = stage_features(net.encoder, batch)
        kept = features if whole else dict(list(features.items())[-1:])
        return {name: values.cpu() for name, values in kept.items()}

    was_training = net.training
    net.eval()
    try:
        labelled = {
            name: (
                labelled_features(net.encoder, videos),
                dataclasses.replace(videos, clips=torch.empty(0), labels=videos.labels.cpu()),
            )
            for name, videos in (clips.labelled.items() if whole else ())
        }
        return Features(
            fit=stages(clips.fit.clips),
            judge=stages(clips.judge.clips),
            labels=(clips.fit.labels.cpu(), clips.judge.labels.cpu()),
            retrieval=_retrieval(net, clips.pairs) if whole else None,
            labelled=labelled,
        )
    finally:
        net.train(was_training)


def labelled_features(encoder: VideoEncoder, videos: Labelled) -> dict[str, Tensor]:
    """Features (N, D) of labelled videos by stage, the mean over a video's clips, on the CPU.

    Args:
        encoder: In evaluation mode.
        videos: With their clips.
    """
    count, views = videos.clips.shape[:2]
    by_stage = stage_features(encoder, videos.clips.flatten(0, 1))
    return {stage: values.cpu().view(count, views, -1).mean(1) for stage, values in by_stage.items()}


def _retrieval(net: EmbeddingNet, sets: Sequence[PairSet]) -> dict[str, float]:
    @torch.no_grad()
    def rows(clips: Tensor) -> Tensor:
        features = stage_features(net.encoder, clips)
        last = list(features.values())[-1]
        return F.normalize(net.head(last).float(), dim=1).cpu()

    found = [(rows(pairs.query), rows(pairs.key)) for pairs in sets]
    at_1, at_5 = (tuple(recall(query, key, k) for query, key in found) for k in (1, 5))
    return Retrieval(len(sets[0].query), at_1, at_5).summary()


def read_out_all(features: Features) -> dict[str, Any]:
    """Fit classifiers on features and judge them.

    Returns:
        "probe": the motion probe on the encoder's features, a `Readout` in a dictionary. Of features of everything
        also "stages": accuracies of the probe by stage; "retrieval"; and "labelled": by set and stage.
    """
    *earlier, last = features.fit

    def probe(stage: str) -> Readout:
        fit, judge = features.labels
        return read_out((features.fit[stage], fit), (features.judge[stage], judge), MOTION_NAMES, MOTION_PAIRS)

    found: dict[str, Any] = {"probe": dataclasses.asdict(probe(last))}
    if features.retrieval is not None:
        found["retrieval"] = features.retrieval
        found["stages"] = {stage: probe(stage).summary() for stage in earlier} | {last: _shares(found["probe"])}
        found["labelled"] = {
            title: shares
            for name, (by_stage, videos) in features.labelled.items()
            for title, shares in read_out_labelled(name, by_stage, videos).items()
        }
    return found


def _shares(probe: Mapping[str, Any]) -> dict[str, float]:
    return {name: probe[name] for name in ("linear", "knn", "chance")}


def read_out_labelled(name: str, by_stage: dict[str, Tensor], videos: Labelled) -> dict[str, dict[str, dict[str, Any]]]:
    """Fit classifiers on features of labelled videos and judge them.

    Args:
        name: Of the set.
        by_stage: See `labelled_features`.
        videos: The set; its clips are not read.

    Returns:
        By the name of the set, or of the set and the split where that is not "test", by stage: "linear", "knn" and
        "chance". Of a rendered set the last stage has besides "axes", the linear classifier's accuracy between two
        classes by what they differ in (see `RenderedSet.pairs`), and "opposites", by pair.
    """
    if videos.splits is None:
        found = {
            stage: read_out_by_group(values, videos.labels, videos.groups, videos.names)
            for stage, values in by_stage.items()
        }
        return {name: {stage: readout.summary() for stage, readout in found.items()}}
    rendered = rendered_set_of(videos.names)
    pairs = [pair for axis in rendered.pairs.values() for pair in axis] if rendered else []
    fit = torch.tensor([split == "train" for split in videos.splits])
    accuracies: dict[str, dict[str, dict[str, Any]]] = {}
    for split in sorted({split for split in videos.splits if split.startswith("test")}):
        judge = torch.tensor([own == split for own in videos.splits])
        # Every stage of the test itself; of harder ones the encoder's features.
        stages = by_stage if split == "test" else dict(list(by_stage.items())[-1:])
        fitted, judged = ({stage: values[rows] for stage, values in stages.items()} for rows in (fit, judge))
        readouts = read_stages(fitted, judged, (videos.labels[fit], videos.labels[judge]), videos.names, pairs)
        found_here: dict[str, dict[str, Any]] = {
            stage: readout.summary() for stage, readout in zip(stages, readouts, strict=True)
        }
        if rendered:
            *_, last = found_here.values()
            told = readouts[-1].pairs
            last["axes"] = {axis: means[-1] for axis, means in axis_means(readouts, rendered.pairs).items()}
            last["opposites"] = {pair: told[pair] for pair in map(" / ".join, rendered.opposites)}
        accuracies[name if split == "test" else f"{name} {split}"] = found_here
    return accuracies


def _of_split(data: DataConfig, split: str) -> DataConfig:
    return dataclasses.replace(data, split=split, num_workers=0)


def draw_motions(
    data: DataConfig, *, fit_clips: int = FIT_CLIPS, judged_clips: int = JUDGED_CLIPS
) -> tuple[ProbeTask, ProbeTask]:
    """The motion probe's clips: over training videos, to fit on, and over held-out ones."""
    fit = draw_motion_task(_of_split(data, TRAIN), fit_clips, _FIT_SEED)
    return fit, draw_motion_task(_of_split(data, HELD_OUT), judged_clips, _JUDGE_SEED)


def draw_measurements(
    config: PretrainConfig,
    labelled: Mapping[str, str],
    group_pattern: str | None,
    *,
    fit_clips: int = FIT_CLIPS,
    judged_clips: int = JUDGED_CLIPS,
    pairs: int = PAIRS,
) -> Measurements:
    """Draw the clips.

    Args:
        config: Of the full arm: its data settings draw clips, its tubelets make the pairs.
        labelled: Sets of labelled videos by name, see `Labelled.read`.
        group_pattern: Likewise.
        fit_clips: To fit the probe on.
        judged_clips: To judge it by.
        pairs: Pairs of a retrieval set.
    """
    held_out = _of_split(config.data, HELD_OUT)
    videos, _ = prepare_videos(held_out, progress=False)
    count = pairs * _PAIR_SETS
    batches = held_out_batches(videos, held_out, count=count, batch_size=min(64, pairs), seed=_PAIR_SEED)
    pair = TubeletPair(config.tubelets, seed=_PAIR_SEED)
    fit, judge = draw_motions(config.data, fit_clips=fit_clips, judged_clips=judged_clips)
    return Measurements(
        fit=fit,
        judge=judge,
        pairs=[draw_pair_set(batches, pair, pairs) for _ in range(_PAIR_SETS)],
        labelled={
            name: Labelled.read(path, config.data, clips=LABELLED_CLIPS, group_pattern=group_pattern)
            for name, path in labelled.items()
        },
    )
