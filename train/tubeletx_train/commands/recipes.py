"""`tubeletx-train recipes`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from tubeletx_train.config.recipes import describe, recipe_names, recipe_path


def main(arguments: Sequence[str], prog: str) -> int:
    """List the recipes, or print one."""
    parser = argparse.ArgumentParser(
        prog=prog, description="List the recipes that come with the package, or print one."
    )
    parser.add_argument("name", nargs="?", help="recipe to print")
    name: str | None = parser.parse_args(arguments).name
    if name is not None:
        print(recipe_path(name).read_text(encoding="utf-8"), end="")
        return 0
    names = recipe_names()
    width = max(map(len, names))
    for name in names:
        print(f"{name:{width}}  {describe(name)}")
    return 0
