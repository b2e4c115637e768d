"""Which recipe a configuration came from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tubeletx.config import TubeletConfig
from tubeletx_train.config.data import DataConfig
from tubeletx_train.config.pretrain import PretrainConfig
from tubeletx_train.config.recipes import load_recipe, recipe_names
from tubeletx_train.config.tree import flatten, merge, to_tree

# Where and how a run is made is no part of its recipe.
_PLACES = ("run.", "model.init_from", "data.videos", "data.num_workers", "data.prefetch")
_RELEASED = "protocol/released"


@dataclass(frozen=True)
class RecipeOrigin:
    """The shipped recipe nearest to a configuration.

    Attributes:
        recipes: What `--config` takes: a recipe, and the released protocol where that is nearer.
        changes: Settings that differ: dotted name to the recipe's value and the configuration's.
    """

    recipes: tuple[str, ...]
    changes: dict[str, tuple[Any, Any]]


def nearest_recipe(config: PretrainConfig) -> RecipeOrigin:
    """The recipe from which the fewest settings differ.

    Of several that differ alike, such as those of one method on other videos, it is the one with the same output folder
    or list of videos, else the first.
    """
    ours = flatten(to_tree(config))
    best: tuple[tuple[int, bool, bool], RecipeOrigin] | None = None
    for recipes, theirs in _candidates():
        changes = {
            name: (theirs[name], value)
            for name, value in ours.items()
            if theirs[name] != value and not name.startswith(_PLACES)
        }
        distance = (len(changes), *(theirs[name] != ours[name] for name in ("run.output", "data.videos")))
        if best is None or distance < best[0]:
            best = distance, RecipeOrigin(recipes, changes)
    assert best is not None  # there are recipes
    return best[1]


def _candidates() -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Every pretraining recipe, alone and under the released protocol, with all settings flat."""
    defaults = to_tree(PretrainConfig(DataConfig(videos="VIDEOS")))
    known = {*flatten(defaults), "tubelets.preset"}
    released = load_recipe(_RELEASED)
    for name in recipe_names():
        recipe = load_recipe(name)
        if name == _RELEASED or not set(flatten(recipe)) <= known:
            continue
        yield (name,), _resolved(defaults, recipe)
        yield (name, _RELEASED), _resolved(defaults, merge(recipe, released))


def _resolved(defaults: dict[str, Any], recipe: dict[str, Any]) -> dict[str, Any]:
    tubelets = dict(recipe.get("tubelets", {}))
    preset = tubelets.pop("preset", None)
    base = {} if preset is None else to_tree(TubeletConfig.preset(preset))
    return flatten(merge(defaults, recipe | {"tubelets": merge(base, tubelets)}))
