"""The pretraining loop."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch.nn.utils import clip_grad_norm_

import tubeletx
from tubeletx_train.config.pretrain import PretrainConfig
from tubeletx_train.config.tree import flatten, to_tree
from tubeletx_train.data import (
    EpochSampler,
    LoaderError,
    PairBatch,
    PairDataset,
    VideoRecord,
    build_loader,
    prepare_videos,
)
from tubeletx_train.engine.checkpoint import CheckpointFolder
from tubeletx_train.engine.errors import CommandError, UsageError
from tubeletx_train.engine.logs import RunLog
from tubeletx_train.engine.output import writable_folder
from tubeletx_train.engine.schedule import cosine_schedule
from tubeletx_train.engine.seeding import rng_state, seed_everything, set_rng_state
from tubeletx_train.engine.signals import StopRequest
from tubeletx_train.figures import contact_sheet
from tubeletx_train.pretrain.build import build_moco, build_optimizer, channels_last, resolve_device
from tubeletx_train.pretrain.views import PairViews, Views

_logger = logging.getLogger(__name__)

# Settings that a resumed run may change without becoming another run.
_FREE_ON_RESUME = (
    "run.",
    "data.videos",  # the list itself is compared
    "data.num_workers",
    "data.prefetch",
    "data.timeout",
    "data.check_timeout",
    "data.cache_",
)
_FIXED_ON_RESUME = ("run.seed",)


class NonFiniteLossError(CommandError):
    """The loss is NaN or infinite; the message names the step, the samples and the dump."""


@dataclass(frozen=True)
class PretrainResult:
    """How a run ended.

    Attributes:
        output: Its folder.
        checkpoint: The last checkpoint.
        step: Steps done.
        exit_code: 0, or 128 + a signal's number if one ended the run early.
    """

    output: Path
    checkpoint: Path
    step: int
    exit_code: int


class Pretraining:
    """One run: its parts, one step, and the state that goes into a checkpoint."""

    def __init__(self, config: PretrainConfig, videos: str, total_steps: int, device: torch.device) -> None:
        """Args: `videos` identifies the list of videos, see `fingerprint`."""
        self.config = config
        self.videos = videos
        self.device = device
        self.total_steps = total_steps
        self.step = 0
        seed_everything(config.run.seed)
        self.moco = channels_last(build_moco(config).to(device))
        self.views = PairViews(config.contrast, config.tubelets, config.color, seed=config.run.seed).to(device)
        self.optimizer = build_optimizer(self.moco, config.optim)
        self.schedule = cosine_schedule(self.optimizer, total_steps, config.optim.warmup_steps)

    def train_step(self, batch: PairBatch, views: Views) -> dict[str, float]:
        """One optimiser step; returns what it measured.

        Raises:
            NonFiniteLossError: Before the weights are touched.
        """
        self.moco.train()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.optim.precision == "bfloat16"):
            output = self.moco(views.query, views.key, views.own_negative)
        loss = output.loss.mean()
        values = {"loss": loss.item()} | {name: value.item() for name, value in output.metrics.items()}
        if not torch.isfinite(loss):
            self._stop_on_non_finite(batch, output.loss.detach())
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        limit = self.config.optim.clip_norm
        norm = clip_grad_norm_(self.moco.query_net.parameters(), float("inf") if limit is None else limit)
        values["grad_norm"] = norm.item()
        self.optimizer.step()
        self.schedule.step()
        self.step += 1
        return values

    def _stop_on_non_finite(self, batch: PairBatch, loss: torch.Tensor) -> None:
        rows = ~torch.isfinite(loss).cpu()
        path = Path(self.config.run.output) / "non-finite.pt"
        torch.save({"batch": dataclasses.asdict(batch), "loss": loss.cpu(), "model": self.moco.state_dict()}, path)
        ids = batch.sample_ids.cpu()
        raise NonFiniteLossError(
            f"loss is not finite at step {self.step + 1} (epoch {batch.epoch}), sample ids {ids[rows].tolist()} of "
            f"{ids.tolist()}; the batch and the weights were saved to {path}"
        )

    def state_dict(self) -> dict[str, Any]:
        """Everything that the steps to come depend on, and where it came from."""
        return {
            "tubeletx": tubeletx.__version__,
            "config": to_tree(self.config),
            "videos": self.videos,
            "step": self.step,
            "total_steps": self.total_steps,
            "model": self.moco.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "rng": rng_state(),
        }

    def load_state_dict(self, state: dict[str, Any], origin: Path) -> None:
        """Go on from a checkpoint. Raises UsageError if it belongs to another run."""
        differing = _differences(state["config"], to_tree(self.config))
        if state["videos"] != self.videos:
            differing.append("the list of readable videos")
        if state["total_steps"] != self.total_steps:
            differing.append(f"steps in all (was {state['total_steps']}, now {self.total_steps})")
        if differing:
            raise UsageError(
                f"{origin} is of a run with other settings: {'; '.join(differing)}. "
                "Choose another --run.output, or the old settings"
            )
        self.step = int(state["step"])
        self.moco.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        set_rng_state(state["rng"])


def pretrain(config: PretrainConfig) -> PretrainResult:
    """Run (or go on with) a pretraining.

    Raises:
        UsageError, DataError: The input cannot be used; one line says why.
        NonFiniteLossError: The loss became NaN or infinite.
    """
    output = writable_folder(config.run.output)
    checkpoints = CheckpointFolder(output / "checkpoints", config.run.keep_checkpoints)
    if config.run.resume == "never" and checkpoints.paths():
        raise UsageError(f"{output} already holds a run; choose another --run.output or --run.resume auto")
    if config.run.threads is not None:
        torch.set_num_threads(config.run.threads)
    device = resolve_device(config.run.device)

    videos, bad_videos = prepare_videos(config.data, index=output / "videos.json")
    dataset = PairDataset(videos, config.data, seed=config.run.seed, mode=config.contrast.mode)
    epoch = EpochSampler(len(dataset), config.optim.batch_size)
    total_steps = config.optim.steps or config.optim.epochs * epoch.batches_per_epoch
    run = Pretraining(config, fingerprint(videos), total_steps, device)
    latest = checkpoints.load_latest()
    log_state = None
    if latest is not None:
        path, state = latest
        run.load_state_dict(state, path)
        log_state = state["log"]
        _logger.info("going on from %s (step %d of %d)", path, run.step, total_steps)
    (output / "config.yaml").write_text(yaml.safe_dump(to_tree(config), sort_keys=False), encoding="utf-8")

    with (
        StopRequest() as stop,  # before the workers start, so that they do not die of the signals first
        RunLog(
            output,
            total_steps=total_steps,
            first_step=run.step,
            every=config.run.log_every,
            tensorboard=config.run.tensorboard,
        ) as log,
    ):
        if log_state is not None:
            log.load_state_dict(log_state)
        sampler = EpochSampler(
            len(dataset), config.optim.batch_size, seed=config.run.seed, start=run.step, stop=total_steps
        )
        loader = iter(build_loader(dataset, sampler, pin_memory=device.type == "cuda"))
        saved = None if latest is None else run.step

        def save() -> int:
            checkpoints.save(run.step, run.state_dict() | {"log": log.state_dict()})
            return run.step

        while run.step < total_steps and not stop:
            try:
                batch, waited = _next(loader)
            except LoaderError:
                if stop:  # a Ctrl-C ends the workers too, perhaps in the middle of a batch
                    break
                raise
            bad_videos.update(batch.bad)
            batch = batch.to(device)
            views = run.views(batch)
            if run.step == 0 and views.tubelets is not None:
                contact_sheet(output / "first_batch.png", views.clip_1, views.clip_2, views.tubelets)
            lr = float(run.schedule.get_last_lr()[0])
            values = run.train_step(batch, views)
            clips = len(batch.sample_ids) * (2 if views.own_negative is None else 3)
            log.step(run.step, values, clips=clips, waited=waited, lr=lr, epoch=batch.epoch)
            if run.step % config.run.checkpoint_every == 0:
                saved = save()
        if saved != run.step:
            save()
    return PretrainResult(output, checkpoints.paths()[0], run.step, stop.exit_code if run.step < total_steps else 0)


def _next(loader: Iterator[PairBatch]) -> tuple[PairBatch, float]:
    since = time.perf_counter()
    # A loader that starts draws once from the global generator: a resumed run must not be ahead by that draw.
    with torch.random.fork_rng(devices=[]):
        batch = next(loader)
    return batch, time.perf_counter() - since


def fingerprint(videos: Sequence[VideoRecord]) -> str:
    """A digest of which videos, and which parts of them, are trained on; the folder they lie in does not matter."""
    names = [(Path(video.path).name, video.start, video.end, video.num_frames) for video in videos]
    return hashlib.sha256(repr(names).encode()).hexdigest()


def _differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    before, after = flatten(old), flatten(new)
    return [
        f"{name} (was {before.get(name)}, now {after.get(name)})"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name) and (name in _FIXED_ON_RESUME or not name.startswith(_FREE_ON_RESUME))
    ]
