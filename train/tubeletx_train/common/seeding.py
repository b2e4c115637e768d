"""One seed for everything that draws from torch's, NumPy's and Python's global generators."""

from __future__ import annotations

import random

import numpy as np
import torch


def seed_everything(seed: int) -> None:
    """Seed the global generators of Python, NumPy and torch (all devices)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - libraries that draw from NumPy's global state
    torch.manual_seed(seed)


def rng_state() -> dict[str, object]:
    """State of torch's global generators, for a checkpoint: the CPU's, and the current GPU's where one is in use."""
    return {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None}  # type: ignore[no-untyped-call]


def set_rng_state(state: dict[str, object]) -> None:
    """Restore what `rng_state` returned; a GPU's state is passed over where there is none."""
    cpu, cuda = state["cpu"], state["cuda"]
    assert isinstance(cpu, torch.Tensor)
    torch.set_rng_state(cpu)
    if isinstance(cuda, torch.Tensor) and torch.cuda.is_available():
        torch.cuda.set_rng_state(cuda)
