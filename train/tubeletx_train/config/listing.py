"""What there is of recipes, and the commands that run a table of the paper."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from tubeletx_train.common.errors import UsageError
from tubeletx_train.config.ablation_commands import MANIFESTS, arm_commands
from tubeletx_train.config.ablations import AblationTable, ablation_tables, arms
from tubeletx_train.config.recipes import describe, preparation, recipe_names, recipe_text


@dataclass(frozen=True)
class RecipesConfig:
    """What of the recipes is printed: the list of them, if nothing else is asked for.

    Attributes:
        name: Recipe to print.
        table: Number of a table of the paper: print the commands that run it.
        figure: Number of a figure of the paper, likewise.
        videos: A manifest or folder: print which recipe its amount of data asks for.
        protocol: Pretrain as the paper says, or as the released code does where it differs.
    """

    name: str | None = None
    table: str | None = None
    figure: str | None = None
    videos: str | None = None
    protocol: Literal["paper", "released"] = "paper"

    def __post_init__(self) -> None:
        if sum(value is not None for value in (self.name, self.table, self.figure, self.videos)) > 1:
            raise ValueError("a recipe's name, --table, --figure and --videos exclude each other")


def show_recipes(config: RecipesConfig) -> str:
    """The list of the recipes, one of them, or a script of commands; raises UsageError where there is no such."""
    if config.name is not None:
        return recipe_text(config.name)
    lines = _list()
    if config.table is not None:
        lines = _commands(_find("table", config.table), config.protocol)
    elif config.figure is not None:
        lines = _commands(_find("figure", config.figure), config.protocol)
    return "\n".join(lines) + "\n"


def _numbers(kind: str) -> list[str]:
    return [name.removeprefix(kind) for name in ablation_tables() if name.startswith(kind)]


def _find(kind: str, number: str) -> AblationTable:
    if number not in _numbers(kind):
        raise UsageError(f"no {kind} {number!r} of pretraining recipes; there are {', '.join(_numbers(kind))}")
    return ablation_tables()[f"{kind}{number}"]


def _list() -> Iterator[str]:
    rows = [(name, describe(name)) for name in recipe_names() if name not in arms()]
    for table in ablation_tables().values():
        names = [arm.name.removeprefix(f"{table.name}/") for arm in table.arms]
        shown = names if len(names) <= 8 else [*names[:2], "...", names[-1]]
        rows.append((f"{table.name}/...", f"{table.title}; {', '.join(shown)}"))
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        yield f"{name:{width}}  {text}"


def _commands(table: AblationTable, protocol: str) -> Iterator[str]:
    """A shell script that runs a table."""
    if protocol == "released" and table.paper_only is not None:
        raise UsageError(f"{table.title} cannot be run by the released protocol: {table.paper_only}")
    manifests = ", ".join(dict.fromkeys(f"{MANIFESTS[column]}.csv" for column in table.columns))
    yield f"# {table.title}"
    if table.note is not None:
        yield f"# Note: {table.note}."
    yield "# KINETICS is the folder of the Kinetics-400 videos. Fine-tuning takes, from the folder manifests,"
    yield f"# {manifests}: see tubeletx-train manifest --help."
    base = preparation(table.base)
    yield from table.prepare or ((base,) if base is not None else ())
    for arm in table.arms:
        yield f"\n# {arm.row}"
        if protocol == "released" and arm.paper_only is not None:
            yield f"# left out: {arm.paper_only}"
            continue
        if arm.printed:
            numbers = (f"{column} {value}" for column, value in zip(table.columns, arm.printed, strict=True))
            yield f"# in the paper: {', '.join(numbers)}"
        yield from arm_commands(table, arm, protocol)
