from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import sys

BENCHMARKS = pathlib.Path(__file__).resolve().parents[2] / "benchmarks"

SCRIPT = """
import subprocess
from harness import write_result
subprocess.run(["git", "commit", "-q", "--allow-empty", "-m", "while it runs"], check=True)
write_result("figures", {"ratio": 2})
"""


def test_a_result_names_the_commit_that_its_script_began_with(tmp_path: pathlib.Path) -> None:
    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    shutil.copy(BENCHMARKS / "harness.py", tmp_path)
    git("init", "-q")
    git("config", "user.name", "Somebody")
    git("config", "user.email", "somebody@example.org")
    git("add", "harness.py")
    git("commit", "-q", "-m", "before")
    before = git("describe", "--always", "--abbrev=12").strip()
    results = tmp_path / "results"
    subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=tmp_path, check=True, env={**os.environ, "TUBELETX_RESULTS": str(results)}
    )
    assert git("describe", "--always", "--abbrev=12").strip() != before
    result = json.loads((results / "figures.json").read_text())
    assert (result["commit"], result["ratio"]) == (before, 2)
    assert {"python", "torch"} <= result["versions"].keys()
