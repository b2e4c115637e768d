"""The table of commands: what it shows can be given, and what it names is there."""

from __future__ import annotations

import dataclasses
import shlex

import pytest

import tubeletx
from tubeletx_train.commands import COMMANDS, PROG, Command, find_command, usage
from tubeletx_train.common.errors import UsageError

BY_NAME = pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)


@BY_NAME
def test_examples_can_be_given(command: Command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.yaml").write_text("data: {videos: my_videos/}\n")
    for line in command.examples.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["torchrun"]:
            words = [PROG, *words[words.index("tubeletx_train") + 1 :]]
        if words[:1] != [PROG]:
            assert not words or line.startswith("(")
            continue
        arguments = words[1 : words.index(">")] if ">" in words else words[1:]
        found = find_command([argument for argument in arguments if argument != "--print_config"])
        assert not isinstance(found, str)
        named, rest = found
        assert isinstance(named.parse(rest), named.config_class)


@BY_NAME
def test_help_explains_every_setting(command: Command, capsys):
    with pytest.raises(SystemExit) as ended:
        command.parse(["--help"])
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    for field in dataclasses.fields(command.config_class):
        assert f"--{field.name}" in printed
    assert command.epilog.splitlines()[-1:] == [printed.rstrip().splitlines()[-1]] or not command.epilog


def test_names_are_found_and_others_are_not():
    for command in COMMANDS:
        assert find_command([*command.name.split(), "--a", "b"]) == (command, ["--a", "b"])
    assert find_command([]) == find_command(["--help"]) == usage()
    for arguments in (["count"], ["count", "-h"]):
        shown = find_command(arguments)
        assert isinstance(shown, str)
        assert "count videos" in shown
        assert "pretrain" not in shown
    assert find_command(["--version"]) == f"{PROG} {tubeletx.__version__}"
    with pytest.raises(UsageError, match=r"'pretrian'; did you mean 'pretrain'"):
        find_command(["pretrian"])
    with pytest.raises(UsageError, match=r"'count tset'; did you mean 'count test'"):
        find_command(["count", "tset"])
