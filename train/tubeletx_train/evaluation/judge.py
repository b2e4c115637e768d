"""How a classifier does on labelled videos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tubeletx_train.common.distributed import Ranks
from tubeletx_train.config.labelled import LabelledDataConfig, Protocol
from tubeletx_train.data import BadVideo, VideoRecord
from tubeletx_train.data.labelled_videos import refuse_unreadable
from tubeletx_train.data.labels import Targets
from tubeletx_train.evaluation.embed import by_video, embed_views
from tubeletx_train.evaluation.metrics import multilabel_metrics, recognition_metrics


@dataclass(frozen=True)
class Judgement:
    """How a classifier did.

    Attributes:
        metrics: By name, shares in [0, 1].
        unreadable: Videos that could not be read, and so do not count.
    """

    metrics: dict[str, float]
    unreadable: list[BadVideo]


def judge_classifier(
    net: nn.Module,
    records: Sequence[VideoRecord],
    targets: Targets,
    config: LabelledDataConfig,
    *,
    protocol: Protocol,
    device: torch.device,
    batch_size: int,
    precision: str = "float32",
    ranks: Ranks | None = None,
    progress: str | None = None,
) -> Judgement:
    """Test a classifier; the result is the same in every process. See `embed_views` for the arguments.

    Raises:
        DataError: A video cannot be read, and the settings do not allow that.
    """
    ranks = ranks or Ranks()
    outputs = embed_views(
        net,
        records,
        config,
        device=device,
        batch_size=batch_size,
        precision=precision,
        ranks=ranks,
        progress=progress,
    )
    judgement = None
    if outputs is not None:
        refuse_unreadable(outputs.unreadable, config)
        metrics = view_metrics(outputs.values, outputs.places, records, targets, protocol)
        judgement = Judgement(metrics, outputs.unreadable)
    shared: Judgement = ranks.broadcast(judgement)
    return shared


def view_metrics(
    logits: Tensor, places: Tensor, records: Sequence[VideoRecord], targets: Targets, protocol: Protocol
) -> dict[str, float]:
    """The metrics of a classifier's logits on views.

    Softmax averaged over a video's clips for recognition, the maximum of sigmoids over its views for several labels
    (appendix C).

    Args:
        logits: (N, C).
        places: (N,), the record that each view is of.
        records: Videos.
        targets: What their labels mean.
        protocol: "released" counts classes without a video as 0 in the mean class accuracy.
    """
    multilabel = targets.task == "multilabel"
    scores = logits.sigmoid() if multilabel else logits.softmax(1)
    scores, videos = by_video(scores, places, "amax" if multilabel else "mean")
    truth = torch.stack([targets.of_video(records[video]) for video in videos.tolist()])
    if multilabel:
        return multilabel_metrics(scores, truth)
    return recognition_metrics(scores, truth, absent_as_zero=protocol == "released")
