"""Command lines and recipes to typed configurations."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import pkgutil
from collections.abc import Sequence
from typing import Any, TypeVar, get_type_hints

from jsonargparse import ActionConfigFile, ArgumentParser, DefaultHelpFormatter, Namespace  # type: ignore[attr-defined]

from tubeletx.config import TubeletConfig
from tubeletx_train.config.recipes import load_recipe, nearest
from tubeletx_train.config.tree import flatten, merge
from tubeletx_train.engine.errors import UsageError

T = TypeVar("T")

# Whose settings a recipe may name. A command takes those that are its own from a recipe and passes over the others, so
# that one recipe serves several commands.
RECIPE_CONFIGS = (
    "tubeletx_train.config.pretrain:PretrainConfig",
    "tubeletx_train.config.downstream:FinetuneConfig",
    "tubeletx_train.config.downstream:EvaluateConfig",
    "tubeletx_train.config.repetition:RepetitionConfig",
)

_PRESET = "tubelets.preset"
_BUILT_IN_FLAGS = {"config", "print_config", "help", _PRESET}


def option_names(config_class: type) -> list[str]:
    """Dotted names of a configuration's settings, nested dataclasses included."""
    names = []
    hints = get_type_hints(config_class)
    for item in dataclasses.fields(config_class):
        if dataclasses.is_dataclass(hints[item.name]):
            names += [f"{item.name}.{name}" for name in option_names(hints[item.name])]
        else:
            names.append(item.name)
    return names


def build_parser(
    config_class: type, prog: str, description: str, epilog: str = "", positional: str | None = None
) -> ArgumentParser:
    """A parser with one option for each setting, plus `--config` and `--print_config`; see `parse_config`."""
    first = "" if positional is None else f"{positional.upper()} "
    parser = ArgumentParser(
        prog=prog,
        usage=f"%(prog)s {first}[--config RECIPE] [--SETTING VALUE] ...",  # not the one hundred options once more
        description=description,
        epilog=epilog,
        exit_on_error=False,
        formatter_class=_HelpFormatter,
    )
    parser.add_argument(
        "--config",
        action=ActionConfigFile,
        metavar="RECIPE",
        help="A recipe's name (see `tubeletx-train recipes`) or a YAML file; options on the command line override it.",
    )
    parser.add_class_arguments(config_class)
    return parser


def parse_config(
    config_class: type[T],
    arguments: Sequence[str],
    *,
    prog: str,
    description: str = "",
    epilog: str = "",
    positional: str | None = None,
) -> T:
    """Read a configuration from command-line arguments.

    Recipes are put in first, whatever their place, then `--tubelets.preset`, then the other options.

    Args:
        config_class: Dataclass of the settings.
        arguments: Command line without the program's name.
        prog: What the help calls the command.
        description: What it does.
        epilog: Examples and remarks.
        positional: The setting that the first argument is a value of, unless that is an option.

    Raises:
        UsageError: An unknown setting (the nearest known one is named) or a value of the wrong type.
        SystemExit: After `--help` or `--print_config`, with code 0.
    """
    names = option_names(config_class)
    if positional is not None and arguments and not arguments[0].startswith("-"):
        arguments = [f"--{positional}", *arguments]
    recipe, rest = _take_recipes(arguments, names)
    for argument in rest:
        name = argument[2:].split("=", 1)[0]
        sections = {known.split(".")[0] for known in names if "." in known}
        if argument.startswith("--") and name and name not in {*names, *sections, *_BUILT_IN_FLAGS}:
            raise UsageError(f"unknown option --{name}{nearest(name, names)}")
    if recipe:
        rest = ["--config", json.dumps(recipe), *rest]
    parser = build_parser(config_class, prog, description, epilog, positional)
    return _instantiate(config_class, parser, lambda: parser.parse_args(rest))


