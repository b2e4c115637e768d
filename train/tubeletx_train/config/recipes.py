"""Recipes: YAML files that name only what differs from another recipe or from the defaults."""

from __future__ import annotations

import copy
import difflib
import functools
from collections.abc import Collection
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from tubeletx_train.common.errors import UsageError
from tubeletx_train.config.ablations import ablation_tables, arms
from tubeletx_train.config.tree import merge, read_tree

# What is about a recipe rather than in it: what it differs from, one line about it, how to make its manifest.
_META_KEYS = ("base", "description", "prepare")


@functools.cache
def _shipped() -> dict[str, Path]:
    root = Path(str(resources.files("tubeletx_train") / "recipes"))
    paths = {path.relative_to(root).with_suffix("").as_posix(): path for path in sorted(root.rglob("*.yaml"))}
    return {name: path for name, path in paths.items() if not name.startswith("tables/")}


def recipe_names() -> list[str]:
    """Names of the recipes that come with the package: its files, then the arms of the paper's tables."""
    return [*_shipped(), *arms()]


def nearest(name: str, known: Collection[str]) -> str:
    """A clause that suggests the known name most like an unknown one, or those of its section, or nothing."""
    # The last part of a dotted name alone is how a forgotten section shows ("lr" for "optim.lr").
    by_tail = [option for option in known if option.rsplit(".", 1)[-1] == name.rsplit(".", 1)[-1]]
    if by_tail:
        return f"; did you mean {by_tail[0]!r}?"
    # A section that is right narrows the choice, and is short enough to be shown whole.
    section, _, last = name.rpartition(".")
    siblings = [option.removeprefix(f"{section}.") for option in known if option.rpartition(".")[0] == section]
    if section and siblings:
        close = difflib.get_close_matches(last, siblings, n=1, cutoff=0.5)
        if not close:
            return f"; {section} has {', '.join(siblings)}"
        by_tail = [f"{section}.{close[0]}"]
    matches = by_tail or difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {matches[0]!r}?" if matches else ""


def recipe_path(name: str, relative_to: Path | None = None) -> Path:
    """The file of a recipe.

    Args:
        name: A shipped recipe's name, or the path of a YAML file.
        relative_to: Folder that relative paths start from; the working directory by default.

    Raises:
        UsageError: Neither a shipped recipe nor a file.
    """
    shipped = _shipped()
    if name in shipped:
        return shipped[name]
    path = (relative_to or Path()) / name
    if path.is_file():
        return path
    raise UsageError(f"no recipe or file called {name!r}{nearest(name, recipe_names())}")


def _settings(content: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in content.items() if key not in _META_KEYS}


def given_settings(name: str) -> dict[str, Any]:
    """What a recipe of the user's own sets, with its bases of that kind; of a shipped one nothing."""
    settings: dict[str, Any] = {}
    relative_to: Path | None = None
    while name not in recipe_names():
        path = recipe_path(name, relative_to)
        content = _read(name, path)
        settings = merge(_settings(content), settings)
        if "base" not in content:
            break
        name, relative_to = str(content["base"]), path.parent
    return settings


def load_recipe(name: str) -> dict[str, Any]:
    """A recipe with its bases merged in, as nested dictionaries without `base` and the other keys about it.

    Raises:
        UsageError: It or one of its bases is missing, malformed, or its own base.
    """
    return copy.deepcopy(_load(name, None, []))  # what is shipped is read once, and shared


@functools.cache
def _shipped_tree(path: Path) -> dict[str, Any]:
    return read_tree(path)


def _read(name: str, path: Path) -> dict[str, Any]:
    return _shipped_tree(path) if name in _shipped() else read_tree(path)


def _load(name: str, relative_to: Path | None, seen: list[Path]) -> dict[str, Any]:
    if name in arms():
        table, arm = arms()[name]
        if arm.same_as is not None:
            return _load(arm.same_as, None, seen)
        return merge(_load(table.base, None, seen), merge({"run": {"output": f"runs/{name}"}}, arm.settings))
    path = recipe_path(name, relative_to)
    if path in seen:
        raise UsageError(f"{path}: a recipe cannot be its own base ({' -> '.join(map(str, [*seen, path]))})")
    content = _read(name, path)
    own = _settings(content)
    if "base" not in content:
        return own
    return merge(_load(str(content["base"]), path.parent, [*seen, path]), own)


def recipe_text(name: str) -> str:
    """A recipe as YAML: the file itself, or, for an arm of a table, its base and what differs."""
    if name not in arms():
        return recipe_path(name).read_text(encoding="utf-8")
    table, arm = arms()[name]
    content = {"description": describe(name), "base": arm.same_as or table.base, **arm.settings}
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def describe(name: str) -> str:
    """The one-line description of a recipe, empty if it has none."""
    if name in arms():
        table, arm = arms()[name]
        return f"{table.title}: {arm.row}"
    return str(_read(name, recipe_path(name)).get("description", ""))


def preparation(name: str) -> str | None:
    """The command that makes the manifest of a recipe, or None if the recipe does not say."""
    content = _read(name, recipe_path(name))
    if "prepare" in content:
        return str(content["prepare"])
    return preparation(str(content["base"])) if "base" in content else None


def preparation_of(manifest: str) -> str | None:
    """The command by which a recipe makes the manifest of this path, or None if none of them does."""
    commands = [command for name in _shipped() if (command := preparation(name)) is not None]
    commands += [command for table in ablation_tables().values() for command in table.prepare]
    return next((" ".join(command.split()) for command in commands if command.split()[-1] == manifest), None)
