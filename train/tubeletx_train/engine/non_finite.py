"""Stops a run whose loss is NaN or infinite, and keeps what is needed to see why."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tubeletx_train.engine.errors import CommandError


class NonFiniteLossError(CommandError):
    """The loss is NaN or infinite; the message names the step, the samples and the dump."""


def require_finite(
    loss: Tensor, *, step: int, epoch: int, sample_ids: Tensor, dump: Callable[[], Mapping[str, Any]], path: Path
) -> None:
    """Call it after the forward pass, while the weights are still those that led there.

    Args:
        loss: (B,) of each sample, or a scalar.
        step: The step under way, counted from 1.
        epoch: Its epoch.
        sample_ids: (B,) int64.
        dump: Makes what else to save, tensors and plain data: the batch, the weights.
        path: File of the dump.

    Raises:
        NonFiniteLossError: Some loss is not finite.
    """
    finite = torch.isfinite(loss.detach()).cpu()
    if finite.all():
        return
    ids = sample_ids.cpu()
    torch.save({**dump(), "loss": loss.detach().cpu(), "sample_ids": ids}, path)
    culprits = ids[~finite].tolist() if finite.shape == ids.shape else ids.tolist()
    raise NonFiniteLossError(
        f"loss is not finite at step {step} (epoch {epoch}), sample ids {culprits} of {ids.tolist()}; "
        f"the batch and the weights were saved to {path}"
    )
