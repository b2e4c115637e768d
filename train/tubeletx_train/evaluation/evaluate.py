"""Evaluation without fine-tuning: of a fine-tuned network, or of frozen features."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from tubeletx_train.common.checkpoint import MODEL_FILE, CheckpointError, load_checkpoint
from tubeletx_train.common.device import resolve_device
from tubeletx_train.common.files import writable_folder
from tubeletx_train.common.seeding import seed_everything
from tubeletx_train.config.labelled import EvaluateConfig
from tubeletx_train.config.parse import config_from_tree
from tubeletx_train.config.pretrain import ModelConfig
from tubeletx_train.data import BadVideo, VideoRecord
from tubeletx_train.data.labelled_videos import (
    check_test_videos,
    check_training_videos,
    listed_test_videos,
    listed_training_videos,
    refuse_unreadable,
    review_splits,
)
from tubeletx_train.data.labels import Targets
from tubeletx_train.evaluation.embed import ViewOutputs, cached_features
from tubeletx_train.evaluation.judge import judge_classifier, view_metrics
from tubeletx_train.evaluation.metrics import recognition_metrics, retrieval_metrics
from tubeletx_train.evaluation.readout import LabelledFeatures, linear_logits, nearest_neighbor_scores
from tubeletx_train.evaluation.results import write_results
from tubeletx_train.models.classifier import VideoClassifier, load_pretrained
from tubeletx_train.models.weights import build_from_settings


@dataclasses.dataclass(frozen=True)
class _Outcome:
    """What goes into results.json besides the settings."""

    source: str
    encoder: ModelConfig
    metrics: dict[str, float]
    train_videos: int
    test_videos: int
    num_classes: int
    unreadable: list[BadVideo]


def evaluate(config: EvaluateConfig) -> dict[str, float]:
    """Measure, write results.json, and return the metrics.

    Raises:
        UsageError, DataError: The input cannot be used; one line says why.
    """
    output = writable_folder(config.output)
    device = resolve_device(config.device)
    seed_everything(config.seed)
    if config.mode == "test":
        outcome = _judge_finetuned(config, output, device)
    else:
        outcome = _judge_frozen(config, output, device)
    write_results(
        output,
        config,
        method=config.method or outcome.source,
        mode=config.mode,
        encoder=outcome.encoder,
        seed=config.seed,
        metrics=outcome.metrics,
        train_videos=outcome.train_videos,
        test_videos=outcome.test_videos,
        num_classes=outcome.num_classes,
        device=device,
        precision=config.precision,
        unreadable=outcome.unreadable,
    )
    return outcome.metrics


def _judge_finetuned(config: EvaluateConfig, output: Path, device: torch.device) -> _Outcome:
    state = _finetuned(Path(config.checkpoint))
    settings = config_from_tree(ModelConfig, state["encoder"], f"{config.checkpoint}: the encoder's settings")
    targets = Targets(config.task, state["classes"], state["num_classes"])
    net = VideoClassifier(build_from_settings(settings), targets.num_classes)
    net.load_state_dict(state["classifier"])
    net.to(device)
    videos = check_test_videos(listed_test_videos(config.data), config.data, output / "videos.json")
    judgement = judge_classifier(
        net,
        videos.records,
        targets,
        config.data,
        protocol=config.protocol,
        device=device,
        batch_size=config.batch_size,
        precision=config.precision,
        progress="testing",
    )
    return _Outcome(
        state["source"],
        settings,
        judgement.metrics,
        0,
        len(videos.records) - len(judgement.unreadable),
        targets.num_classes,
        [*videos.unreadable, *judgement.unreadable],
    )


def _finetuned(path: Path) -> dict[str, Any]:
    """What `finetune` left in a file, or in a run's folder."""
    other = "for a pretrained encoder choose --mode linear, knn or retrieval"
    if path.is_dir():
        path /= MODEL_FILE
        if not path.is_file():
            raise CheckpointError(f"{path}: no such file; {other}")
    needed = ("classifier", "encoder", "classes", "num_classes", "source")
    return load_checkpoint(path, needed, f"the {MODEL_FILE} of a fine-tuning run ({other})")


def _judge_frozen(config: EvaluateConfig, output: Path, device: torch.device) -> _Outcome:
    pretrained = load_pretrained(config.checkpoint, config.model)
    pretrained.encoder.to(device)
    listed = listed_training_videos(config.data, config.seed, output)
    listed_test = listed_test_videos(config.data)
    review_splits(listed, listed_test, config.data.num_classes)
    targets = Targets.of(config.task, [*listed, *listed_test], config.data)
    index = output / "videos.json"
    readable, bad_training = check_training_videos(listed, config.data, index)
    videos = check_test_videos(listed_test, config.data, index)
    train_outputs = cached_features(pretrained, readable, config, device, "training videos")
    bad_training.update(train_outputs.unreadable)
    test_outputs = cached_features(pretrained, videos.records, config, device, "test videos")
    refuse_unreadable(test_outputs.unreadable, config.data)
    train = _labelled(train_outputs, readable, targets)
    test = _labelled(test_outputs, videos.records, targets)
    if config.mode == "linear":
        logits = linear_logits(train, test, targets.num_classes, config.probe, config.seed)
        metrics = view_metrics(logits, test.places, videos.records, targets, config.protocol)
    elif config.mode == "knn":
        scores, labels = nearest_neighbor_scores(train, test, targets.num_classes, config.probe.neighbors)
        metrics = recognition_metrics(scores, labels, absent_as_zero=config.protocol == "released")
    else:
        metrics = retrieval_metrics(*test.of_videos(), *train.of_videos())
    return _Outcome(
        pretrained.source,
        pretrained.settings,
        metrics,
        len(readable) - len(train_outputs.unreadable),
        len(videos.records) - len(test_outputs.unreadable),
        targets.num_classes,
        [*videos.unreadable, *test_outputs.unreadable],
    )


def _labelled(outputs: ViewOutputs, records: Sequence[VideoRecord], targets: Targets) -> LabelledFeatures:
    labels = torch.tensor([targets.index(record) for record in records])
    return LabelledFeatures(outputs.values, outputs.places, labels[outputs.places])
