"""Devices by name."""

from __future__ import annotations

import re

import torch

from tubeletx_train.common.errors import UsageError


def resolve_device(name: str, local_rank: int = 0) -> torch.device:
    """The device of a name; "auto" is CUDA where there is one, and "cuda" the GPU of the process's local rank.

    Raises:
        UsageError: It is no such name, or there is no such device.
    """
    if re.fullmatch(r"auto|cpu|cuda(:\d+)?", name) is None:
        raise UsageError(f'device: got {name!r}, needs "auto", "cpu", "cuda" or "cuda:N"')
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(f"cuda:{local_rank}" if name == "cuda" else name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"device: {name!r} cannot be used: {str(error).splitlines()[0]}") from error
    return device
