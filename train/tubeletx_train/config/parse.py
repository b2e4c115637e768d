"""Command lines and recipes to typed configurations."""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, get_type_hints

import yaml
from jsonargparse import ActionConfigFile, ArgumentParser, DefaultHelpFormatter, Namespace  # type: ignore[attr-defined]

from tubeletx.config import TubeletConfig
from tubeletx_train.common.errors import UsageError
from tubeletx_train.config.recipes import given_settings, load_recipe, nearest
from tubeletx_train.config.settings import as_meant, describe_type, option_types, recipe_types, takes_list
from tubeletx_train.config.tree import flatten, less_defaults, merge

T = TypeVar("T")

# What a command that is no training calls a setting of one.
_OTHER_NAMES = {"run.seed": "seed", "run.device": "device", "run.threads": "threads", "optim.precision": "precision"}
# The same on the command line, where either name is good for every command. In a recipe these are the training's own.
_COMMON_NAMES = _OTHER_NAMES | {
    "run.output": "output",
    "data.videos": "videos",
    "data.split": "split",
    "data.num_workers": "num_workers",
}

_PRESET = "tubelets.preset"
_BUILT_IN_FLAGS = {"config", "print_config", "help", _PRESET}


def option_names(config_class: type) -> list[str]:
    """Dotted names of a configuration's settings, nested dataclasses included."""
    return list(option_types(config_class))


def _usage_of(config_class: type, positional: str) -> str:
    """A positional setting as a usage line shows it, in brackets where it may be left out."""
    name = positional.upper()
    setting = next(item for item in dataclasses.fields(config_class) if item.name == positional)
    return name if setting.default is dataclasses.MISSING else f"[{name}]"


def build_parser(
    config_class: type, prog: str, description: str, epilog: str = "", positional: str | None = None
) -> ArgumentParser:
    """A parser with one option for each setting, plus `--config` and `--print_config`; see `parse_config`."""
    first = "" if positional is None else f"{_usage_of(config_class, positional)} "
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
    describes: type | None = None,
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
        describes: Dataclass of the settings of what the command shows: a recipe of the user's own may set these too.

    Raises:
        UsageError: An unknown setting (the nearest known one is named) or a value of the wrong type.
        SystemExit: After `--help` or `--print_config`, with code 0.
    """
    names = option_names(config_class)
    if positional is not None and arguments and not arguments[0].startswith("-"):
        arguments = [f"--{positional}", *arguments]
    described = () if describes is None else option_names(describes)
    recipe, rest = _take_recipes(arguments, names, described, prog)
    rest = [_own_name(argument, names) for argument in rest]
    for argument in rest:
        name = argument[2:].split("=", 1)[0]
        sections = {known.split(".")[0] for known in names if "." in known}
        if argument.startswith("--") and name and name not in {*names, *sections, *_BUILT_IN_FLAGS}:
            raise UsageError(f"unknown option --{name}{nearest(name, names)}")
    types = option_types(config_class)
    rest = _as_meant_on_command_line(rest, types)
    if recipe:
        recipe = _as_meant_in_tree(recipe, types)
        # What YAML alone knows, such as a date, is no value of a setting: as text it is refused by name.
        rest = ["--config", json.dumps(recipe, default=str), *rest]
    parser = build_parser(config_class, prog, description, epilog, positional)
    return _instantiate(config_class, parser, lambda: parser.parse_args(rest))


def config_from_tree(config_class: type[T], tree: dict[str, Any], origin: str) -> T:
    """A configuration from nested dictionaries, such as a checkpoint holds. Raises UsageError, naming `origin`."""
    names = option_names(config_class)
    _check_names(tree, names, origin)
    parser = build_parser(config_class, origin, "")
    return _instantiate(config_class, parser, lambda: parser.parse_object(tree))


def config_from_checkpoint(config_class: type[T], state: Mapping[str, Any], origin: str) -> T:
    """The configuration of a run, from its checkpoint; raises as `config_from_tree` does.

    A setting that is no longer there is passed over where the run left it at its default.
    """
    kept = less_defaults(flatten(state["config"]), state.get("defaults", {}), option_names(config_class))

    def known(tree: Mapping[str, Any], prefix: str) -> dict[str, Any]:
        return {
            key: known(value, f"{prefix}{key}.") if isinstance(value, Mapping) else value
            for key, value in tree.items()
            if isinstance(value, Mapping) or f"{prefix}{key}" in kept
        }

    return config_from_tree(config_class, known(state["config"], ""), origin)


def _own_name(argument: str, names: Sequence[str]) -> str:
    """An option under the name that this command has for it."""
    flag, has_value, value = argument.partition("=")
    name = flag.removeprefix("--")
    if name == flag or name in names:
        return argument
    for long, short in _COMMON_NAMES.items():
        other = {long: short, short: long}.get(name)
        if other in names:
            return f"--{other}{has_value}{value}"
    return argument


def _instantiate(config_class: type[T], parser: ArgumentParser, parse: Any) -> T:
    try:
        values: Namespace = parser.instantiate(parse(), instantiate_groups=False)
        return _build(config_class, values)
    except (argparse.ArgumentError, ValueError, TypeError, OverflowError) as error:
        raise UsageError(_in_words(" ".join(str(error).split()), option_types(config_class))) from error


def _in_words(message: str, types: dict[str, Any]) -> str:
    """What a validator says of a value's type, in one short sentence."""
    found = re.search(r'Parser key "([\w.]+)"', message)
    if found is None or found[1] not in types:
        return message
    given = re.search(r"(?:Given value|Got value): (.*?)(?: Given value type.*| - .*)?$", message)
    value = given[1] if given is not None else "something else"
    return f"{found[1]}: got {value}, needs {describe_type(types[found[1]])}"


