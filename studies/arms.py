"""The arms of the study, as `arms.yaml` and `base.yaml` say."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from tubeletx_train.common.errors import UsageError
from tubeletx_train.config.recipes import load_recipe, nearest
from tubeletx_train.config.tree import merge

_FOLDER = Path(__file__).parent

UNTRAINED = "untrained"
# The motion probe's ceiling: the same network, trained with the labels.
SUPERVISED = "supervised"
# Arms without pretraining.
REFERENCES = (UNTRAINED, SUPERVISED)
# The paper's full method: non-linear motion and rotation, two tubelets, all videos.
FULL = "rotation"

SIZES = ("small", "paper")

# What an arm says beside the settings of pretraining.
_NOT_SETTINGS = ("about", "reuse", "longer")
# What a longer arm is: so many times the steps, on the same clips.
_LONGER_STEPS, _LONGER_REUSE = 4, 16


@functools.cache
def _content() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((_FOLDER / "arms.yaml").read_text(encoding="utf-8"))
    return content


@functools.cache
def groups() -> dict[str, tuple[str, ...]]:
    """The names of the arms of each group, in the order in which they are run."""
    return {group: tuple(members) for group, members in _content()["groups"].items()}


def all_arms() -> tuple[str, ...]:
    """Every arm, in the order in which they are run."""
    return tuple(arm for members in groups().values() for arm in members)


def chosen_arms(names: Sequence[str]) -> tuple[str, ...]:
    """The arms of these names, which may be those of groups; each once, in the order of the names.

    Raises:
        UsageError: A name is of neither.
    """
    found: dict[str, None] = {}
    for name in names:
        members = groups().get(name, (name,))
        for arm in members:
            if arm not in all_arms():
                known = (*groups(), *all_arms())
                raise UsageError(f"arms: got {name!r}{nearest(name, known)}, needs any of {', '.join(known)}")
            found[arm] = None
    return tuple(found)


def _arm(arm: str) -> dict[str, Any]:
    return next(members[arm] for members in _content()["groups"].values() if arm in members)


def description(arm: str) -> str:
    """What an arm is, in one line."""
    return str(_arm(arm)["about"])


def arm_recipe(arm: str, size: str = "small") -> dict[str, Any]:
    """All settings of an arm: the base, what the size changes, and over both what makes the arm."""
    usual = shorter_form_of(arm)
    if usual:
        shared = arm_recipe(usual, size)
    else:
        shared = merge(load_recipe(str(_FOLDER / "base.yaml")), _content()["sizes"].get(size, {}))
    return merge(shared, {name: value for name, value in _arm(arm).items() if name not in _NOT_SETTINGS})


def shorter_form_of(arm: str) -> str | None:
    """The arm of usual length of which an arm is the longer form; None where it is none."""
    return _arm(arm).get("longer")


def reuse_of(arm: str) -> int | None:
    """How often an arm uses a clip; None where that is not what makes the arm."""
    return _LONGER_REUSE if shorter_form_of(arm) else _arm(arm).get("reuse")


def times_of(arm: str) -> int:
    """How many times as long as the others an arm is trained."""
    return _LONGER_STEPS if shorter_form_of(arm) else 1
