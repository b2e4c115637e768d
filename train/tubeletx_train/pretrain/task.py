"""Pretraining as a task of the training loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from tubeletx_train.common.errors import UsageError
from tubeletx_train.config.pretrain import PretrainConfig
from tubeletx_train.data import BadVideoTracker, PairBatch, VideoRecord, prepare_videos
from tubeletx_train.data.bank import BankBatch
from tubeletx_train.data.table import fingerprint
from tubeletx_train.engine.loop import TrainingResult, run_training
from tubeletx_train.engine.run import RunContext, open_run
from tubeletx_train.engine.sync_batch_norm import synchronize_batch_norm
from tubeletx_train.engine.task import TrainingTask, checked_samples
from tubeletx_train.figures import contact_sheet
from tubeletx_train.pretrain.batches import pair_batches
from tubeletx_train.pretrain.build import build_moco, channels_last, start_from
from tubeletx_train.pretrain.moco import MoCo
from tubeletx_train.pretrain.views import PairViews
from tubeletx_train.pretrain.watch import (
    EncoderEvaluation,
    label_probe_of,
    motion_probe_of,
    warn_of_stale_queue,
    watches_of,
)

_LIST = "list of readable videos"
_MOST_NAMES = 100_000


class Pretraining(TrainingTask[PairBatch | BankBatch]):
    """Momentum contrast of clip pairs, one step at a time."""

    net: MoCo

    # `data.videos` is free because the list itself is compared.
    free_on_resume = (
        *TrainingTask.free_on_resume,
        "evaluation.",
        "data.videos",
        "data.cache_",
        "data.bank_limit_gb",
        "model.init_from",
    )

    def __init__(
        self,
        config: PretrainConfig,
        videos: Sequence[VideoRecord],
        run: RunContext,
        bad_videos: BadVideoTracker,
        evaluation: EncoderEvaluation,
    ) -> None:
        """Builds data set, networks and optimiser.

        Args:
            config: Settings.
            videos: The readable ones, as `prepare_videos` returned them.
            run: Where and among how many processes.
            bad_videos: Counts those that go bad later.
            evaluation: What `run.evaluate_every` asks for.
        """
        super().__init__(config, run, pair_batches(config, videos, run, bad_videos))
        self._evaluation = evaluation
        self._videos = fingerprint(videos, labels=False)
        # Of a very long list the names would make every checkpoint long.
        self._names = [Path(video.path).name for video in videos] if len(videos) <= _MOST_NAMES else None
        moco = build_moco(config)
        # A checkpoint to go on from has later weights; the file may be gone by then.
        if config.model.init_from is not None and not run.ranks.broadcast(bool(run.checkpoints().paths())):
            start_from(moco, config.model.init_from)
        self.net = channels_last(moco.to(self.device))
        if config.model.batch_norm == "sync" and run.ranks.world_size > 1:
            self.net = synchronize_batch_norm(self.net, self.device)
        if config.run.compile:
            self.net.compile_networks()
        self.views = PairViews(config.contrast, config.tubelets, config.color, seed=config.run.seed).to(self.device)
        self.optimization = self.build_optimization(self.net)  # key network and queue take no gradient
        self._watches = watches_of(config, self.batch_size // config.optim.accumulate)

    def clips(self, batch: PairBatch | BankBatch) -> int:
        """Two a pair, three with own negatives."""
        return len(batch.sample_ids) * (2 if self.config.contrast.own_negatives == "none" else 3)

    def draw_batch(self, batch: PairBatch | BankBatch, folder: Path) -> Path:
        """A contact sheet of the pairs."""
        return contact_sheet(folder / "first_batch.png", self.views(batch))

    def train_step(self, batch: PairBatch | BankBatch) -> dict[str, float]:
        """One optimiser step; returns loss, metrics and gradient norm."""
        views = self.views(batch)
        num_parts = self.config.optim.accumulate
        size = len(views.query) // num_parts
        self.net.train()
        self.net.update_key_net()
        values: dict[str, float] = {}
        keys: list[Tensor] = []
        for start in range(0, len(views.query), size):
            part = slice(start, start + size)
            with self.optimization.autocast():
                output = self.net.compare(*views.rows(part))
            self.require_finite(output.loss, batch, batch.sample_ids[part])
            loss = output.loss.mean()
            measured = {"loss": loss.detach()} | output.metrics
            for name, value in zip(measured, torch.stack(list(measured.values())).tolist(), strict=True):
                values[name] = values.get(name, 0.0) + value / num_parts
            self.optimization.backward(loss / num_parts)
            keys.append(output.key)
        self.net.enqueue(torch.cat(keys))
        if self.run.ranks.is_main:
            for watch in self._watches:
                watch.update(self.step + 1, values)
        return values | self.update(batch)

    def check_loss(self, batch: PairBatch | BankBatch) -> Callable[[], Tensor]:
        """The loss of some pairs."""
        views = self.views(batch)
        chosen = slice(checked_samples(len(views.query) // self.config.optim.accumulate))
        rows = views.rows(chosen)
        self.net.train()
        return lambda: self.net.compare(*rows).loss.mean()

    def evaluate(self) -> Mapping[str, float]:
        """The evaluation of the query encoder, in the main process; the others wait."""
        return self._evaluation(self.net.query_net.encoder) if self.run.ranks.is_main else {}

    def identity(self) -> dict[str, object]:
        """The list of videos, wherever they lie."""
        return {_LIST: self._videos}

    def video_lists(self) -> dict[str, list[str]]:
        """Their names, where they are not too many."""
        return {} if self._names is None else {_LIST: self._names}


def _check_settings(config: PretrainConfig, run: RunContext) -> None:
    """Say what is wrong with the settings alone before the videos are looked at, which takes its time."""
    share, parts = run.ranks.share(config.optim.batch_size, "optim.batch_size"), config.optim.accumulate
    if share % parts:
        raise UsageError(
            f"optim.batch_size brings each process {share} pairs, which do not split into optim.accumulate {parts} "
            "equal parts"
        )
    if share // parts % config.contrast.shared_patches:
        raise UsageError(
            f"contrast.shared_patches: got {config.contrast.shared_patches}, needs a divisor of the {share // parts} "
            "pairs that each process takes at a time"
        )
    if config.model.init_from is not None and not run.checkpoints().paths():
        start_from(build_moco(config), config.model.init_from)
    else:
        with torch.device("meta"):  # says what is wrong with the network's settings, in no time
            build_moco(config)


def pretrain(config: PretrainConfig, evaluation: EncoderEvaluation | None = None) -> TrainingResult:
    """Run (or go on with) a pretraining.

    Args:
        config: Settings.
        evaluation: Judges the encoder as often as `run.evaluate_every` or `run.evaluate_every_epochs` says; None is
            what `config.evaluation` says.

    Raises:
        UsageError, DataError: The input cannot be used; one line says why.
        NonFiniteError: The loss or the gradient became NaN or infinite.
    """
    with open_run(config.run) as run:
        _check_settings(config, run)
        with run.ranks.main_first():
            index = run.output / "videos.json"
            videos, bad_videos = prepare_videos(config.data, index=index, progress=run.ranks.is_main)
        if evaluation is None:
            labelled = config.evaluation.videos
            # The main process alone evaluates, so it alone holds the labelled clips.
            evaluation = (
                motion_probe_of(videos, config)
                if labelled is None or not run.ranks.is_main
                else label_probe_of(labelled, config)
            )
        task = Pretraining(config, videos, run, bad_videos, evaluation)
        if run.ranks.is_main:
            warn_of_stale_queue(config, task.total_steps)
        result = run_training(task, run)
        if run.ranks.is_main:
            bad_videos.log_count()
        return result
