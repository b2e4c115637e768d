"""Learning-rate schedules; step them once an optimiser step."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from tubeletx_train.common.errors import UsageError
from tubeletx_train.config.optim import OptimConfig


def build_schedule(optimizer: Optimizer, config: OptimConfig, total_steps: int, steps_per_epoch: int) -> LambdaLR:
    """The schedule of a configuration, whose epochs become steps here.

    Args:
        optimizer: Its learning rates are the peak.
        config: Kind and numbers.
        total_steps: Length of the run.
        steps_per_epoch: Optimiser steps an epoch.

    Raises:
        UsageError: The warm-up is as long as the cosine.
    """
    warmup_steps = config.warmup_steps or round(config.warmup_epochs * steps_per_epoch)
    if config.schedule == "step":
        milestones = [round(epoch * steps_per_epoch) for epoch in config.milestones]
        return step_schedule(optimizer, milestones, config.gamma, warmup_steps)
    span = total_steps if config.schedule_epochs is None else config.schedule_epochs * steps_per_epoch
    if warmup_steps >= span:
        raise UsageError(
            f"optim.warmup_steps or optim.warmup_epochs make a warm-up of {warmup_steps} steps, which leaves "
            f"nothing of a cosine over {span}"
        )
    return cosine_schedule(optimizer, span, warmup_steps)


def cosine_schedule(optimizer: Optimizer, total_steps: int, warmup_steps: int = 0) -> LambdaLR:
    """Linear warm-up to the optimiser's rate, then half a cosine to zero.

    Args:
        optimizer: Its learning rates are the peak.
        total_steps: Steps after which the rate is zero.
        warmup_steps: The first steps, at rates 1 / warmup_steps, 2 / warmup_steps, ... of the peak.
    """
    if not 0 <= warmup_steps < max(total_steps, 1):
        raise ValueError(f"warmup_steps: got {warmup_steps}, needs one in [0, total_steps={total_steps})")

    def factor(step: int) -> float:
        progress = min((step - warmup_steps) / (total_steps - warmup_steps), 1.0)
        return 0.5 * (1 + math.cos(math.pi * progress))

    return LambdaLR(optimizer, _after_warmup(factor, warmup_steps))


def step_schedule(
    optimizer: Optimizer, milestones: Sequence[int], gamma: float = 0.1, warmup_steps: int = 0
) -> LambdaLR:
    """Linear warm-up to the optimiser's rate, which each milestone (a number of steps) multiplies by `gamma`."""
    return LambdaLR(
        optimizer, _after_warmup(lambda step: gamma ** sum(step >= milestone for milestone in milestones), warmup_steps)
    )


def _after_warmup(factor: Callable[[int], float], warmup_steps: int) -> Callable[[int], float]:
    return lambda step: (step + 1) / warmup_steps if step < warmup_steps else factor(step)
