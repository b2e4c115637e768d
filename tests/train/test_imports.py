"""The floors of `tubeletx_train`: imports go down or stay on their floor, and never in a circle."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import tubeletx_train

ROOT = Path(tubeletx_train.__path__[0])
# From the ground up; what shares a floor does not import its neighbours there.
FLOORS = (
    {"common"},
    {"config"},
    {"data", "models", "engine", "figures"},
    {"rendered"},
    {"evaluation"},
    {"pretrain", "finetune", "repetition"},
    {"demo"},
    {"commands"},
    {"cli"},
    {"__main__"},
)


def _imports() -> dict[str, set[str]]:
    """Each module of the package with the modules of it that it imports, wherever in the file."""
    files = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in ROOT.rglob("*.py")}
    modules = {name.removesuffix(".__init__"): path for name, path in files.items() if name != "__init__"}
    found: dict[str, set[str]] = {}
    for name, path in modules.items():
        found[name] = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                targets = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}: relative import"
                targets = [f"{node.module}.{alias.name}" for alias in node.names]
            else:
                continue
            for target in targets:
                ours = target.removeprefix("tubeletx_train.")
                if ours == target:
                    continue
                # A name of a module, or a module of a package.
                module = ours if ours in modules else ours.rpartition(".")[0]
                found[name].add(module)
                # Python runs the `__init__` of another package before its module.
                if module.split(".")[0] != name.split(".")[0]:
                    found[name].add(module.split(".")[0])
    return found


IMPORTS = _imports()


def _floor(module: str) -> int:
    return next(index for index, floor in enumerate(FLOORS) if module.split(".")[0] in floor)


@pytest.mark.parametrize("module", sorted(IMPORTS))
def test_imports_go_down(module: str) -> None:
    package = module.split(".")[0]
    wrong = {other for other in IMPORTS[module] if other.split(".")[0] != package and _floor(other) >= _floor(module)}
    assert not wrong


def test_no_circle() -> None:
    try:
        TopologicalSorter(IMPORTS).prepare()
    except CycleError as error:
        pytest.fail(f"circle: {' -> '.join(error.args[1])}")
