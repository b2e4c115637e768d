"""Settings as nested dictionaries."""

from __future__ import annotations

import dataclasses
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

import yaml

from tubeletx_train.common.errors import UsageError
from tubeletx_train.config.settings import recipe_types, takes_text


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the entries of `over` put over it, section by section."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries as one with dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def to_tree(config: Any) -> dict[str, Any]:
    """A configuration dataclass as what YAML and checkpoints can hold: tuples become lists."""
    tree: dict[str, Any] = _plain(config)
    return tree


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: _plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def default_settings(config: Any) -> dict[str, Any]:
    """The settings of a configuration that have defaults, by dotted names, as `flatten(to_tree(...))` gives values."""

    def collect(section: Any) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for item in dataclasses.fields(section):
            if item.default is not dataclasses.MISSING:
                found[item.name] = item.default
            elif item.default_factory is not dataclasses.MISSING:
                found[item.name] = item.default_factory()
            elif dataclasses.is_dataclass(value := getattr(section, item.name)):
                found[item.name] = collect(value)
        return found

    return flatten(_plain(collect(config)))


def less_defaults(values: Mapping[str, Any], defaults: Mapping[str, Any], known: Container[str]) -> dict[str, Any]:
    """Settings of one version for another, which does without those it does not know where they are at their defaults.

    Args:
        values: By dotted names.
        defaults: Of the version that they are of, likewise.
        known: Names that the other version knows.
    """
    return {
        name: value
        for name, value in values.items()
        if name in known or name not in defaults or defaults[name] != value
    }


def read_tree(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file. A setting that takes text is read as it is written, be it 1, no or 2024_01.

    Raises:
        UsageError: The file cannot be read, is empty, is no mapping, or gives a key twice.
    """
    try:
        loader = yaml.SafeLoader(path.read_text(encoding="utf-8"))
        try:
            root = loader.get_single_node()
            content = None if root is None else _construct(loader, root, "", path)
        finally:
            loader.dispose()
    # A date that is none, or a key that cannot be one, is a ValueError or TypeError of the constructor.
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise UsageError(f"{path}: {' '.join(str(error).split())}") from error
    if content is None:
        raise UsageError(f"{path} is empty: a recipe is a mapping of sections")
    if not isinstance(content, dict):
        raise UsageError(f"{path}: a recipe is a mapping of sections, got {type(content).__name__}")
    return content


def _construct(loader: yaml.SafeLoader, node: yaml.Node, name: str, path: Path) -> Any:
    if isinstance(node, yaml.MappingNode):
        own = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twice = next((key for key in own if own.count(key) > 1), None)
        if twice is not None:
            line = node.start_mark.line + 1
            raise UsageError(f"{path}: {f'{name}.{twice}' if name else twice} is given twice (section of line {line})")
        loader.flatten_mapping(node)
        tree = {}
        for key, value in node.value:
            label = str(loader.construct_object(key, deep=True)) if not isinstance(key, yaml.ScalarNode) else key.value
            tree[label] = _construct(loader, value, f"{name}.{label}" if name else label, path)
        return tree
    known = recipe_types().get(name)
    if isinstance(node, yaml.ScalarNode) and known is not None and takes_text(known):
        return None if node.tag == "tag:yaml.org,2002:null" else node.value
    return loader.construct_object(node, deep=True)
