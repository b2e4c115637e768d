"""MkDocs hook: writes the commands, settings and recipes into trainer.md, from the code that they are of."""

from __future__ import annotations

import dataclasses
import re
import textwrap
from collections.abc import Iterable, Iterator
from typing import Any, get_args, get_type_hints

import docstring_parser
import yaml

from tubeletx_train.commands import COMMANDS, Command
from tubeletx_train.config.recipes import recipe_names, recipe_text


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Fill the places of a page that are marked by comments."""
    if "<!-- commands -->" not in markdown:
        return markdown
    places = {
        "<!-- commands -->": _commands(),
        "<!-- settings -->": _settings(),
        "<!-- recipes -->": _recipes(),
    }
    for mark, text in places.items():
        markdown = markdown.replace(mark, text)
    return markdown


def _commands() -> str:
    return "\n\n".join(_command(command) for command in COMMANDS)


def _command(command: Command) -> str:
    about = command.explain()
    parts = [f"### {command.name}", _preformatted(about) if "\n\n" in about else about, _table(command.config_class)]
    sections = [
        f"[`{name}`](#{_anchor(section)}){_other_defaults(command.config_class, name)}"
        for name, section in _sections(command.config_class)
    ]
    if sections:
        parts.append(f"Sections: {', '.join(sections)}.")
    if command.epilog:
        parts.append(_preformatted(command.epilog))
    return "\n\n".join(part for part in parts if part)


def _settings() -> str:
    names: dict[type, list[str]] = {}
    commands: dict[type, list[str]] = {}
    for command in COMMANDS:
        for name, section in _sections(command.config_class):
            names.setdefault(section, []).append(f"`{name}`")
            commands.setdefault(section, []).append(command.name)
    taken = [name for found in names.values() for name in _unique(found)]
    parts = []
    for section, found in names.items():
        users = _unique(commands[section])
        # Commands differ in what they call `data` and `model`.
        whose = f" of {', '.join(users)}" if any(taken.count(name) > 1 for name in found) else ""
        links = ", ".join(f"[{user}](#{user.replace(' ', '-')})" for user in users)
        parts += [
            f"### {', '.join(_unique(found))}{whose} {{ #{_anchor(section)} }}",
            f"{_paragraph(_docstring(section).short_description)} Used by {links}.",
            _table(section),
        ]
    return "\n\n".join(parts)


def _recipes() -> str:
    folders: dict[str, list[str]] = {}
    for name in recipe_names():
        folders.setdefault(name.rpartition("/")[0], []).append(name)
    return "\n\n".join(_recipe_table(names) for _, names in sorted(folders.items()))


def _recipe_table(names: Iterable[str]) -> str:
    rows = ["| recipe | base | |", "|---|---|---|"]
    for name in names:
        content = yaml.safe_load(recipe_text(name)) or {}
        base = f"`{content['base']}`" if "base" in content else ""
        rows.append(f"| `{name}` | {base} | {_cell(content.get('description', ''))} |")
    return "\n".join(rows)


def _sections(config_class: type, prefix: str = "") -> Iterator[tuple[str, type]]:
    """Dotted names and dataclasses of a configuration's sections, nested ones after the one that holds them."""
    hints = get_type_hints(config_class)
    for field in dataclasses.fields(config_class):
        section = hints[field.name]
        if isinstance(section, type) and dataclasses.is_dataclass(section):
            yield f"{prefix}{field.name}", section
            yield from _sections(section, f"{prefix}{field.name}.")


def _other_defaults(config_class: type, name: str) -> str:
    """What a command's section holds where it differs from the section's own defaults."""
    field = next((field for field in dataclasses.fields(config_class) if field.name == name), None)
    if field is None or field.default_factory is dataclasses.MISSING:
        return ""
    value = field.default_factory()
    own = [item for item in dataclasses.fields(value) if _default(item) is not dataclasses.MISSING]
    differing = [item.name for item in own if getattr(value, item.name) != _default(item)]
    shown = ", ".join(f"`{item}` {_yaml(getattr(value, item))}" for item in differing)
    return f" (with {shown})" if shown else ""


def _table(config_class: type) -> str:
    """The settings of a dataclass that are no sections."""
    hints = get_type_hints(config_class)
    meanings = {
        item.arg_name: item.description
        for ancestor in reversed(config_class.__mro__)
        if dataclasses.is_dataclass(ancestor)
        for item in _docstring(ancestor).params
    }
    rows = []
    # What is keyword-only is inherited, and less to the point.
    for field in sorted(dataclasses.fields(config_class), key=lambda field: field.kw_only):
        if not dataclasses.is_dataclass(hints[field.name]):
            default = _default(field)
            shown = "needed" if default is dataclasses.MISSING else _yaml(default)
            rows.append(f"| `{field.name}` | {_type(hints[field.name])} | {shown} | {_cell(meanings[field.name])} |")
    return "\n".join(["| setting | type | default | |", "|---|---|---|---|", *rows]) if rows else ""


def _docstring(config_class: type) -> docstring_parser.Docstring:
    return docstring_parser.parse(config_class.__doc__ or "", docstring_parser.DocstringStyle.GOOGLE)


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _default(field: dataclasses.Field[Any]) -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def _type(hint: Any) -> str:
    name = hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint)
    name = re.sub(r"Literal\[(.*?)\]", lambda choices: choices[1].replace(", ", " | ").replace("'", ""), name)
    name = re.sub(r"(\w+\.)+(?=\w)", "", name).replace("NoneType", "null").replace("None", "null")
    return f"`{name}`"


def _preformatted(text: str) -> str:
    return f"```text\n{textwrap.dedent(text).strip()}\n```"


def _yaml(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"`[{', '.join(_scalar(item) for item in value)}]`"
    return f"`{_scalar(value)}`"


def _scalar(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _paragraph(text: str | None) -> str:
    return " ".join((text or "").split())


def _cell(text: str | None) -> str:
    return _paragraph(text).replace("|", "\\|")


def _anchor(section: type) -> str:
    return f"{section.__module__}.{section.__name__}".lower().replace(".", "-").replace("_", "-")
