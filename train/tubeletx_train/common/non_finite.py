"""Stops a run whose loss or gradient is NaN or infinite, and keeps what is needed to see why."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tubeletx_train.common.errors import CommandError


class NonFiniteError(CommandError):
    """A value that training depends on is NaN or infinite."""


class NonFiniteLossError(NonFiniteError):
    """The loss is NaN or infinite; the message names the step, the samples and the dump."""


class NonFiniteGradientError(NonFiniteError):
    """The gradient is NaN or infinite, or its norm is; the message names parameters, and the weights are untouched."""


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
    where = save_dump({**dump(), "loss": loss.detach().cpu(), "sample_ids": ids}, path)
    culprits = ids[~finite].tolist() if finite.shape == ids.shape else ids.tolist()
    raise NonFiniteLossError(
        f"loss is not finite at step {step} (epoch {epoch}), sample ids {culprits} of {ids.tolist()}; {where}"
    )


def require_finite_gradient(norm: Tensor, names: Sequence[str], gradients: Sequence[Tensor]) -> None:
    """Call it before the optimiser's step.

    Args:
        norm: Of all gradients.
        names: Of their parameters.
        gradients: Of any shapes.

    Raises:
        NonFiniteGradientError: The norm is not finite.
    """
    if torch.isfinite(norm):
        return
    culprits = [name for name, gradient in zip(names, gradients, strict=True) if not gradient.isfinite().all()]
    if not culprits:
        raise NonFiniteGradientError(f"the norm of the gradient is {norm.item()}")
    more = f" and {len(culprits) - 3} more" if len(culprits) > 3 else ""
    raise NonFiniteGradientError(f"the gradient of {', '.join(culprits[:3])}{more} is not finite")


def save_dump(content: Mapping[str, Any], path: Path) -> str:
    """Save what led to a value that is not finite; returns a clause that says where it lies."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(dict(content), path)
    except (OSError, RuntimeError) as error:  # torch hides the error of a full disk behind its own
        return f"what led there could not be saved to {path} ({str(error).splitlines()[0]})"
    return (
        f"the batch, the weights and the optimiser's state were saved to {path}; often a lower optim.lr, or "
        "optim.precision float32, is what helps"
    )


def non_finite_entries(state: Any, name: str = "") -> Iterator[str]:
    """Dotted names of the tensors in nested dictionaries and lists that hold a NaN or an infinity."""
    if isinstance(state, Tensor):
        if (state.is_floating_point() or state.is_complex()) and not state.isfinite().all():
            yield name
        return
    entries: Iterator[tuple[Any, Any]] = iter(())
    if isinstance(state, Mapping):
        entries = iter(state.items())
    elif isinstance(state, list | tuple):
        entries = iter(enumerate(state))
    for key, value in entries:
        yield from non_finite_entries(value, f"{name}.{key}" if name else str(key))
