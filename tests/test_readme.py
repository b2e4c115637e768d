"""The README's code runs as it stands, and its tables hold what the scripts wrote."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("code", blocks("python"))
def test_python_blocks_run(code):
    exec(compile(code, "README.md", "exec"), {})


@pytest.mark.parametrize("recipe", blocks("yaml"))
def test_recipes_parse(recipe, tmp_path):
    from tubeletx_train.config.parse import parse_config
    from tubeletx_train.config.pretrain import PretrainConfig

    path = tmp_path / "recipe.yaml"
    path.write_text(recipe, encoding="utf-8")
    config = parse_config(PretrainConfig, ["--config", str(path), "--data.videos", "x"], prog="test")
    assert list(config.tubelets.transforms) == yaml.safe_load(recipe)["tubelets"]["transforms"]


def test_commands_and_recipes_exist():
    from tubeletx_train.cli import _COMMANDS
    from tubeletx_train.config.recipes import recipe_names

    assert set(re.findall(r"tubeletx-train (\w+)", README)) <= _COMMANDS.keys()
    assert set(re.findall(r"`(pretrain/\w+)`", README)) <= set(recipe_names())
