"""Installs a wheel beside given versions of Python, torch and NumPy, and runs its self-test and tests there.

    python tests/building/wheel_under.py dist/*.whl --python python3.10 torch==2.10.0 numpy==1.26.4

The environment is made in a temporary folder and goes with it; a torch with CUDA takes 7 GB.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
TOOLS = ("hypothesis", "pillow", "pytest", "pytest-xdist", "scipy")


def main() -> int:
    parser = argparse.ArgumentParser(description="Tests a wheel under given versions of what it stands on.")
    parser.add_argument("wheel", type=Path)
    parser.add_argument("requirements", nargs="*", metavar="NAME==VERSION", help="what to install beside the wheel")
    parser.add_argument("--python", default=sys.executable, help="the interpreter (default: this one)")
    parser.add_argument("--tests", nargs="*", default=["tests/ops"], help="files or folders (default: tests/ops)")
    options = parser.parse_intermixed_args()
    # A constraint that the machine sets for its users must not hide a version.
    environment = {**os.environ, "PIP_CONSTRAINT": os.devnull}
    with tempfile.TemporaryDirectory() as folder:

        def run(*words: str, at: str | Path = folder) -> None:
            subprocess.run(words, check=True, cwd=at, env=environment)

        run(options.python, "-m", "venv", folder)
        run(f"{folder}/bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
            str(options.wheel.resolve()), *options.requirements, *TOOLS)  # fmt: skip
        run(f"{folder}/bin/python", "-m", "tubeletx")
        # Elsewhere, so that what is found is the installed package and not the sources.
        shutil.copytree(ROOT / "tests", f"{folder}/checkout/tests")
        shutil.copy(ROOT / "pyproject.toml", f"{folder}/checkout")
        run(f"{folder}/bin/pytest", "-q", *options.tests, at=f"{folder}/checkout")
    return 0


if __name__ == "__main__":
    sys.exit(main())
