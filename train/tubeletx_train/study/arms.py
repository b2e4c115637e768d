"""The arms of the study: recipes under `recipes/study`, each the study's base and what differs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from tubeletx_train.common.errors import UsageError
from tubeletx_train.config.recipes import describe, load_recipe, nearest, own_settings, recipe_names
from tubeletx_train.config.tree import merge

_FOLDER = "study/"

UNTRAINED = "untrained"

# The motion probe's ceiling: the same network, trained with the labels.
SUPERVISED = "supervised"

# Arms without pretraining.
REFERENCES = (UNTRAINED, SUPERVISED)

# The paper's full method: non-linear motion and rotation, two tubelets, all videos.
FULL = "rotation"

# The most telling ones first, so that a study that was stopped early still says something.
PAPER_ARMS = (
    UNTRAINED,
    "temporal",
    "static",
    "linear",
    "nonlinear",
    FULL,
    "one_tubelet",
    "three_tubelets",
    SUPERVISED,
    "rotation_25",
    "temporal_25",
    "scale",
    "shear",
    "rotation_50",
    "temporal_50",
    "temperature_07",
    "temperature_20",
    "paper_equation",
)
QUICK_ARMS = (UNTRAINED, "temporal", "static", "nonlinear", FULL)


def own_arms() -> tuple[str, ...]:
    """Arms that are not in the paper."""
    return tuple(name.removeprefix(_FOLDER) for name in recipe_names() if name.startswith(f"{_FOLDER}own/"))


def all_arms() -> tuple[str, ...]:
    """Every arm, in the order in which they are run."""
    return (*PAPER_ARMS, *own_arms())


def check_arms(names: Sequence[str]) -> tuple[str, ...]:
    """The names, each once, if all are known. Raises UsageError."""
    known = all_arms()
    for name in names:
        if name not in known:
            raise UsageError(f"unknown arm {name!r}{nearest(name, known)}; there are {', '.join(known)}")
    return tuple(dict.fromkeys(names))


def description(arm: str) -> str:
    """The one-line description of an arm."""
    return describe(_FOLDER + arm)


def arm_recipe(arm: str, size: str) -> dict[str, Any]:
    """All settings of an arm: the base, what the size changes, and over both what makes the arm."""
    shared = merge(load_recipe(f"{_FOLDER}base"), load_recipe(f"{_FOLDER}sizes/{size}"))
    return merge(shared, own_settings(_FOLDER + arm))


def write_recipe(path: Path, recipe: dict[str, Any]) -> Path:
    """Write a recipe that `tubeletx-train pretrain --config` takes; returns `path`."""
    path.write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    return path
