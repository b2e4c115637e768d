"""`results.json`: what a finished run measured, and under which settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from tubeletx_train.common.files import write_json
from tubeletx_train.common.machine import made_on
from tubeletx_train.config.pretrain import ModelConfig
from tubeletx_train.config.tree import to_tree
from tubeletx_train.data import BadVideo

RESULTS_FILE = "results.json"


def write_results(
    folder: Path,
    config: Any,
    *,
    method: str,
    mode: str,
    encoder: ModelConfig,
    seed: int,
    metrics: Mapping[str, float],
    train_videos: int,
    test_videos: int,
    num_classes: int,
    device: torch.device,
    precision: str,
    unreadable: Sequence[BadVideo] = (),
    **extra: object,
) -> Path:
    """Write `results.json`, whole or not at all.

    Args:
        folder: The run's.
        config: Dataclass of its settings, with `checkpoint`, `experiment` and `protocol`.
        method: Row of the tables.
        mode: How the encoder was judged.
        encoder: What it was built with.
        seed: Seed of the run.
        metrics: By name, shares in [0, 1].
        train_videos: Videos trained on, those that weights are chosen by not among them.
        test_videos: Videos tested on.
        num_classes: Classes.
        device: That made it.
        precision: That it was made in.
        unreadable: Test videos that were left out.
        **extra: Whatever else a reader should know.
    """
    content = {
        "experiment": config.experiment,
        "method": method,
        "mode": mode,
        "encoder": encoder.encoder,
        "width": encoder.width,
        "seed": seed,
        "metrics": dict(metrics),
        "protocol": config.protocol,
        "checkpoint": config.checkpoint,
        "train_videos": train_videos,
        "test_videos": test_videos,
        "num_classes": num_classes,
        "unreadable": [str(video) for video in unreadable],
        **extra,
        **made_on(device, precision),
        "config": to_tree(config),
    }
    return write_json(folder / RESULTS_FILE, content)


def format_metrics(metrics: Mapping[str, float]) -> str:
    """One line for people."""
    return "  ".join(f"{name} {value:.1%}" for name, value in metrics.items())
