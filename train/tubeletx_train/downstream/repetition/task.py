"""Repetition counting as a task of the training loop."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from tubeletx_train.config.repetition import RepetitionConfig
from tubeletx_train.data import BadVideoTracker, EpochSampler, VideoRecord, build_clip_loader
from tubeletx_train.data.clips import clip_generator
from tubeletx_train.downstream.classifier import PretrainedEncoder
from tubeletx_train.downstream.repetition.dataset import RepetitionWindows, Window, keep_windows
from tubeletx_train.downstream.repetition.evaluate import CountedVideos, count_records
from tubeletx_train.downstream.repetition.model import CycleNet, cycle_loss, segment_clips
from tubeletx_train.downstream.repetition.refinement import Refinement
from tubeletx_train.downstream.repetition.segments import Estimate, Targets, anchor_targets
from tubeletx_train.downstream.videos import fingerprint
from tubeletx_train.engine.non_finite import require_finite
from tubeletx_train.engine.optimization import Optimization
from tubeletx_train.engine.run import Run
from tubeletx_train.engine.seeding import seed_everything
from tubeletx_train.engine.training import TrainingTask

Batch = list[Window]


class RepetitionTraining(TrainingTask[Batch]):
    """Trains a network to tell the lengths of neighbouring repetitions; a step takes several updates."""

    free_on_resume = (
        "run.",
        "data.train",  # the lists themselves are compared
        "data.test",
        "data.num_workers",
        "data.prefetch",
        "data.timeout",
        "data.check_timeout",
        "videos_per_pass",
        "clips_per_pass",
    )

    def __init__(
        self,
        config: RepetitionConfig,
        run: Run,
        pretrained: PretrainedEncoder,
        train: Sequence[VideoRecord],
        test: Sequence[VideoRecord],
        bad_videos: BadVideoTracker,
    ) -> None:
        """Builds data set, network and optimiser.

        Args:
            config: Settings.
            run: Where and among how many processes.
            pretrained: The encoder to start from.
            train: Checked training videos.
            test: Checked test videos, which `protocol: released` looks at.
            bad_videos: Counts training videos that go bad later.
        """
        self.config = config
        self.device = run.device
        self.best: dict[str, Any] | None = None
        self._run = run
        self._test = test
        self._bad_videos = bad_videos
        self._batch_size = run.ranks.share(config.optim.batch_size, "optim.batch_size")
        self.dataset = RepetitionWindows(train, config.data, seed=config.run.seed)
        self._videos = fingerprint(self.dataset.records)
        self.steps_per_epoch = self._sampler().batches_per_epoch
        self.total_steps = config.optim.steps or config.optim.epochs * self.steps_per_epoch
        self._updates = 1 + config.refinements
        seed_everything(config.run.seed)
        self.net = CycleNet(pretrained.encoder, config.model.side_frames).to(self.device)
        self.optimization = Optimization(
            self.net,
            config.optim,
            total_steps=self.total_steps * self._updates,
            steps_per_epoch=self.steps_per_epoch * self._updates,
            device=self.device,
            ranks=run.ranks,
        )

    def _sampler(self, start: int = 0, stop: int | None = None) -> EpochSampler:
        return EpochSampler(
            len(self.dataset),
            self._batch_size,
            seed=self.config.run.seed,
            rank=self._run.ranks.rank,
            world_size=self._run.ranks.world_size,
            start=start,
            stop=stop,
        )

    def batches(self, start: int, stop: int) -> Iterator[Batch]:
        """Windows. Raises TooManyBadVideos once too many videos could not be read."""
        for batch in build_clip_loader(self.dataset, self._sampler(start, stop), keep_windows):
            self._bad_videos.update(bad for window in batch for bad in window.bad)
            yield batch

    def clips(self, batch: Batch) -> int:
        """A clip for each window and update."""
        return len(batch) * self._updates

    def train_step(self, batch: Batch) -> dict[str, float]:
        """Several updates on the same windows, each with the segments that the one before led to."""
        self.net.train()
        frames = [window.frames.to(self.device) for window in batch]
        # Keyed by the step, so that a resumed run draws the same.
        rng = clip_generator(self.config.run.seed, self.step, self._run.ranks.rank, 0, 3)
        refinement = Refinement([window.boundaries for window in batch], rng)
        updates = []
        for _ in range(self._updates):
            values, estimate = self._update(batch, frames, refinement)
            refinement.advance(estimate)
            updates.append(values)
        return {name: sum(values[name] for values in updates) / len(updates) for name in updates[0]}

    def _update(
        self, batch: Batch, frames: list[torch.Tensor], refinement: Refinement
    ) -> tuple[dict[str, float], Estimate]:
        middles, lengths = refinement.middles, refinement.lengths
        clips = segment_clips(frames, middles, lengths, self.net.side_frames)
        truth = refinement.true_lengths()
        targets = anchor_targets(lengths, truth)
        with self.optimization.autocast():
            logits, log_scales = self.net(clips)
        on_device = Targets(targets.matches.to(self.device), targets.log_scales.to(self.device))
        loss = cycle_loss(logits, log_scales, on_device, self.config.box_weight)
        require_finite(
            loss,
            step=self.step + 1,
            epoch=batch[0].epoch,
            sample_ids=torch.tensor([window.sample_id for window in batch]),
            dump=lambda: {"middles": middles, "lengths": lengths, "clips": clips.cpu(), "model": self.net.state_dict()},
            path=self._run.output / "non-finite.pt",
        )
        self.optimization.backward(loss)
        values = {"loss": loss.item(), "grad_norm": self.optimization.step().get("grad_norm", float("inf"))}
        estimate = Estimate(logits.detach().softmax(3)[..., 1].cpu(), log_scales.detach().cpu())
        known = truth > 0
        errors = (estimate.lengths(lengths)[known] - truth[known]).abs() / truth[known]
        return values | {"length_error": float(errors.sum() / max(len(errors), 1))}, estimate

    def learning_rate(self) -> float:
        """Of the step to come."""
        return self.optimization.learning_rate

    def evaluate(self) -> Mapping[str, float]:
        """Count the test split, and keep the weights that have done it best so far (`protocol: released` alone)."""
        metrics = self.count(self._test).metrics
        if self.best is None or metrics["mean_error"] < self.best["mean_error"]:
            weights = {name: value.cpu().clone() for name, value in self.net.state_dict().items()}
            self.best = {"mean_error": metrics["mean_error"], "step": self.step, "model": weights}
        return metrics

    def count(self, records: Sequence[VideoRecord], progress: str | None = None) -> CountedVideos:
        """Count the repetitions of marked videos with the network as it is; all processes share the work."""
        config = self.config
        return count_records(
            self.net,
            records,
            config.data,
            frame_size=config.data.frame_size,
            videos_per_pass=config.videos_per_pass,
            clips_per_pass=config.clips_per_pass,
            autocast=self.optimization.autocast(),
            ranks=self._run.ranks,
            progress=progress,
        )

    def choose(self) -> int:
        """Take up the weights that are to be tested; returns the step they are of."""
        if self.best is None:
            return self.step
        self.net.load_state_dict(self.best["model"])
        return int(self.best["step"])

    def identity(self) -> dict[str, object]:
        """The list of training videos, wherever they lie."""
        return {"list of readable videos": self._videos}

    def state_dict(self) -> dict[str, Any]:
        """Network, optimiser, and the best weights so far."""
        return {"model": self.net.state_dict(), "best": copy.copy(self.best)} | self.optimization.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.net.load_state_dict(state["model"])
        self.best = state["best"]
        self.optimization.load_state_dict(state)
