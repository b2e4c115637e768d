"""What a network says about every view of every test video."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from tqdm import tqdm

from tubeletx_train.common.distributed import Ranks
from tubeletx_train.config.labelled import LabelledDataConfig, Protocol
from tubeletx_train.data import BadVideo, VideoRecord, build_clip_loader, normalize
from tubeletx_train.data.labelled import ViewDataset, collate_views
from tubeletx_train.data.labelled_videos import refuse_unreadable
from tubeletx_train.data.labels import Targets
from tubeletx_train.evaluation.metrics import multilabel_metrics, recognition_metrics


@dataclass(frozen=True)
class ViewOutputs:
    """Outputs of a network.

    Attributes:
        values: (N, D) float32 on the CPU, a row for each view.
        places: (N,) int64, the record that each view is of.
        unreadable: Videos without a view.
    """

    values: Tensor
    places: Tensor
    unreadable: list[BadVideo]


@torch.no_grad()
def run_on_views(
    net: nn.Module,
    records: Sequence[VideoRecord],
    config: LabelledDataConfig,
    *,
    device: torch.device,
    batch_size: int,
    precision: str = "float32",
    ranks: Ranks | None = None,
    progress: str | None = None,
) -> ViewOutputs | None:
    """Put all views of all videos through a network in evaluation mode.

    Args:
        net: Normalised clips to (B, D); left in the mode it was in.
        records: Checked videos.
        config: Which views they give.
        device: Of the network.
        batch_size: Views at a time.
        precision: "float32", "bfloat16" or "float16".
        ranks: Processes that share the videos; None is this one alone.
        progress: Title of a progress bar.

    Returns:
        The outputs, on the main process; elsewhere None.
    """
    ranks = ranks or Ranks()
    dataset = ViewDataset(records, config)
    own = range(ranks.rank, len(records), ranks.world_size)
    at_once = max(batch_size // config.views, 1)
    batches = [list(own[start : start + at_once]) for start in range(0, len(own), at_once)]
    loader = build_clip_loader(dataset, batches, collate_views, pin_memory=device.type == "cuda")
    autocast = nullcontext() if precision == "float32" else torch.autocast(device.type, getattr(torch, precision))
    values: list[Tensor] = []
    places: list[Tensor] = []
    bad: list[BadVideo] = []
    was_training = net.training
    net.eval()
    try:
        hidden = True if progress is None or not ranks.is_main else None
        for batch in tqdm(loader, progress, len(batches), unit="batch", disable=hidden, leave=False):
            for clip in torch.split(batch.clip, batch_size):
                with autocast:
                    seen = normalize(clip.to(device, non_blocking=True), normalization=config.normalization)
                    values.append(net(seen).float().cpu())
            places.append(batch.places)
            bad += batch.bad
    finally:
        net.train(was_training)
    parts = ranks.gather((torch.cat(values) if values else None, torch.cat(places) if places else None, bad))
    if not ranks.is_main:
        return None
    return ViewOutputs(
        torch.cat([part[0] for part in parts if part[0] is not None]),
        torch.cat([part[1] for part in parts if part[1] is not None]),
        [video for part in parts for video in part[2]],
    )


def by_video(values: Tensor, places: Tensor, reduce: str) -> tuple[Tensor, Tensor]:
    """Bring the views of each video together.

    Args:
        values: (N, D).
        places: (N,), the video of each row.
        reduce: "mean" or "amax".

    Returns:
        (V, D) values and (V,) places of those videos that have a view.
    """
    videos, row = torch.unique(places, return_inverse=True)
    empty = values.new_zeros(len(videos), values.shape[1])
    index = row[:, None].expand_as(values)
    return empty.scatter_reduce(0, index, values, reduce, include_self=False), videos


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
    """Test a classifier; the result is the same in every process. See `run_on_views` for the arguments.

    Raises:
        DataError: A video cannot be read, and the settings do not allow that.
    """
    ranks = ranks or Ranks()
    outputs = run_on_views(
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
