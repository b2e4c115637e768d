"""What recognition is judged by."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.metrics import average_precision_score
from torch import Tensor
from torch.nn.functional import normalize
from torchmetrics.functional.classification import multiclass_accuracy

_TOP = 5
_RETRIEVAL_SIZES = (1, 5, 10, 20, 50)
_QUERIES_AT_ONCE = 1024


def recognition_metrics(scores: Tensor, targets: Tensor, *, absent_as_zero: bool = False) -> dict[str, float]:
    """Top-1, top-5 (of more than five classes) and mean class accuracy, as shares.

    Args:
        scores: (N, C) of the videos, higher is likelier.
        targets: (N,) int64.
        absent_as_zero: Whether the mean class accuracy counts classes without a video as 0 (as the released code does)
            or leaves them out.
    """
    num_classes = scores.shape[1]

    def accuracy(average: str, top_k: int = 1) -> Tensor:
        value: Tensor = multiclass_accuracy(scores, targets, num_classes, average=average, top_k=top_k)  # type: ignore[arg-type]
        return value

    # A single output leaves torchmetrics nothing to tell apart.
    if num_classes == 1:
        return {"top1": 1.0, "mean_class_accuracy": 1.0}
    present = torch.bincount(targets, minlength=num_classes) > 0
    per_class = accuracy("none")
    metrics = {"top1": accuracy("micro").item()}
    if num_classes > _TOP:
        metrics["top5"] = accuracy("micro", _TOP).item()
    counted = num_classes if absent_as_zero else present.sum()
    return metrics | {"mean_class_accuracy": (per_class[present].sum() / counted).item()}


def multilabel_metrics(scores: Tensor, targets: Tensor) -> dict[str, float]:
    """Mean average precision, as a share, over the classes that have a positive.

    Args:
        scores: (N, C).
        targets: (N, C) of zeros and ones.

    Raises:
        ValueError: No class has a positive.
    """
    present = targets.sum(0) > 0
    if not present.any():
        raise ValueError("not one class has a positive example: average precision is not defined")
    precisions = [
        average_precision_score(targets[:, column].numpy(), scores[:, column].numpy())
        for column in present.nonzero()[:, 0].tolist()
    ]
    return {"map": float(np.mean(precisions))}


def retrieval_metrics(query: Tensor, query_labels: Tensor, gallery: Tensor, gallery_labels: Tensor) -> dict[str, float]:
    """Recall at 1, 5, 10, 20, 50: the share of queries with their own class among that many nearest of the gallery.

    Nearness is the cosine. Sizes that take in the whole gallery say nothing, and are left out but for 1.

    Args:
        query: (N, D) features of the test videos.
        query_labels: (N,).
        gallery: (M, D) features of the training videos.
        gallery_labels: (M,).
    """
    gallery = normalize(gallery, dim=1)
    count = min(_RETRIEVAL_SIZES[-1], len(gallery))
    # The similarities of all videos of a large data set with each other would not fit into memory.
    nearest = torch.cat(
        [
            (normalize(rows, dim=1) @ gallery.T).topk(count, dim=1).indices
            for rows in torch.split(query, _QUERIES_AT_ONCE)
        ]
    )
    hits = gallery_labels[nearest] == query_labels[:, None]
    return {f"r@{k}": hits[:, :k].any(1).double().mean().item() for k in _RETRIEVAL_SIZES if k == 1 or k < len(gallery)}
