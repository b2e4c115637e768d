"""MkDocs hook: writes benchmarks.md's tables from benchmarks/results/*.json."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
_PLACE = "<!-- benchmarks -->"
_ABOUT = ("benchmark", "date", "commit", "machine", "versions")
# A name that holds one of these says that its numbers are times, and in which unit.
_UNITS = {"microseconds": 1e-6, "milliseconds": 1e-3, "seconds": 1.0}
_SCALES = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Fill the marked place of a page."""
    if _PLACE not in markdown:
        return markdown
    return markdown.replace(_PLACE, "\n\n".join(_sections(_BENCHMARKS / "results")))


def _sections(results: Path) -> Iterator[str]:
    """A section for each claim; what it found on other machines, in folders beside, follows in the same one."""
    found: dict[str, list[Path]] = {}
    for path in sorted(results.rglob("*.json"), key=lambda path: (path.parent != results, path)):
        found.setdefault(path.stem, []).append(path)
    for claim, paths in sorted(found.items()):
        records: list[dict[str, Any]] = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
        # A script with several results adds to its name: rendered_controls_gym is of rendered_controls.py.
        scripts = [script for script in _BENCHMARKS.glob("*.py") if claim.startswith(script.stem)]
        script = max(scripts, key=lambda script: len(script.stem))
        summary = (ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))) or "").split("\n\n")[0]
        tables = "\n\n".join(_measured(record) for record in records)
        yield f"## {claim}\n\n`benchmarks/{script.name}`: {' '.join(summary.split())}\n\n{tables}"


def _measured(record: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    machine = ", ".join(f"{name} {value}" for name, value in record["machine"].items())
    return "\n\n".join(
        [
            f"{record['date'][:10]}, commit `{record['commit']}`: **{machine}**; {versions}.",
            *_tables({name: value for name, value in record.items() if name not in _ABOUT}),
        ]
    )


def _tables(payload: dict[str, Any], title: str = "") -> Iterator[str]:
    """Mappings of numbers as columns, those with rows in common in one table; what is nested deeper follows."""
    facts = [f"{_words(name)} {_plain(value)}" for name, value in payload.items() if not _is_nested(value)]
    heading = ": ".join(part for part in (f"**{title}**" if title else "", ", ".join(facts)) if part)
    if heading:
        yield heading
    columns = {name: value for name, value in payload.items() if _is_column(value)}
    while columns:
        name, first = next(iter(columns.items()))
        group = {other: column for other, column in columns.items() if column.keys() & first.keys()}
        columns = {other: column for other, column in columns.items() if other not in group}
        yield _table(group)
    for name, value in payload.items():
        if isinstance(value, dict) and value and not _is_column(value):
            yield from _tables(value, _words(name))
        elif isinstance(value, list) and _is_nested(value):
            for item in value:
                yield from _tables(item)


def _is_nested(value: Any) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and any(isinstance(item, dict) for item in value))


def _is_column(value: Any) -> bool:
    return isinstance(value, dict) and bool(value) and all(isinstance(item, int | float) for item in value.values())


def _table(columns: dict[str, dict[str, float]]) -> str:
    rows = list(dict.fromkeys(name for column in columns.values() for name in column))
    lines = ["| | " + " | ".join(_heading(name) for name in columns) + " |", "|---|" + "---:|" * len(columns)]
    for row in rows:
        cells = (_number(column[row], name) if row in column else "" for name, column in columns.items())
        lines.append(f"| {_escaped(row)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _heading(name: str) -> str:
    unit = _unit(name)
    return _words(name.replace(unit, "time")) if unit else _words(name)


def _unit(name: str) -> str | None:
    return next((unit for unit in _UNITS if unit in name), None)


def _number(value: float, column: str) -> str:
    unit = _unit(column)
    if unit is None:
        return _plain(value)
    seconds = value * _UNITS[unit]
    scale, symbol = next((pair for pair in _SCALES if seconds >= pair[0]), _SCALES[-1])
    return f"{_plain(seconds / scale)} {symbol}"


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return " x ".join(map(_plain, value))
    if not isinstance(value, float):
        return _escaped(str(value))
    return f"{value:,.0f}" if abs(value) >= 999.5 else f"{value:#.3g}".rstrip(".")


def _words(name: str) -> str:
    return name.replace("_", " ")


def _escaped(text: str) -> str:
    return re.sub(r"([_*|`\\])", r"\\\1", text).replace("<", "&lt;")
