"""The runs of a study, and the folders that hold them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

import tubeletx
from studies.arms import arm_recipe, times_of
from tubeletx_train.common.errors import UsageError
from tubeletx_train.common.files import replaced_file
from tubeletx_train.common.machine import processor_name
from tubeletx_train.config.tree import merge

# Measured along a run; every measurement costs seconds.
POINTS = 5


@dataclass(frozen=True)
class Run:
    """One run: an arm and a seed."""

    arm: str
    seed: int


@dataclass(frozen=True)
class Study:
    """A study's folder, and what all of its runs share.

    Attributes:
        root: The folder.
        size: A name in `arms.SIZES`.
        steps: Steps of a run; None takes the recipe's.
        reader: Of the videos; None takes the recipe's.
    """

    root: Path
    size: str = "small"
    steps: int | None = None
    reader: str | None = None

    @property
    def manifest(self) -> Path:
        """Manifest that all runs read."""
        return self.root / "videos.csv"

    @property
    def measurements(self) -> Path:
        """File of the clips that all runs are measured by."""
        return self.root / "measurements.pt"

    def folder(self, run: Run) -> Path:
        """Folder of a run."""
        return self.root / "runs" / run.arm / f"seed-{run.seed}"

    def encoder(self, run: Run) -> Path:
        """Checkpoint of the network of a run side by side."""
        return self.folder(run) / "encoder.pt"

    def settings(self, arm: str) -> dict[str, Any]:
        """Those of an arm, before what its runs differ in."""
        data = {"videos": str(self.manifest)} | ({} if self.reader is None else {"reader": self.reader})
        return merge(arm_recipe(arm, self.size), {"data": data})

    def recipe(self, run: Run) -> dict[str, Any]:
        """All settings of a run's pretraining; `tubeletx-train pretrain --config` takes it."""
        recipe = self.settings(run.arm)
        usual = recipe["optim"]["steps"]
        steps = (self.steps or usual) * times_of(run.arm)
        over = {
            "optim": {"steps": steps, "warmup_steps": recipe["optim"]["warmup_steps"] * steps // usual},
            "run": {
                "output": str(self.folder(run) / "pretraining"),
                "seed": run.seed,
                "threads": None if torch.cuda.is_available() else 1,
                "checkpoint_every": max(steps // POINTS, 1),
                "keep_checkpoints": POINTS + 1,
            },
        }
        return merge(recipe, over)

    def prepare(self, run: Run) -> Path:
        """Write what a run is into its folder; returns the folder.

        Raises:
            UsageError: It holds a run with other settings.
        """
        folder, recipe = self.folder(run), self.recipe(run)
        path = folder / "recipe.yaml"
        if path.exists() and yaml.safe_load(path.read_text(encoding="utf-8")) != recipe:
            raise UsageError(f"{folder} holds a run with other settings; choose another --output, or remove it")
        with replaced_file(path) as file:
            yaml.safe_dump(recipe, file, sort_keys=False)
        return folder

    def result(self, run: Run) -> dict[str, Any] | None:
        """What a run came to; None where it is not complete."""
        if not self.complete(run):
            return None
        content: dict[str, Any] = json.loads(self._result(run).read_text(encoding="utf-8"))
        return content

    def complete(self, run: Run) -> bool:
        """Whether a run has a result."""
        return self._result(run).exists()

    def write_result(self, run: Run, result: dict[str, Any]) -> None:
        """Mark a run as complete."""
        with replaced_file(self._result(run)) as file:
            file.write(json.dumps({"arm": run.arm, "seed": run.seed} | result, indent=1) + "\n")

    def networks(self, runs: Sequence[Run], without: Collection[str] = ()) -> list[tuple[Run, dict[str, Any]]]:
        """The complete ones of some runs with their results, where each kept its network.

        Args:
            runs: That are wanted.
            without: Arms that need no network.

        Raises:
            UsageError: None is complete, or the network of one was not kept.
        """
        complete = [(run, result) for run in runs if (result := self.result(run)) is not None]
        if not complete:
            raise UsageError(f"--arms, --seeds: no such run is complete in {self.root}")
        for run, _ in complete:
            if run.arm not in without and not self.encoder(run).exists():
                raise UsageError(f"{self.folder(run)}: holds no network, needs a complete run of `lockstep`")
        return complete

    def results(self) -> list[dict[str, Any]]:
        """What all complete runs came to."""
        paths = sorted(self.root.glob("runs/*/seed-*/results.json"))
        return [json.loads(path.read_text(encoding="utf-8")) for path in paths]

    def _result(self, run: Run) -> Path:
        return self.folder(run) / "results.json"


def provenance(device: torch.device, commit: str | None = None) -> dict[str, str | None]:
    """What made a result: version, commit, torch and processor.

    Args:
        device: That trained.
        commit: Where the sources lie outside of their repository; None asks git ("+" marks uncommitted changes).
    """
    root = Path(__file__).resolve().parents[1]

    def git(*arguments: str) -> str | None:
        try:
            command = ["git", "-C", str(root), *arguments]
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        except (OSError, subprocess.CalledProcessError):
            return None

    found = commit or git("rev-parse", "HEAD")
    if (
        commit is None
        and found is not None
        and git("status", "--porcelain", "--untracked-files=no", "--", "studies", "train", "tubeletx")
    ):
        found += "+"
    return {
        "tubeletx": tubeletx.__version__,
        "commit": found,
        "torch": str(torch.__version__),
        "processor": processor_name(device),
    }
