"""Repetition counting as a task of the training loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from tubeletx_train.config.repetition import RepetitionConfig
from tubeletx_train.data import BadVideoTracker, VideoRecord
from tubeletx_train.data.clips import clip_generator
from tubeletx_train.data.loader import EpochLoader
from tubeletx_train.engine.run import RunContext
from tubeletx_train.engine.task import checked_samples
from tubeletx_train.evaluation.selection import DownstreamTask
from tubeletx_train.models.classifier import PretrainedEncoder, load_pretrained
from tubeletx_train.repetition.dataset import RepetitionWindows, WindowBatch
from tubeletx_train.repetition.model import CycleNet, cycle_loss, segment_clips
from tubeletx_train.repetition.procedure import Procedure, procedure_of
from tubeletx_train.repetition.records import CountedVideos, count_records
from tubeletx_train.repetition.refinement import Refinement
from tubeletx_train.repetition.segments import AnchorTargets, LengthEstimate, anchor_targets


class RepetitionTraining(DownstreamTask[WindowBatch]):
    """Trains a network to tell the lengths of neighbouring repetitions; a step takes several updates."""

    free_on_resume = (*DownstreamTask.free_on_resume, "videos_per_pass", "clips_per_pass")
    net: CycleNet

    def __init__(
        self,
        config: RepetitionConfig,
        run: RunContext,
        train: Sequence[VideoRecord],
        test: Sequence[VideoRecord],
        bad_videos: BadVideoTracker,
        procedure: Procedure | None = None,
    ) -> None:
        """Builds data set, network and optimiser.

        Args:
            config: Settings.
            run: Where and among how many processes.
            train: Checked training videos.
            test: Checked test videos, which `protocol: released` looks at.
            bad_videos: Counts training videos that go bad later.
            procedure: In place of the one that the settings name.
        """
        self.procedure = procedure or procedure_of(config)
        dataset = RepetitionWindows(train, config.data, seed=config.run.seed, fixed=self.procedure.fixed_windows)
        loader = EpochLoader(dataset, WindowBatch, bad_videos, config.optim.batch_size, run)
        super().__init__(config, run, loader)
        self.records = dataset.records
        self._test = test
        self._updates = 1 + config.refinements
        self.pretrained: PretrainedEncoder = load_pretrained(config.checkpoint, config.model)
        self.net = CycleNet(self.pretrained.encoder, config.model.side_frames).to(self.device)
        self.optimization = self.build_optimization(self.net, self._updates)

    def clips(self, batch: WindowBatch) -> int:
        """A clip for each window and update."""
        return len(batch.windows) * self._updates

    def train_step(self, batch: WindowBatch) -> dict[str, float]:
        """Several updates on the same windows, each with the segments that the one before led to."""
        self.net.train()
        refinement = self._refinement(batch)
        updates = []
        for _ in range(self._updates):
            values, estimate = self._update(batch, refinement)
            refinement.advance(estimate)
            updates.append(values)
        return {name: sum(values[name] for values in updates) / len(updates) for name in updates[0]}

    def _refinement(self, batch: WindowBatch) -> Refinement:
        # Keyed by the step, so that a resumed run draws the same.
        rng = clip_generator(self.config.run.seed, self.step, self.run.ranks.rank, 0, 3)
        return Refinement(batch.windows, self.procedure, rng)

    def check_loss(self, batch: WindowBatch) -> Callable[[], Tensor]:
        """The loss of the first segments of some windows."""
        count = checked_samples(len(batch.windows))
        refinement = self._refinement(batch)
        lengths = refinement.lengths[:count]
        frames = [window.frames for window in batch.windows[:count]]
        clips = segment_clips(frames, refinement.middles[:count], lengths, self.net.side_frames)
        targets = anchor_targets(lengths, refinement.true_lengths()[:count])
        on_device = AnchorTargets(targets.matches.to(self.device), targets.log_scales.to(self.device))
        self.net.train()

        def loss() -> Tensor:
            logits, log_scales = self.net(clips)
            return cycle_loss(logits, log_scales, on_device, self.config.box_weight)

        return loss

    def _update(self, batch: WindowBatch, refinement: Refinement) -> tuple[dict[str, float], LengthEstimate]:
        frames = [window.frames for window in batch.windows]
        middles, lengths = refinement.middles, refinement.lengths
        clips = segment_clips(frames, middles, lengths, self.net.side_frames)
        truth = refinement.true_lengths()
        targets = anchor_targets(lengths, truth)
        with self.optimization.autocast():
            logits, log_scales = self.net(clips)
        on_device = AnchorTargets(targets.matches.to(self.device), targets.log_scales.to(self.device))
        loss = cycle_loss(logits, log_scales, on_device, self.config.box_weight)

        def dump() -> dict[str, Any]:
            return {"middles": middles, "lengths": lengths, "clips": clips.cpu()}

        self.require_finite(loss, batch, dump=dump)
        self.optimization.backward(loss)
        values = {"loss": loss.item(), "grad_norm": self.update(batch, dump).get("grad_norm", float("inf"))}
        estimate = LengthEstimate(logits.detach().softmax(3)[..., 1].cpu(), log_scales.detach().cpu())
        known = truth > 0
        errors = (estimate.lengths(lengths)[known] - truth[known]).abs() / truth[known]
        return values | {"length_error": float(errors.sum() / max(len(errors), 1))}, estimate

    def evaluate(self) -> Mapping[str, float]:
        """Count the test split, and keep the weights that have done it best so far (`protocol: released` alone)."""
        metrics = self.count(self._test).metrics
        self.keep_if_best(-metrics["mean_error"])
        return metrics

    def count(self, records: Sequence[VideoRecord], progress: str | None = None) -> CountedVideos:
        """Count the repetitions of marked videos with the network as it is; all processes share the work."""
        self.share_running_statistics()
        config = self.config
        return count_records(
            self.net,
            records,
            config.data,
            frame_size=config.data.frame_size,
            videos_per_pass=config.videos_per_pass,
            clips_per_pass=config.clips_per_pass,
            unit_refinement=self.procedure.unit_refinement,
            autocast=self.optimization.autocast(),
            ranks=self.run.ranks,
            progress=progress,
        )

    def listed(self) -> dict[str, Sequence[VideoRecord]]:
        """What is trained on."""
        return {"list of readable videos": self.records}