def _as_meant_on_command_line(arguments: list[str], types: dict[str, Any]) -> list[str]:
    meant: list[str] = []
    name: str | None = None
    for argument in _joined_lists(arguments, types):
        flag, has_value, value = argument.partition("=")
        given = argument if name is not None and not argument.startswith("--") else value if has_value else None
        if given == "":  # as an unset variable of the shell leaves it
            raise UsageError(f"{name or flag.removeprefix('--')}: got an empty text, needs a value")
        if name is not None and not argument.startswith("--"):
            meant.append(_text(as_meant(argument, types[name])))
        elif has_value and flag.removeprefix("--") in types:
            meant.append(f"{flag}={_text(as_meant(value, types[flag[2:]]))}")
        else:
            meant.append(argument)
        name = argument[2:] if argument.startswith("--") and argument[2:] in types else None
    return meant


def _joined_lists(arguments: list[str], types: dict[str, Any]) -> list[str]:
    """`--names a b` as `--names ["a", "b"]`, for settings that are lists."""
    joined: list[str] = []
    values: list[str] = []
    for argument in [*arguments, "--"]:
        if not argument.startswith("--"):
            values.append(argument)
            continue
        several = len(values) > 1 and joined and takes_list(types.get(joined[-1].removeprefix("--"), str))
        joined += [json.dumps(values)] if several else values
        joined.append(argument)
        values = []
    return joined[:-1]


def _text(value: Any) -> str:
    return "null" if value is None else str(value)


def _as_meant_in_tree(tree: dict[str, Any], types: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    return {
        key: _as_meant_in_tree(value, types, f"{prefix}{key}.")
        if isinstance(value, dict)
        else _listed(as_meant(value, types[f"{prefix}{key}"]), value)
        if f"{prefix}{key}" in types
        else value
        for key, value in tree.items()
    }


def _listed(meant: Any, value: Any) -> Any:
    """A list that was given as text, as in YAML `strides: 1,2`, as a list."""
    if not isinstance(meant, str) or meant == value:
        return meant
    try:
        items = yaml.safe_load(meant)
    except yaml.YAMLError:
        return value  # refused by name where it is parsed
    return value if any(isinstance(item, list | dict) for item in items) else items


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


def _take_recipes(
    arguments: Sequence[str], names: Sequence[str], described: Sequence[str], prog: str
) -> tuple[dict[str, Any], list[str]]:
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
            recipe = merge(recipe, _relevant(load_recipe(value), names, described, value, prog))
        elif not _has_tubelets(names):
            raise UsageError(f"unknown option --{_PRESET}: {prog} draws no tubelets of its own")
        else:
            preset = value
    return _expand_preset(recipe, preset), rest


def _relevant(
    recipe: dict[str, Any], names: Sequence[str], described: Sequence[str], origin: str, prog: str
) -> dict[str, Any]:
    """A recipe less the settings that this command has no use for, some under the command's own names.

    Raises:
        UsageError: The user gave one of those; or there is no such setting.
    """
    _check_names(recipe, [*names, *recipe_types()], origin)
    kept: dict[str, Any] = {}
    unused = set()
    for name, value in flatten(recipe).items():
        known = name if name in names else _OTHER_NAMES.get(name, name)
        if known not in names and not (name == _PRESET and _has_tubelets(names)):
            unused.add(name)
            continue
        *sections, last = known.split(".")
        level = kept
        for section in sections:
            level = level.setdefault(section, {})
        level[last] = value
    refused = [name for name in flatten(given_settings(origin)) if name in unused and name not in described]
    if refused:
        raise UsageError(f"{origin}: {prog} has no use for {', '.join(refused)}; leave that out, or in another file")
    return kept


def _has_tubelets(names: Sequence[str]) -> bool:
    return any(name.startswith("tubelets.") for name in names)


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
        raise UsageError(f"tubelets.{error}") from error
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
