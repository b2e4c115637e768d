"""The optimiser and its schedule; shared by everything that trains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tubeletx_train.common.limits import require_at_least, require_positive


@dataclass(frozen=True)
class OptimConfig:
    """Optimiser, learning-rate schedule and precision.

    Attributes:
        optimizer: "sgd", as in the paper's pretraining, "adam", as in its fine-tuning, or "adamw", which learns sooner
            in runs of a few hundred steps.
        batch_size: Samples a step, over all processes.
        accumulate: Parts that each process's share of a batch is worked through in, one after the other, to save
            memory. The gradient is that of the whole batch, but batch norm sees one part at a time. Queries of all
            parts meet the same queue, which takes the keys after the last; batch negatives are of the same part.
        epochs: Passes over the videos.
        steps: Length of the run in steps; takes the place of epochs where given.
        lr: Peak learning rate.
        momentum: Momentum of the gradient; for "adam" and "adamw" the first beta.
        nesterov: Nesterov's momentum, for "sgd".
        weight_decay: L2 penalty; for "adamw" decoupled from the gradient.
        decay_bias_and_norm: Whether biases and the weights of norms decay too.
        clip_norm: Largest L2 norm of the gradient; null clips nothing.
        schedule: "cosine" falls to zero, "step" multiplies the rate by `gamma` at each milestone.
        schedule_epochs: Epochs that the cosine spans; null spans the run. The released code's 200, in a run of 100
            epochs, end at half the peak rate.
        milestones: For "step", epochs.
        gamma: For "step".
        warmup_steps: Steps of linear warm-up.
        warmup_epochs: The same in epochs; the two exclude each other.
        precision: "float32", or autocast to "bfloat16" or to "float16" (with loss scaling); "auto" is bfloat16 where
            the device multiplies in it. Before the first step the gradients of every layer are checked against
            float32: layers in which they are wrong "auto" keeps in float32, and the others stop.
    """

    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    batch_size: int = 32
    accumulate: int = 1
    epochs: int = 100
    steps: int | None = None
    lr: float = 0.01
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 1e-4
    decay_bias_and_norm: bool = True
    clip_norm: float | None = 40.0
    schedule: Literal["cosine", "step"] = "cosine"
    schedule_epochs: int | None = None
    milestones: tuple[float, ...] = ()
    gamma: float = 0.1
    warmup_steps: int = 0
    warmup_epochs: float = 0.0
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"

    def __post_init__(self) -> None:
        require_at_least(self, 1, "batch_size", "accumulate", "epochs", "steps", "schedule_epochs")
        require_at_least(self, 0, "lr", "momentum", "weight_decay", "warmup_steps", "warmup_epochs")
        require_positive(self, "clip_norm", "gamma")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum: got {self.momentum}, needs one in [0, 1)")
        if not all(0 <= epoch < float("inf") for epoch in self.milestones):
            raise ValueError(f"milestones: got {list(self.milestones)}, needs epochs of 0 or more")
        cosine_spans_run = self.schedule == "cosine" and self.schedule_epochs is None
        if cosine_spans_run and self.steps is not None and self.warmup_steps >= self.steps:
            raise ValueError(
                f"warmup_steps: got {self.warmup_steps}, needs fewer than the run has (steps {self.steps})"
            )
        if self.warmup_steps and self.warmup_epochs:
            raise ValueError("warmup_steps and warmup_epochs exclude each other")
        if self.nesterov and (self.optimizer != "sgd" or self.momentum == 0):
            raise ValueError('nesterov needs optimizer "sgd" and a momentum')
        if self.schedule == "cosine" and self.milestones:
            raise ValueError('milestones need schedule "step"')
        if self.schedule == "step" and self.schedule_epochs is not None:
            raise ValueError('schedule_epochs needs schedule "cosine"')
        if list(self.milestones) != sorted(self.milestones) or any(epoch <= 0 for epoch in self.milestones):
            raise ValueError(f"milestones: got {self.milestones}, needs positive ones that rise")
