"""What the encoder is worth along its pretraining, which the contrastive loss hardly says, and signs of a collapse."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections import deque
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

_ADVICE = "docs/how-to/watching.md says what to do"
# The paper's run replaces its queue 470 times, and its keys are half as old as the key network's memory. In the study's
# runs, which replace it 19 or 75 times, keys were told by their age at .16 and .4 of that memory, and not at .04.
FEWEST_QUEUES = 100
_OLDEST_KEYS = 0.1

# In units of the loss. Over 50 steps the study's runs that learned came to 1.04 at most, those that were told by age to
# 1.35 at least.
_MOST_AGE_GAP = 1.2

_SEED = 0x9A7C4
_CLIPS = (360, 180)  # to fit on, to judge by


class MetricWatch:
    """Warns, once, where the mean of a metric over many steps passes a bound."""

    STEPS = 50

    def __init__(self, metric: str, bound: float, meaning: str, *, since: int = 0) -> None:
        """Watches one metric.

        Args:
            metric: Its name in the log.
            bound: The warning comes above it.
            meaning: What it says of a run, and what to change.
            since: The first step that counts.
        """
        self._metric, self._bound, self._meaning, self._since = metric, bound, meaning, since
        self._recent: deque[float] | None = deque(maxlen=self.STEPS)

    def update(self, step: int, values: Mapping[str, float]) -> None:
        """Look at the metrics of a step."""
        if self._recent is None or step < self._since:
            return
        self._recent.append(values[self._metric])
        mean = sum(self._recent) / len(self._recent)
        if len(self._recent) == self._recent.maxlen and mean > self._bound:
            _logger.warning(
                "step %d: %s is %.3f over the last %d steps: %s; %s",
                step,
                self._metric,
                mean,
                len(self._recent),
                self._meaning,
                _ADVICE,
            )
            self._recent = None


def watches_of(config: PretrainConfig, rows: int) -> list[MetricWatch]:
    """Those of a run whose process has so many pairs at a time."""
    batch, queue = config.optim.batch_size, config.contrast.queue_size
    watches = []
    # A single pair is one point whatever the network.
    if rows > 1:
        # A network that has learned nothing yet is at -0.3 or below.
        watches.append(MetricWatch("uniformity", -0.02, "all clips are nearly one point, the run has collapsed"))
    if queue:
        # The vectors that a queue begins with are no keys: they are told from keys by any network.
        watches.append(
            MetricWatch(
                "age_gap",
                _MOST_AGE_GAP,
                "the oldest keys of the queue are told from fresh ones by their age, and not by what they show; take a "
                "larger contrast.momentum, a smaller contrast.queue_size or a smaller optim.lr",
                since=math.ceil(queue / batch) + 1,
            )
        )
    return watches


def warn_of_stale_queue(config: PretrainConfig, total_steps: int) -> None:
    """Warn where keys stay in the queue while the key network moves on, in a run too short for that to be slow."""
    size, momentum, batch = config.contrast.queue_size, config.contrast.momentum, config.optim.batch_size
    replaced = total_steps * batch / max(size, 1)
    age = size / batch * (1 - momentum)
    if size and replaced < FEWEST_QUEUES and age > _OLDEST_KEYS:
        _logger.warning(
            "the %d keys of contrast.queue_size stay for %.3g steps, in which the key network moves %.2g of its way "
            "(contrast.momentum %g); above %g, in a run that replaces its queue %.3g times, a network may learn to "
            "tell fresh keys from stale ones, and collapse: take a smaller queue, a larger momentum, or 0 keys with "
            "contrast.batch_negatives true; %s",
            size,
            size / batch,
            age,
            momentum,
            _OLDEST_KEYS,
            replaced,
            _ADVICE,
        )


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
