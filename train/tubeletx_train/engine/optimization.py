"""The step of the optimiser: precision, all-reduce of gradients, clipping, schedule."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from tubeletx_train.common.distributed import Ranks, explained
from tubeletx_train.common.errors import UsageError
from tubeletx_train.common.machine import processor_name
from tubeletx_train.common.non_finite import require_finite_gradient
from tubeletx_train.config.optim import OptimConfig
from tubeletx_train.engine.precision import Settled, autocast, keep_in_float32, settle_precision
from tubeletx_train.engine.schedule import build_schedule

_BUCKET_BYTES = 32 << 20
# Each float16 step that overflows halves the scale of the loss, which begins at 2^16: after so many in a row it is no
# longer the scale.
_MOST_SKIPS = 24


class Optimization:
    """Optimiser, schedule, precision and loss scaling of one module.

    `settle_precision` comes before the first step; until then the precision is that of the settings, "auto" being
    float32.

    Example of a step:
        >>> with optimization.autocast():
        ...     loss = net(clips).mean()
        >>> optimization.backward(loss)  # for each part of the batch
        >>> values = {"loss": loss.item()} | optimization.step()

    With several processes each brings the gradient of the mean loss over its own samples. `step` averages these
    explicitly rather than in hooks of DistributedDataParallel: the order of summation is then the same in a run that
    was resumed, and parts of a batch, momentum networks and loss scaling need no special care.

    Attributes:
        settled: The precision of the steps.
    """

    settled: Settled

    def __init__(
        self,
        module: nn.Module,
        config: OptimConfig,
        *,
        total_steps: int,
        steps_per_epoch: int,
        device: torch.device,
        ranks: Ranks | None = None,
    ) -> None:
        """Makes the optimiser of those parameters of a module that take a gradient.

        Args:
            module: Already on the device; its parameters become those of rank 0.
            config: Settings.
            total_steps: Length of the run.
            steps_per_epoch: Optimiser steps an epoch.
            device: Of the module.
            ranks: The processes that train it; None is this one alone.
        """
        self.config = config
        self.device = device
        self.ranks = ranks or Ranks()
        named = [(name, parameter) for name, parameter in module.named_parameters() if parameter.requires_grad]
        self.names = [name for name, _ in named]
        self.parameters = [parameter for _, parameter in named]
        if self.ranks.world_size > 1:
            for parameter in self.parameters:
                dist.broadcast(parameter.data, 0)
        self.optimizer = build_optimizer(self.parameters, config)
        self.schedule = build_schedule(self.optimizer, config, total_steps, steps_per_epoch)
        self.settled = Settled("float32" if config.precision == "auto" else config.precision)
        self.scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "float16")
        self._settled_on: dict[str, str] | None = None
        self._skips = 0  # in a row

    @property
    def learning_rate(self) -> float:
        """Of the step to come."""
        return float(self.schedule.get_last_lr()[0])

    def autocast(self) -> torch.autocast:
        """Context of the forward pass."""
        return autocast(self.device, self.settled.precision)

    def settle_precision(self, net: nn.Module, make_loss: Callable[[], Callable[[], Tensor]]) -> None:
        """Check the precision by the first batch, and choose it where the settings leave it open.

        A run keeps to one precision: one that goes on from a checkpoint has the precision of its beginning, and the
        same layers in float32, which is checked anew where the processor or torch is another.

        Args:
            net: As for `engine.precision.settle_precision`.
            make_loss: Likewise.

        Raises:
            UsageError: The precision that was asked for, or that the run began in, is wrong on this machine.
        """
        here = {"processor": processor_name(self.device), "torch": str(torch.__version__)}
        before = self._settled_on
        if not self.ranks.any(before != here):
            keep_in_float32(net, self.settled.float32_layers)
        elif before is None:
            self.settled = settle_precision(self.config.precision, net, make_loss, self.device, self.ranks)
        else:
            try:
                self.settled = settle_precision(
                    self.config.precision, net, make_loss, self.device, self.ranks, begun=self.settled
                )
            except UsageError as error:
                raise UsageError(
                    f"the run began in {self.settled} on {before['processor']}, torch {before['torch']}, and can only "
                    f"go on in that: {error}"
                ) from error
        self._settled_on = here

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of a scalar loss; of several parts of a batch each brings its share of the mean."""
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]

    def step(self) -> dict[str, float]:
        """Average the gradients over the processes, clip, update, and clear them.

        Returns:
            "grad_norm" before clipping. In float16 a step whose gradient overflows leaves the weights alone, and
            reports "skipped_step" instead.

        Raises:
            NonFiniteGradientError: The gradient is NaN or infinite; in float16, many steps in a row. The weights and
                the optimiser are as before, and all processes raise it alike.
        """
        if self.ranks.world_size > 1:
            with explained():
                all_reduce_gradients(self.parameters, self.ranks.world_size)
        self.scaler.unscale_(self.optimizer)
        named = [(name, p.grad) for name, p in zip(self.names, self.parameters, strict=True) if p.grad is not None]
        gradients = [gradient for _, gradient in named]
        norm = get_total_norm(gradients)
        skipped = self.scaler.is_enabled() and not torch.isfinite(norm)
        self._skips = self._skips + 1 if skipped else 0
        if not skipped or self._skips > _MOST_SKIPS:
            require_finite_gradient(norm, [name for name, _ in named], gradients)
        if self.config.clip_norm is not None:
            clip_grads_with_norm_(self.parameters, self.config.clip_norm, norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        with warnings.catch_warnings():
            # Where scaling skipped the very first step, the schedule moves on all the same.
            warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
            self.schedule.step()
        self.optimizer.zero_grad(set_to_none=True)
        if skipped:
            return {"skipped_step": 1.0}
        return {"grad_norm": norm.item()}

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "skips": self._skips,
            "precision": {**dataclasses.asdict(self.settled), **(self._settled_on or {})},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint; entries of others are passed over."""
        settled: dict[str, Any]
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        # The rate of the step to come is this run's, should that be longer than the one before.
        factors = [factor(self.schedule.last_epoch) for factor in self.schedule.lr_lambdas]
        self.schedule._last_lr = [base * factor for base, factor in zip(self.schedule.base_lrs, factors, strict=True)]
        for group, rate in zip(self.optimizer.param_groups, self.schedule._last_lr, strict=True):
            group["lr"] = rate
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(state["scaler"])
        self._skips = state.get("skips", 0)
        if "precision" in state:
            settled = dict(state["precision"])
            # Older checkpoints name no layers.
            self.settled = Settled(settled.pop("precision"), tuple(settled.pop("float32_layers", ())))
            self._settled_on = settled or None


def build_optimizer(parameters: Sequence[nn.Parameter], config: OptimConfig) -> torch.optim.Optimizer:
    """The optimiser of a configuration."""
    if config.decay_bias_and_norm:
        groups: list[dict[str, Any]] = [{"params": list(parameters)}]
    else:
        # Biases and the weights of norms are the vectors.
        groups = [
            {"params": [parameter for parameter in parameters if parameter.dim() > 1]},
            {"params": [parameter for parameter in parameters if parameter.dim() <= 1], "weight_decay": 0.0},
        ]
    if config.optimizer == "sgd":
        return torch.optim.SGD(
            groups,
            lr=config.lr,
            momentum=config.momentum,
            nesterov=config.nesterov,
            weight_decay=config.weight_decay,
            foreach=True,
        )
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    return kind(groups, lr=config.lr, betas=(config.momentum, 0.999), weight_decay=config.weight_decay, foreach=True)


@torch.no_grad()
def all_reduce_gradients(parameters: Sequence[nn.Parameter], world_size: int) -> None:
    """All-reduce: replace gradients by their means over all processes, in flat buckets that are under way together.

    Args:
        parameters: Those without a gradient must lack one in every process.
        world_size: Processes.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    pieces: list[list[Tensor]] = [[]]
    size = 0
    for gradient in gradients:
        bytes_needed = gradient.numel() * gradient.element_size()
        if pieces[-1] and (size + bytes_needed > _BUCKET_BYTES or gradient.dtype != pieces[-1][0].dtype):
            pieces.append([])
            size = 0
        pieces[-1].append(gradient)
        size += bytes_needed
    under_way = []
    for piece in filter(None, pieces):
        flat = torch.cat([gradient.reshape(-1) for gradient in piece]).div_(world_size)
        under_way.append((piece, flat, dist.all_reduce(flat, async_op=True)))
    for piece, flat, work in under_way:
        work.wait()
        parts = torch.split(flat, [gradient.numel() for gradient in piece])
        torch._foreach_copy_(piece, [part.view_as(gradient) for part, gradient in zip(parts, piece, strict=True)])
