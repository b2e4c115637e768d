"""What the commands of `tubeletx-train` take, asked from the commands themselves."""

from __future__ import annotations

import contextlib
import importlib
import io
from dataclasses import dataclass
from types import ModuleType
from typing import NoReturn
from unittest import mock

from tubeletx_train.cli import _COMMANDS, _PROG


@dataclass(frozen=True)
class Interface:
    """How a command is used.

    Attributes:
        name: Of the command, and of its mode where it has several.
        summary: What it does, in a few words.
        config_class: Dataclass of its settings; None for a command of plain arguments.
        description: What it does.
        epilog: Examples and remarks; of a command of plain arguments its whole help.
    """

    name: str
    summary: str
    config_class: type | None
    description: str
    epilog: str


class _FoundError(Exception):
    """Stops a command once its settings' class is known."""


def command_interfaces() -> list[Interface]:
    """Every command, in the order of `tubeletx-train --help`, and every mode of those that have some."""
    return [interface for name in _COMMANDS for interface in _interfaces(name)]


def _interfaces(name: str) -> list[Interface]:
    """Ask a command what it takes, without running it."""
    module = importlib.import_module(f"tubeletx_train.commands.{name}")
    if not hasattr(module, "parse_config"):
        return [Interface(name, _COMMANDS[name], None, "", _help(module))]
    found: list[Interface] = []

    def record(
        config_class: type, *_: object, prog: str, description: str = "", epilog: str = "", **__: object
    ) -> NoReturn:
        found.append(Interface(prog.removeprefix(f"{_PROG} "), _COMMANDS[name], config_class, description, epilog))
        raise _FoundError

    for mode in getattr(module, "_MODES", [None]):
        with mock.patch.object(module, "parse_config", record), contextlib.suppress(_FoundError):
            module.main([] if mode is None else [mode], f"{_PROG} {name}")
    return found


def _help(module: ModuleType) -> str:
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
        module.main(["--help"], f"{_PROG} {module.__name__.rpartition('.')[2]}")
    return text.getvalue()
