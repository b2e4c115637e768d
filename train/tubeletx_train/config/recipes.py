"""Recipes: YAML files that name only what differs from another recipe or from the defaults."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from tubeletx_train.config.tree import merge
from tubeletx_train.engine.errors import UsageError

_META_KEYS = ("base", "description")


def _shipped() -> dict[str, Path]:
    root = Path(str(resources.files("tubeletx_train") / "recipes"))
    return {path.relative_to(root).with_suffix("").as_posix(): path for path in sorted(root.rglob("*.yaml"))}


def recipe_names() -> list[str]:
    """Names of the recipes that come with the package."""
    return list(_shipped())


def nearest(name: str, known: Collection[str]) -> str:
    """A clause that suggests the known name most like an unknown one, or nothing."""
    # The last part of a dotted name alone is how a forgotten section shows ("lr" for "optim.lr").
    by_tail = [option for option in known if option.rsplit(".", 1)[-1] == name.rsplit(".", 1)[-1]]
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
    raise UsageError(f"no recipe or file called {name!r}{nearest(name, shipped)}")


def _read(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"{path}: {' '.join(str(error).split())}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UsageError(f"{path}: a recipe is a mapping of sections, got {type(content).__name__}")
    return content


def _settings(content: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in content.items() if key not in _META_KEYS}


def load_recipe(name: str) -> dict[str, Any]:
    """A recipe with its bases merged in, as nested dictionaries without `base` and `description`.

    Raises:
        UsageError: It or one of its bases is missing, malformed, or its own base.
    """
    chain: list[dict[str, Any]] = []
    seen: list[Path] = []
    path = recipe_path(name)
    while True:
        if path in seen:
            raise UsageError(f"{path}: a recipe cannot be its own base ({' -> '.join(map(str, [*seen, path]))})")
        seen.append(path)
        content = _read(path)
        chain.append(_settings(content))
        if "base" not in content:
            break
        path = recipe_path(str(content["base"]), path.parent)
    merged: dict[str, Any] = {}
    for content in reversed(chain):
        merged = merge(merged, content)
    return merged


def own_settings(name: str) -> dict[str, Any]:
    """What a recipe itself sets, without its bases."""
    return _settings(_read(recipe_path(name)))


def describe(name: str) -> str:
    """The one-line description of a recipe, empty if it has none."""
    return str(_read(recipe_path(name)).get("description", ""))
