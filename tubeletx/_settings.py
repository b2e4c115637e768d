"""Checks of the fields of configurations; each refuses a value by its field's name."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np

__all__ = [
    "check_choice",
    "check_flag",
    "check_integer",
    "check_number",
    "check_numbers",
    "check_probabilities",
    "check_range",
    "check_transforms",
    "make_plain",
]


def make_plain(config: Any) -> None:
    """Makes Python's own values of NumPy's, and tuples of lists (as a YAML file gives them) and of arrays, in place."""
    for field in dataclasses.fields(config):
        object.__setattr__(config, field.name, _plain(getattr(config, field.name)))


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.ndim == 0):
        return value.item()
    if isinstance(value, Iterable) and not isinstance(value, str):
        return tuple(_plain(item) for item in value)
    return value


def check_number(name: str, value: object, low: float, high: float) -> None:
    """One number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ValueError(f"{name}: got {value!r}, needs a number in [{low:g}, {high:g}]")


def check_integer(name: str, value: object, low: int, high: int) -> None:
    """One integer."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"{name}: got {value!r}, needs an integer in [{low}, {high}]")


def check_flag(name: str, value: object) -> None:
    """A switch."""
    if not isinstance(value, bool):
        raise ValueError(f"{name}: got {value!r}, needs True or False")


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    """One of some words."""
    if value not in choices:
        raise ValueError(f"{name}: got {value!r}, needs one of {choices}")


def check_transforms(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Any of some words."""
    if not isinstance(value, tuple) or any(item not in choices for item in value):
        raise ValueError(f"{name}: got {value!r}, needs a tuple of any of {choices}")


def check_numbers(
    name: str, value: object, shortest: int, longest: int, low: float, high: float, needs: str | None = None
) -> None:
    """A tuple of numbers."""
    if not isinstance(value, tuple) or not shortest <= len(value) <= longest:
        raise ValueError(f"{name}: got {value!r}, needs {needs or f'a tuple of {shortest} to {longest} numbers'}")
    for number in value:
        check_number(name, number, low, high)


def check_range(name: str, value: object, low: float, high: float) -> None:
    """Two numbers that a uniform draw lies between."""
    check_numbers(name, value, 2, 2, low, high, "two numbers, the smaller first")
    assert isinstance(value, tuple)
    if value[0] > value[1]:
        raise ValueError(f"{name}: got {value!r}, needs the smaller number first")


def check_probabilities(name: str, value: object) -> None:
    """Those of three classes."""
    check_numbers(name, value, 3, 3, 0, 1, "three probabilities")
    assert isinstance(value, tuple)
    if abs(sum(value) - 1) > 1e-6:
        raise ValueError(f"{name}: got {value!r}, which sum to {sum(value):g}, need to sum to 1")
