"""What the encoder is worth along its pretraining; the contrastive loss says little about that."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import cache

from torch import nn

from tubeletx_train.config.pretrain import PretrainConfig
from tubeletx_train.data import VideoRecord
from tubeletx_train.data.loader import held_out_batches
from tubeletx_train.evaluation.labelled import read_labelled, read_out_labels
from tubeletx_train.evaluation.motion_probe import ProbeTask, draw_probe_task, motion_probe

# Takes the query encoder, (B, 3, T, H, W) normalised floats to (B, D), and gives numbers by name.
EncoderEvaluation = Callable[[nn.Module], Mapping[str, float]]

_logger = logging.getLogger(__name__)

_SEED = 0x9A7C4
_CLIPS = (360, 180)  # to fit on, to judge by


def motion_probe_of(videos: Sequence[VideoRecord], config: PretrainConfig) -> EncoderEvaluation:
    """The motion probe on a run's own videos: it fits on clips of one half, and judges by clips of the other.

    The encoder has seen these videos, but neither its loss nor any label told it the motions that it is asked for.

    Args:
        videos: As `prepare_videos` returned them; of a single one both halves are the whole.
        config: How clips are drawn.
    """
    data = dataclasses.replace(config.data, num_workers=0, cache_frames=False)
    middle = max(len(videos) // 2, 1)

    @cache  # drawn at the first evaluation
    def task(judge: bool) -> ProbeTask:
        half = videos[middle:] or videos if judge else videos[:middle]
        count = _CLIPS[judge]
        seed = config.run.seed + _SEED + judge
        return draw_probe_task(held_out_batches(half, data, count=count, seed=seed), count, seed=seed)

    def evaluate(encoder: nn.Module) -> dict[str, float]:
        found = motion_probe(encoder, task(False), task(True))
        return {"motion_probe_linear": found.linear, "motion_probe_knn": found.knn}

    return evaluate


def label_probe_of(path: str, config: PretrainConfig) -> EncoderEvaluation:
    """The classes of labelled videos, read out of frozen features.

    Args:
        path: A manifest with labels, or a folder with a folder for each class; read at once.
        config: How clips are cut, and `evaluation`.

    Raises:
        DataError: The videos cannot be used.
    """
    chosen = config.evaluation
    videos, bad = read_labelled(path, config.data, clips=chosen.clips, group_pattern=chosen.group_pattern)
    for video in bad:
        _logger.warning("left out of the evaluation: %s", video)

    def evaluate(encoder: nn.Module) -> dict[str, float]:
        found = read_out_labels(encoder, videos)
        return {"label_probe_linear": found.linear, "label_probe_knn": found.knn}

    return evaluate
