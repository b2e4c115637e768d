"""The learning-rate schedule."""

from __future__ import annotations

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def cosine_schedule(optimizer: Optimizer, total_steps: int, warmup_steps: int = 0) -> LambdaLR:
    """Linear warm-up to the optimiser's rate, then half a cosine to zero; step it once an optimiser step.

    Args:
        optimizer: Its learning rates are the peak.
        total_steps: Steps after which the rate is zero.
        warmup_steps: The first steps, at rates 1 / warmup_steps, 2 / warmup_steps, ... of the peak.
    """
    if not 0 <= warmup_steps < max(total_steps, 1):
        raise ValueError(f"warmup_steps must be at least 0 and below total_steps={total_steps}, got {warmup_steps}")

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        progress = min((step - warmup_steps) / (total_steps - warmup_steps), 1.0)
        return 0.5 * (1 + math.cos(math.pi * progress))

    return LambdaLR(optimizer, factor)
