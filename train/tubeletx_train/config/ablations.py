"""The paper's ablations: one YAML file a table, whose arms are recipes."""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from tubeletx_train.config.tree import merge, read_tree


@dataclass(frozen=True)
class Arm:
    """One pretraining of a table.

    Attributes:
        name: Its recipe's name, such as "table3/linear".
        row: What the paper calls it.
        group: The same without the axis that the table averages over: arms of one group are one row.
        printed: The paper's numbers in the table's columns; empty where it prints none.
        same_as: The arm of another table that is the same pretraining, or None.
        settings: What differs from the table's base.
        paper_only: Why the released code's protocol cannot run it, or None.
    """

    name: str
    row: str
    group: str
    printed: tuple[float, ...] = ()
    same_as: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    paper_only: str | None = None


@dataclass(frozen=True)
class AblationTable:
    """A table (or figure) of the paper.

    Attributes:
        name: "table3", "figure5".
        title: As in the paper.
        base: Recipe that every arm differs from.
        columns: Downstream experiments that the table compares by; each is a recipe of that name in `downstream/`.
        prepare: Commands to run first, one for each manifest that the base's own does not give.
        arms: Its rows.
        paper_only: Why the released code's protocol cannot run it, or None.
        note: Where the paper contradicts itself about it, or None.
    """

    name: str
    title: str
    base: str
    columns: tuple[str, ...]
    prepare: tuple[str, ...]
    arms: tuple[Arm, ...]
    paper_only: str | None = None
    note: str | None = None


@functools.cache
def ablation_tables() -> dict[str, AblationTable]:
    """The tables by name."""
    folder = Path(str(resources.files("tubeletx_train") / "recipes" / "tables"))
    paths = sorted(folder.glob("*.yaml"), key=lambda path: (len(path.stem), path.stem))
    return {path.stem: _table(path) for path in paths}


@functools.cache
def arms() -> dict[str, tuple[AblationTable, Arm]]:
    """Every arm of every table, by its name."""
    return {arm.name: (table, arm) for table in ablation_tables().values() for arm in table.arms}


def canonical_arm(name: str) -> str:
    """The arm that holds a pretraining which several tables share; the name itself where it is no arm."""
    while name in arms():
        same_as = arms()[name][1].same_as
        if same_as is None:
            break
        name = same_as
    return name


def _table(path: Path) -> AblationTable:
    """Read a table.

    Its arms are all combinations of a value from each of the `axes`. A value has `row`, and may have `printed`,
    `same_as`, `settings`, `paper_only`, and `prepare` in place of the table's; settings and commands may hold the
    values' names as {axis}. `average_over` names the axis whose values are repetitions of one row.
    """
    content = read_tree(path)
    axes: dict[str, dict[str, dict[str, Any]]] = content["axes"]
    averaged = content.get("average_over")
    made = []
    prepare = []
    for names in itertools.product(*axes.values()):
        chosen = dict(zip(axes, names, strict=True))
        values = [axes[axis][name] for axis, name in chosen.items()]
        settings = _filled(content.get("settings", {}), chosen)
        for value in values:
            settings = merge(settings, value.get("settings", {}))
        made.append(
            Arm(
                name=f"{path.stem}/{'/'.join(names)}",
                row=", ".join(value["row"] for value in values),
                group=", ".join(axes[axis][name]["row"] for axis, name in chosen.items() if axis != averaged),
                printed=tuple(next((value["printed"] for value in values if "printed" in value), ())),
                same_as=next((value["same_as"] for value in values if "same_as" in value), None),
                settings=settings,
                paper_only=next((value["paper_only"] for value in values if "paper_only" in value), None),
            )
        )
        commands = next((value["prepare"] for value in values if "prepare" in value), content.get("prepare", []))
        prepare += [_filled(command, chosen) for command in commands]
    return AblationTable(
        name=path.stem,
        title=content["title"],
        base=content["base"],
        columns=tuple(content["columns"]),
        prepare=tuple(dict.fromkeys(prepare)),
        arms=tuple(made),
        paper_only=content.get("paper_only"),
        note=content.get("note"),
    )


def _filled(value: Any, chosen: dict[str, str]) -> Any:
    """A tree whose texts have the names of the chosen values put in; "{seed}" alone becomes a number."""
    if isinstance(value, dict):
        return {key: _filled(item, chosen) for key, item in value.items()}
    if not isinstance(value, str) or "{" not in value:
        return value
    text = value.format_map(chosen)
    return yaml.safe_load(text) if value.startswith("{") and value.endswith("}") else text
