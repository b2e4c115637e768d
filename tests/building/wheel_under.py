"""Installs a wheel beside given versions of Python and packages, and runs its self-test and tests there.

    python tests/building/wheel_under.py dist/*.whl --python python3.13 --extra train --tests tests/ops tests/train
    python tests/building/wheel_under.py dist/*.whl --python python3.10 --oldest

The first takes the newest packages, the second the oldest that pyproject.toml allows. The environment is made in a
temporary folder and goes with it; a torch with CUDA takes 7 GB.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import tomllib

ROOT = Path(__file__).parents[2]
TOOLS = ("hypothesis", "pillow", "pytest", "pytest-xdist", "scipy")
# What tests look at, without the sources of the packages: those that are installed are to be found.
CHECKOUT = ("benchmarks", "docs", "examples", "studies", "tests")


def oldest(extra: str) -> list[str]:
    """The oldest packages that a wheel with this extra allows, as requirements."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = project["dependencies"] + (project["optional-dependencies"][extra] if extra else [])
    return [requirement.replace(">=", "==") for requirement in needed if ">=" in requirement]


def main() -> int:
    parser = argparse.ArgumentParser(description="Tests a wheel under given versions of what it stands on.")
    parser.add_argument("wheel", type=Path)
    parser.add_argument("requirements", nargs="*", metavar="NAME==VERSION", help="what to install beside the wheel")
    parser.add_argument("--python", default=sys.executable, help="the interpreter (default: this one)")
    parser.add_argument("--extra", default="", help="of the wheel, such as train")
    parser.add_argument("--oldest", action="store_true", help="the oldest packages that the wheel allows")
    parser.add_argument("--tests", nargs="*", default=["tests/ops"], help="files or folders (default: tests/ops)")
    options = parser.parse_intermixed_args()
    # A constraint that the machine sets for its users must not hide a version.
    environment = {**os.environ, "PIP_CONSTRAINT": os.devnull}
    with tempfile.TemporaryDirectory() as folder:

        def run(*words: str, at: str | Path = folder) -> None:
            subprocess.run(words, check=True, cwd=at, env=environment)

        run(options.python, "-m", "venv", folder)
        run(f"{folder}/bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
            f"{options.wheel.resolve()}{options.extra and f'[{options.extra}]'}", *options.requirements,
            *(oldest(options.extra) if options.oldest else ()), *TOOLS)  # fmt: skip
        run(f"{folder}/bin/python", "-m", "tubeletx")
        for part in CHECKOUT:
            shutil.copytree(ROOT / part, f"{folder}/checkout/{part}")
        shutil.copy(ROOT / "pyproject.toml", f"{folder}/checkout")
        # As a module, so that the processes that tests start find the tests too.
        run(f"{folder}/bin/python", "-m", "pytest", "-q", "-n", "logical", "--maxprocesses", "8", "--dist", "loadfile",
            *options.tests, at=f"{folder}/checkout")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
