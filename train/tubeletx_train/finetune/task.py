"""Fine-tuning as a task of the training loop, and the test that ends it."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy
from torch.optim.swa_utils import update_bn

from tubeletx_train.common.checkpoint import MODEL_FILE, save_checkpoint
from tubeletx_train.common.machine import made_on
from tubeletx_train.config.labelled import FinetuneConfig
from tubeletx_train.config.tree import to_tree
from tubeletx_train.data import BadVideoTracker, ColorJitterNormalize, DataError, VideoRecord
from tubeletx_train.data.labelled import LabelledBatch, TrainingClips, collate_clips
from tubeletx_train.data.labelled_videos import (
    TestVideos,
    check_test_videos,
    check_training_videos,
    listed_test_videos,
    listed_training_videos,
    review_splits,
)
from tubeletx_train.data.labels import Targets
from tubeletx_train.data.loader import EpochLoader
from tubeletx_train.data.subsets import hold_out
from tubeletx_train.engine.loop import TrainingResult, run_training
from tubeletx_train.engine.run import RunContext, open_run
from tubeletx_train.engine.task import checked_samples
from tubeletx_train.evaluation.judge import Judgement, judge_classifier
from tubeletx_train.evaluation.results import write_results
from tubeletx_train.evaluation.selection import DownstreamTask
from tubeletx_train.models.classifier import PretrainedEncoder, VideoClassifier, load_pretrained

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FinetuningVideos:
    """The videos of a fine-tuning run.

    Attributes:
        train: Trained on.
        selection: Weights are chosen by these; empty chooses the last.
        test: Tested on.
        targets: What their labels mean.
        bad: Counts training videos that go bad later.
    """

    train: Sequence[VideoRecord]
    selection: Sequence[VideoRecord]
    test: TestVideos
    targets: Targets
    bad: BadVideoTracker


def prepare_labelled_videos(config: FinetuneConfig, output: Path) -> FinetuningVideos:
    """Read, draw, check and divide; raises DataError where the input cannot be used."""
    index = output / "videos.json"
    listed = listed_training_videos(config.data, config.run.seed, output)
    listed_test = listed_test_videos(config.data)
    review_splits(listed, listed_test, config.data.num_classes)
    targets = Targets.of(config.task, [*listed, *listed_test], config.data)
    readable, bad = check_training_videos(listed, config.data, index)
    test = check_test_videos(listed_test, config.data, index)
    if config.protocol == "released":
        train, selection = readable, test.records
    else:
        train, selection = hold_out(readable, config.selection.held_out, config.run.seed)
        _require_selection(config, selection)
    return FinetuningVideos(train, selection, test, targets, bad)


def _require_selection(config: FinetuneConfig, selection: Sequence[VideoRecord]) -> None:
    share = config.selection.held_out
    if share and not selection:
        raise DataError(
            f"selection.held_out={share:g} holds out no video: in each class that share of its videos (or groups of "
            "them), rounded down, is none; give a larger share, or 0 to train on all and test the last weights"
        )


class Finetuning(DownstreamTask[LabelledBatch]):
    """Training of an encoder and a classifier with labels, one step at a time."""

    net: VideoClassifier

    def __init__(self, config: FinetuneConfig, videos: FinetuningVideos, run: RunContext) -> None:
        """Builds data set, network and optimiser."""
        dataset = TrainingClips(videos.train, videos.targets, config.data, seed=config.run.seed)
        loader = EpochLoader(dataset, collate_clips, videos.bad, config.optim.batch_size, run)
        super().__init__(config, run, loader)
        self.videos = videos
        self.pretrained: PretrainedEncoder = load_pretrained(config.checkpoint, config.model)
        self.net = VideoClassifier(self.pretrained.encoder, videos.targets.num_classes, config.model.dropout)
        self.net.to(self.device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self._forward = torch.compile(self.net) if config.run.compile else self.net
        self.augment = ColorJitterNormalize(config.color, seed=config.run.seed, normalization=config.data.normalization)
        self.optimization = self.build_optimization(self.net)

    def train_step(self, batch: LabelledBatch) -> dict[str, float]:
        """One optimiser step; returns loss, top-1 (for recognition) and gradient norm."""
        self.net.train()
        clip = self.augment(batch.clip, batch.sample_ids, epoch=batch.epoch, which=0)
        losses, correct = [], 0.0
        whole = (clip, batch.target, batch.sample_ids)
        for part, target, sample_ids in zip(*(x.chunk(self.config.optim.accumulate) for x in whole), strict=True):
            with self.optimization.autocast():
                logits = self._forward(part)
            loss = self._loss(logits.float(), target)
            self.require_finite(loss, batch, sample_ids)
            self.optimization.backward(loss.sum() / len(clip))
            losses.append(loss.detach())
            if self.config.task == "recognition":
                correct += (logits.argmax(1) == target).sum().item()
        values = {"loss": torch.cat(losses).mean().item()}
        if self.config.task == "recognition":
            values["top1"] = correct / len(clip)
        return values | self.update(batch)

    def check_loss(self, batch: LabelledBatch) -> Callable[[], Tensor]:
        """The loss of some clips."""
        chosen = slice(checked_samples(-(-len(batch.sample_ids) // self.config.optim.accumulate)))
        clip = self.augment(batch.clip[chosen], batch.sample_ids[chosen], epoch=batch.epoch, which=0)
        self.net.train()
        return lambda: self._loss(self.net(clip).float(), batch.target[chosen]).mean()

    def _loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """(B,)."""
        if self.config.task == "multilabel":
            return binary_cross_entropy_with_logits(logits, target, reduction="none").mean(1)
        return cross_entropy(logits, target, reduction="none")

    def evaluate(self) -> Mapping[str, float]:
        """Judge the weights on the videos that they are chosen by, and keep them if they are the best yet."""
        if not self.videos.selection:
            return {}
        self.average_batch_norm()
        metrics = self.judge(self.videos.selection, self.config.selection.clips).metrics
        self.keep_if_best(metrics[primary_metric(self.config)])
        return metrics

    def judge(self, records: Sequence[VideoRecord], clips: int, progress: str | None = None) -> Judgement:
        """Test the weights on videos, by so many clips of each; the same in every process."""
        self.share_running_statistics()
        return judge_classifier(
            self.net,
            records,
            self.videos.targets,
            dataclasses.replace(self.config.data, test_clips=clips),
            protocol=self.config.protocol,
            device=self.device,
            batch_size=self.batch_size,
            precision=self.optimization.settled.precision,
            ranks=self.run.ranks,
            progress=progress,
        )

    def choose(self) -> int:
        """Take the best weights, the last ones included, and return the step that they are of."""
        if self.videos.selection:
            self.evaluate()
        else:
            self.average_batch_norm()
        return self.take_best()

    def average_batch_norm(self) -> None:
        """Take the statistics of batch norm from so many batches to come as `model.precise_batches` says."""
        count = self.config.model.precise_batches
        if count:
            batches = self.source.batches(self.step, self.step + count)
            clips = (self.augment(batch.clip, batch.sample_ids, epoch=batch.epoch, which=0) for batch in batches)
            update_bn(clips, self.net)

    def listed(self) -> dict[str, Sequence[VideoRecord]]:
        """What is trained on, and what weights are chosen by."""
        return {
            "list of training videos": self.videos.train,
            "list of videos that weights are chosen by": self.videos.selection,
        }

    def identity(self) -> dict[str, object]:
        """The lists of videos and what their labels mean."""
        return super().identity() | {"classes": self.videos.targets.classes}


def primary_metric(config: FinetuneConfig) -> str:
    """The metric that weights are chosen by."""
    return "map" if config.task == "multilabel" else "top1"


def finetune(config: FinetuneConfig) -> tuple[TrainingResult, dict[str, float]]:
    """Fine-tune (or go on with it), choose weights, test them, and write results.json and model.pt.

    Returns:
        How the run ended, and the metrics of the test; none where a signal ended it early.

    Raises:
        UsageError, DataError: The input cannot be used; one line says why.
        NonFiniteError: The loss or the gradient became NaN or infinite.
    """
    with open_run(config.run) as run:
        # What is wrong with these is said before the videos are looked at, which takes its time.
        run.ranks.share(config.optim.batch_size, "optim.batch_size")
        load_pretrained(config.checkpoint, config.model, quiet=True)
        with run.ranks.main_first():
            videos = prepare_labelled_videos(config, run.output)
        task = Finetuning(config, videos, run)
        result = run_training(task, run)
        if run.ranks.is_main:
            videos.bad.log_count()
        if result.exit_code:
            return result, {}
        chosen = task.choose()
        judgement = task.judge(videos.test.records, config.data.test_clips, "testing")
        if run.ranks.is_main:
            _finish(task, run, judgement, chosen)
        return result, judgement.metrics


def _finish(task: Finetuning, run: RunContext, judgement: Judgement, chosen: int) -> None:
    """Write what a finished run leaves."""
    config, videos = task.config, task.videos
    state = {
        "classifier": task.net.state_dict(),
        "encoder": to_tree(task.pretrained.settings),
        "classes": videos.targets.classes,
        "num_classes": videos.targets.num_classes,
        "source": task.pretrained.source,
        "config": to_tree(config),
        "made": made_on(task.device, str(task.optimization.settled)),
    }
    save_checkpoint(state, run.output / MODEL_FILE)
    write_results(
        run.output,
        config,
        method=config.method or task.pretrained.source,
        mode="finetuned",
        encoder=task.pretrained.settings,
        seed=config.run.seed,
        metrics=judgement.metrics,
        train_videos=len(videos.train),
        test_videos=len(videos.test.records) - len(judgement.unreadable),
        num_classes=videos.targets.num_classes,
        device=task.device,
        precision=str(task.optimization.settled),
        unreadable=[*videos.test.unreadable, *judgement.unreadable],
        held_out_videos=0 if config.protocol == "released" else len(videos.selection),
        chosen_step=chosen,
        bad_training_videos=[str(video) for video in videos.bad.bad],
    )
