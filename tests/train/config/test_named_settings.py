"""Settings that messages and help texts name exist."""

from __future__ import annotations

import ast
import dataclasses
import re
import typing
from collections.abc import Iterator
from pathlib import Path

import tubeletx_train
from tubeletx_train.commands import COMMANDS

ROOT = Path(tubeletx_train.__file__).parent
# What looks like a setting and is none: files, a call of the card's example, and the key of a recipe that stands for
# many settings.
OTHERS = {"model.pt", "probe.json", "model.load_state_dict", "tubelets.preset"}


def settings_of(config: type, prefix: str = "") -> Iterator[tuple[str, bool]]:
    """The dotted names of all settings, and whether they hold others."""
    hints = typing.get_type_hints(config)
    for field in dataclasses.fields(config):
        kinds = (hints[field.name], *typing.get_args(hints[field.name]))
        inner = [kind for kind in kinds if dataclasses.is_dataclass(kind)]
        yield prefix + field.name, bool(inner)
        for kind in inner:
            yield from settings_of(kind, f"{prefix}{field.name}.")


def texts() -> Iterator[tuple[str, str]]:
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield f"{path.relative_to(ROOT)}:{node.lineno}", node.value


def test_settings_that_texts_name_exist():
    known = dict(pair for command in COMMANDS for pair in settings_of(command.config_class))
    sections = sorted(name for name, has_others in known.items() if has_others and "." not in name)
    # Not the paths of modules, nor names that a text puts together.
    dotted = re.compile(rf"(?<![\w./`-])(?:--)?((?:{'|'.join(sections)})(?:\.[a-z_0-9]+)+)(?!\.?[\w:])")
    found = [(place, name) for place, text in texts() for name in dotted.findall(text) if not name.endswith("_")]
    assert len(found) > 100
    assert [(place, name) for place, name in found if name not in known and name not in OTHERS] == []
