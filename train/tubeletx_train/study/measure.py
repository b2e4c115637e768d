"""What every run of the study is measured by, drawn once so that all runs are judged by the same clips."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tubeletx.pair import TubeletPair
from tubeletx_train.common.checkpoint import save_atomically
from tubeletx_train.config.pretrain import PretrainConfig
from tubeletx_train.data import DataConfig, prepare_videos
from tubeletx_train.evaluation.embed import held_out_batches
from tubeletx_train.evaluation.labelled import read_labelled, video_features
from tubeletx_train.evaluation.motion_probe import ProbeTask, motion_probe
from tubeletx_train.evaluation.pair_retrieval import PairSet, draw_pair_set, held_out_retrieval
from tubeletx_train.evaluation.probe import draw_motion_task
from tubeletx_train.evaluation.readout import read_out_by_group
from tubeletx_train.pretrain.moco import EmbeddingNet
from tubeletx_train.study.videos import HELD_OUT, TRAIN

FIT_CLIPS, JUDGED_CLIPS = 1600, 800
PAIRS, _PAIR_SETS = 256, 2
_LABELLED_CLIPS = 4
_FIT_SEED, _JUDGE_SEED, _PAIR_SEED = 11, 12, 13


@dataclass(frozen=True)
class Labelled:
    """Clips of labelled videos: uint8 (N, V, 3, T, S, S), labels (N,), a group for each video, and the classes."""

    clips: Tensor
    labels: Tensor
    groups: list[str]
    names: list[str]


@dataclass(frozen=True)
class Measurements:
    """Clips that a network is measured by.

    Attributes:
        fit: Motions over training videos, to fit the probe on.
        judge: Motions over held-out videos.
        pairs: Held-out pairs of the full method, whatever the arm was trained with.
        labelled: Labelled videos, or None.
    """

    fit: ProbeTask
    judge: ProbeTask
    pairs: list[PairSet]
    labelled: Labelled | None

    def probe(self, net: EmbeddingNet) -> dict[str, Any]:
        """The motion probe, as `Readout` in a dictionary."""
        return dataclasses.asdict(motion_probe(net.encoder, self.fit, self.judge))

    def others(self, net: EmbeddingNet) -> dict[str, Any]:
        """Retrieval of held-out pairs, and the classes of labelled videos."""
        values: dict[str, Any] = {"retrieval": held_out_retrieval(net, self.pairs).summary()}
        if self.labelled is not None:
            features = video_features(net.encoder, self.labelled.clips)
            readout = read_out_by_group(features, self.labelled.labels, self.labelled.groups, self.labelled.names)
            values["labelled"] = readout.summary()
        return values

    def save(self, path: Path) -> None:
        """Write all clips to a file."""
        save_atomically(dataclasses.asdict(self), path)

    @classmethod
    def load(cls, path: Path) -> Measurements:
        """Read what `save` wrote."""
        content = torch.load(path, weights_only=True)
        return cls(
            fit=ProbeTask(**content["fit"]),
            judge=ProbeTask(**content["judge"]),
            pairs=[PairSet(**pairs) for pairs in content["pairs"]],
            labelled=None if content["labelled"] is None else Labelled(**content["labelled"]),
        )


def draw_measurements(
    config: PretrainConfig,
    labelled: str | None,
    group_pattern: str | None,
    *,
    fit_clips: int = FIT_CLIPS,
    judged_clips: int = JUDGED_CLIPS,
    pairs: int = PAIRS,
) -> Measurements:
    """Draw the clips.

    Args:
        config: Of the full arm: its data settings draw clips, its tubelets make the pairs.
        labelled: Labelled videos, see `StudyConfig`.
        group_pattern: Likewise.
        fit_clips: To fit the probe on.
        judged_clips: To judge it by.
        pairs: Pairs of a retrieval set.
    """

    def data(split: str) -> DataConfig:
        return dataclasses.replace(config.data, split=split, num_workers=0)

    videos, _ = prepare_videos(data(HELD_OUT), progress=False)
    count = pairs * _PAIR_SETS
    batches = held_out_batches(videos, data(HELD_OUT), count=count, batch_size=min(64, pairs), seed=_PAIR_SEED)
    pair = TubeletPair(config.tubelets, seed=_PAIR_SEED)
    return Measurements(
        fit=draw_motion_task(data(TRAIN), fit_clips, _FIT_SEED),
        judge=draw_motion_task(data(HELD_OUT), judged_clips, _JUDGE_SEED),
        pairs=[draw_pair_set(batches, pair, pairs) for _ in range(_PAIR_SETS)],
        labelled=None if labelled is None else _labelled(labelled, config.data, group_pattern),
    )


def _labelled(path: str, data: DataConfig, group_pattern: str | None) -> Labelled:
    videos, _ = read_labelled(path, data, clips=_LABELLED_CLIPS, group_pattern=group_pattern)
    groups = videos.groups or [str(number) for number in range(len(videos.labels))]
    return Labelled(videos.clips, videos.labels, groups, videos.names)