def config_from_tree(config_class: type[T], tree: dict[str, Any], origin: str) -> T:
    """A configuration from nested dictionaries, such as a checkpoint holds. Raises UsageError, naming `origin`."""
    names = option_names(config_class)
    _check_names(tree, names, origin)
    parser = build_parser(config_class, origin, "")
    return _instantiate(config_class, parser, lambda: parser.parse_object(tree))


def _instantiate(config_class: type[T], parser: ArgumentParser, parse: Any) -> T:
    try:
        values: Namespace = parser.instantiate(parse(), instantiate_groups=False)
        return _build(config_class, values)
    except (argparse.ArgumentError, ValueError, TypeError) as error:
        raise UsageError(" ".join(str(error).split())) from error


def _build(config_class: type[T], values: Namespace, section: str = "") -> T:
    """The dataclass of parsed values; what it says against one of them begins with the name of its section."""
    hints = get_type_hints(config_class)
    given = {
        item.name: _build(hints[item.name], values[item.name], f"{section}{item.name}.")
        if dataclasses.is_dataclass(hints[item.name])
        else values[item.name]
        for item in dataclasses.fields(config_class)  # type: ignore[arg-type]
    }
    try:
        return config_class(**given)
    except ValueError as error:
        raise ValueError(f"{section}{str(error).removeprefix(section)}") from error


def _take_recipes(arguments: Sequence[str], names: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """The merged content of every `--config` and `--tubelets.preset`, and the arguments without them."""
    rest: list[str] = []
    recipe: dict[str, Any] = {}
    preset: str | None = None
    remaining = list(arguments)
    while remaining:
        argument = remaining.pop(0)
        flag, has_value, value = argument.partition("=")
        if flag not in ("--config", f"--{_PRESET}"):
            rest.append(argument)
            continue
        if not has_value:
            if not remaining:
                raise UsageError(f"{flag} needs a value")
            value = remaining.pop(0)
        if flag == "--config":
            recipe = merge(recipe, _relevant(load_recipe(value), names, value))
        else:
            preset = value
    return _expand_preset(recipe, preset), rest


def _relevant(recipe: dict[str, Any], names: Sequence[str], origin: str) -> dict[str, Any]:
    """A recipe less the settings that this command has no use for."""
    _check_names(recipe, [*names, *_recipe_settings()], origin)
    has_tubelets = any(name.startswith("tubelets.") for name in names)
    kept: dict[str, Any] = {}
    for name, value in flatten(recipe).items():
        if name in names or (name == _PRESET and has_tubelets):
            *sections, last = name.split(".")
            level = kept
            for section in sections:
                level = level.setdefault(section, {})
            level[last] = value
    return kept


@functools.cache
def _recipe_settings() -> tuple[str, ...]:
    # By name, as some of these modules import this one.
    return tuple(name for path in RECIPE_CONFIGS for name in option_names(pkgutil.resolve_name(path)))


def _expand_preset(recipe: dict[str, Any], preset: str | None) -> dict[str, Any]:
    """Put a tubelet preset's values under the recipe's own; one from the command line replaces the recipe's."""
    section = dict(recipe.get("tubelets", {}))
    name = section.pop("preset", None)
    name = preset if preset is not None else name
    if name is None:
        return recipe
    try:
        values = dataclasses.asdict(TubeletConfig.preset(name))
    except ValueError as error:
        raise UsageError(f"tubelets.preset: {error}") from error
    return recipe | {"tubelets": merge(values, section)}


def _check_names(tree: dict[str, Any], names: Sequence[str], origin: str) -> None:
    sections = {name.rsplit(".", depth)[0] for name in names for depth in range(1, name.count(".") + 1)}
    for name, value in flatten(tree).items():
        if name in sections and not isinstance(value, dict):
            raise UsageError(f"{origin}: {name!r} is a section, got {value!r}")
        if name not in names and name != _PRESET:
            raise UsageError(f"{origin}: unknown setting {name!r}{nearest(name, names)}")


class _HelpFormatter(argparse.RawDescriptionHelpFormatter, DefaultHelpFormatter):
    """Shows types and defaults, and keeps the line breaks of descriptions and examples."""
