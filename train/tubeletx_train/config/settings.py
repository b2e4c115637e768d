"""What settings there are, and of what types."""

from __future__ import annotations

import dataclasses
import functools
import os
import re
import types
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from tubeletx_train.config.labelled import EvaluateConfig, FinetuneConfig
from tubeletx_train.config.pretrain import PretrainConfig
from tubeletx_train.config.repetition import RepetitionConfig

# Whose settings a recipe may name. A command takes those that are its own. Of a shipped recipe, which serves several
# commands, it passes over the others; of a file of the user's own it refuses them.
RECIPE_CONFIGS = (PretrainConfig, FinetuneConfig, EvaluateConfig, RepetitionConfig)
_NONE = type(None)
_NOUNS = {int: "a whole number", float: "a finite number", bool: "true or false", str: "text", _NONE: "null"}
_PLURALS = {int: "whole numbers", float: "finite numbers", str: "texts"}


def option_types(config_class: type) -> dict[str, Any]:
    """Types of a configuration's settings by dotted name, nested dataclasses included."""
    found: dict[str, Any] = {}
    hints = get_type_hints(config_class)
    for item in dataclasses.fields(config_class):
        hint = hints[item.name]
        if dataclasses.is_dataclass(hint):
            found |= {f"{item.name}.{name}": kind for name, kind in option_types(hint).items()}  # type: ignore[arg-type]
        else:
            found[item.name] = hint
    return found


@functools.cache
def recipe_types() -> dict[str, Any]:
    """Types of all settings that a recipe may name."""
    return {name: hint for config_class in RECIPE_CONFIGS for name, hint in option_types(config_class).items()}


def takes_text(hint: Any) -> bool:
    """Whether a type takes any text."""
    return str in _members(hint)


def takes_list(hint: Any) -> bool:
    """Whether a type takes a list."""
    return any(get_origin(member) is tuple for member in _members(hint))


def as_meant(value: Any, hint: Any) -> Any:
    """A value as it was most likely meant.

    None is null, 1e3 is 1000, one value is a list of one, "1,2" a list of two, and ~/a lies in the home folder.
    """
    members = _members(hint)
    if isinstance(value, str) and value.strip() in ("None", "none", "~") and _NONE in members:
        return None
    if isinstance(value, str) and value.startswith("~/") and str in members:
        return os.path.expanduser(value)  # a shell leaves it after an equals sign, and YAML everywhere
    whole = int in members and float not in members
    if whole and isinstance(value, float) and value.is_integer():
        return int(value)
    if whole and isinstance(value, str) and re.fullmatch(r"[0-9.]+(e\+?[0-9]+)?", value.strip(), re.IGNORECASE):
        try:
            if value.strip().isdecimal():  # as a float a long one, such as a seed, would become another
                return int(value)
            return int(float(value)) if float(value).is_integer() else value
        except (ValueError, OverflowError):
            return value
    element = next((get_args(member)[0] for member in members if get_origin(member) is tuple), None)
    if element is None or isinstance(value, list | tuple | dict | bool) or value is None:
        return value
    if not isinstance(value, str):
        return [value]
    text = value.strip()
    return value if text.startswith(("[", "(")) or not text else "[" + ",".join(text.split(",")) + "]"


def describe_type(hint: Any) -> str:
    """A type in words."""
    words = [_word(member) for member in _members(hint)]
    return " or ".join(words)


def _word(member: Any) -> str:
    origin = get_origin(member)
    if origin is Literal:
        return "one of " + ", ".join(map(str, get_args(member)))
    if origin is tuple:
        kind, *more = get_args(member)
        if get_origin(kind) is Literal:
            return "a list of any of " + ", ".join(map(str, get_args(kind)))
        count = "" if Ellipsis in more else f"{len(more) + 1} "
        return f"a list of {count}{_PLURALS[kind]}"
    return _NOUNS.get(member, str(member))


def _members(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
