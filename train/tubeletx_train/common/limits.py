"""Limits of settings, checked as the dataclass that holds them is made; a setting that is None is passed over."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

_SEEDS = 1 << 62


def require_at_least(config: object, least: float, *names: str) -> None:
    """Raises ValueError for a setting below `least`."""
    _require(config, names, lambda value: value >= least, f"{least} or more")


def require_seed(config: object, name: str = "seed") -> None:
    """Raises ValueError for a seed that torch's generators do not take, of the first process or a later one."""
    _require(config, [name], lambda value: 0 <= value < _SEEDS, f"a whole number from 0 to {_SEEDS - 1}")


def require_positive(config: object, *names: str) -> None:
    """Raises ValueError for a setting that is not above 0."""
    _require(config, names, lambda value: value > 0, "a positive number")


def require_share(config: object, *names: str) -> None:
    """Raises ValueError for a setting outside [0, 1]."""
    _require(config, names, lambda value: 0 <= value <= 1, "one in [0, 1]")


def require_positive_share(config: object, *names: str) -> None:
    """Raises ValueError for a setting outside (0, 1]."""
    _require(config, names, lambda value: 0 < value <= 1, "one in (0, 1]")


def require_range(config: object, name: str, most: float = float("inf")) -> None:
    """Raises ValueError unless a setting holds the two ends of a range of positive numbers, at most `most`."""
    bound = "" if most == float("inf") else f" of at most {most}"
    _require(
        config,
        [name],
        lambda value: 0 < value[0] <= value[1] <= most,
        f"two positive numbers{bound}, the smaller first",
    )


def _require(config: object, names: tuple[str, ...] | list[str], fits: Callable[[Any], bool], needed: str) -> None:
    for name in names:
        value = getattr(config, name)
        if value is not None and (not fits(value) or (isinstance(value, float) and math.isinf(value))):
            raise ValueError(f"{name}: got {value}, needs {needed}")
