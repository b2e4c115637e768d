"""The ceiling of a probe: what the same network reaches when it is trained with the labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import trange

from tubeletx_train.config.optim import OptimConfig
from tubeletx_train.data import normalize
from tubeletx_train.engine.optimization import Optimization
from tubeletx_train.engine.task import checked_samples
from tubeletx_train.evaluation.embed import embed
from tubeletx_train.evaluation.motion_probe import ProbeTask, paste_motions
from tubeletx_train.evaluation.motions import MOTION_NAMES
from tubeletx_train.models import VideoEncoder

_LONGEST_WARMUP = 20  # steps

TrainingPrecision = Literal["auto", "float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class Ceiling:
    """What training with the labels came to.

    Attributes:
        accuracy: As a share.
        precision: That the network was trained in.
    """

    accuracy: float
    precision: str


def supervised_ceiling(
    encoder: VideoEncoder,
    clips: Tensor,
    test: ProbeTask,
    *,
    steps: int,
    batch_size: int = 64,
    lr: float = 2e-3,
    seed: int = 0,
    precision: TrainingPrecision = "auto",
) -> Ceiling:
    """Train an encoder and a linear layer on fresh motions over given frames; in place.

    Args:
        encoder: Trained in place.
        clips: (N, 3, T, H, W) uint8 plain clips of the videos that may be trained on; each step draws frames and
            patches from them.
        test: What the accuracy is measured on.
        steps: Steps of AdamW with a cosine schedule.
        batch_size: Clips a step.
        lr: Peak learning rate.
        seed: Seed of the draws.
        precision: As in `OptimConfig`.

    Returns:
        Accuracy on `test`.

    Raises:
        NonFiniteError: The gradient became NaN or infinite.
    """

    def draw(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        labels = torch.randint(len(MOTION_NAMES), (batch_size,), generator=generator)
        background, source = torch.randint(len(clips), (2, batch_size), generator=generator)
        return paste_motions(clips[background], clips[source], labels, generator), labels

    return trained_with_labels(
        encoder, draw, test, len(MOTION_NAMES), steps=steps, lr=lr, seed=seed, precision=precision
    )


def trained_with_labels(
    encoder: VideoEncoder,
    draw: Callable[[torch.Generator], tuple[Tensor, Tensor]],
    test: ProbeTask,
    num_classes: int,
    *,
    steps: int,
    lr: float = 2e-3,
    seed: int = 0,
    precision: TrainingPrecision = "auto",
) -> Ceiling:
    """Train an encoder and a linear layer with labels; in place.

    Args:
        encoder: Trained in place.
        draw: Makes the uint8 clips (B, 3, T, H, W) and labels (B,) of a step, from a generator.
        test: What the accuracy is measured on.
        num_classes: Labels there are.
        steps: As for `supervised_ceiling`, like the rest.
        lr: Peak learning rate.
        seed: Seed of the draws.
        precision: As in `OptimConfig`.
    """
    device = next(encoder.parameters()).device
    classifier = nn.Linear(encoder.feature_dim, num_classes).to(device)
    net = nn.Sequential(encoder, classifier)
    optim = OptimConfig(
        optimizer="adamw",
        lr=lr,
        weight_decay=1e-4,
        clip_norm=None,
        warmup_steps=min(_LONGEST_WARMUP, steps // 10),
        precision=precision,
    )
    optimization = Optimization(net, optim, total_steps=steps, steps_per_epoch=steps, device=device)
    generator = torch.Generator().manual_seed(seed)
    net.train()
    for step in trange(steps, desc="supervised ceiling", unit="step", dynamic_ncols=True, disable=None):
        clips, labels = draw(generator)
        batch, labels = normalize(clips.to(device)), labels.to(device)
        if step == 0:
            few = slice(checked_samples(len(batch)))
            optimization.settle_precision(net, partial(partial, _loss, net, batch[few], labels[few]))
        with optimization.autocast():
            loss = _loss(net, batch, labels)
        optimization.backward(loss)
        optimization.step()
    predicted = embed(net, test.clips).argmax(1)
    return Ceiling((predicted == test.labels).float().mean().item(), str(optimization.settled))


def _loss(net: nn.Module, clips: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(net(clips), labels)
