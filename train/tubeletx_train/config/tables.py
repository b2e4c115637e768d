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
        printed: The paper's numbers in the table's columns; empty where it prints none.
        same_as: The arm of another table that is the same pretraining, or None.
        settings: What differs from the table's base.
    """

    name: str
    row: str
    printed: tuple[float, ...] = ()
    same_as: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)


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
    """

    name: str
    title: str
    base: str
    columns: tuple[str, ...]
    prepare: tuple[str, ...]
    arms: tuple[Arm, ...]
    paper_only: str | None = None


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


def _table(path: Path) -> AblationTable:
    """Read a table.

    Its arms are all combinations of a value from each of the `axes`. A value has `row`, and may have `printed`,
    `same_as` and `settings`; the table's own `settings` and `prepare` may hold the values' names as {axis}.
    """
    content = read_tree(path)
    axes: dict[str, dict[str, dict[str, Any]]] = content["axes"]
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
                printed=tuple(next((value["printed"] for value in values if "printed" in value), ())),
                same_as=next((value["same_as"] for value in values if "same_as" in value), None),
                settings=settings,
            )
        )
        prepare += [_filled(command, chosen) for command in content.get("prepare", [])]
    return AblationTable(
        name=path.stem,
        title=content["title"],
        base=content["base"],
        columns=tuple(content["columns"]),
        prepare=tuple(dict.fromkeys(prepare)),
        arms=tuple(made),
        paper_only=content.get("paper_only"),
    )


def _filled(value: Any, chosen: dict[str, str]) -> Any:
    """A tree whose texts have the names of the chosen values put in; "{seed}" alone becomes a number."""
    if isinstance(value, dict):
        return {key: _filled(item, chosen) for key, item in value.items()}
    if not isinstance(value, str) or "{" not in value:
        return value
    text = value.format_map(chosen)
    return yaml.safe_load(text) if value.startswith("{") and value.endswith("}") else text
