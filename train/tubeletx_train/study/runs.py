"""The runs of the study and the folders that hold them."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tubeletx_train.common.errors import UsageError
from tubeletx_train.study.arms import FULL, REFERENCES, own_arms, write_recipe


@dataclass(frozen=True)
class Run:
    """One run.

    Attributes:
        arm: Name of its arm.
        factor: What the recipe's learning rate is multiplied with.
        seed: Seed of the run.
        search: Whether it only serves to choose the learning rate.
    """

    arm: str
    factor: float
    seed: int
    search: bool = False

    @property
    def name(self) -> str:
        """Name of its folder."""
        return f"{self.arm.replace('/', '-')}/lr-{self.factor:g}-seed-{self.seed}"


@dataclass(frozen=True)
class RunFolder:
    """What a run is, and what it came to.

    Attributes:
        path: The folder.
    """

    path: Path

    @property
    def recipe(self) -> Path:
        """All settings of the pretraining; `tubeletx-train pretrain --config` takes it."""
        return self.path / "recipe.yaml"

    @property
    def log(self) -> Path:
        """What the run printed."""
        return self.path / "output.log"

    def check(self, recipe: dict[str, Any]) -> None:
        """Raise UsageError where the folder holds a run with other settings."""
        if self.recipe.exists() and yaml.safe_load(self.recipe.read_text(encoding="utf-8")) != recipe:
            raise UsageError(
                f"{self.path} holds a run with other settings; choose another --output, or remove that folder"
            )

    def prepare(self, run: Run, recipe: dict[str, Any], measurements: Path) -> None:
        """Write what the run is. Raises UsageError where the folder holds another run."""
        self.check(recipe)
        self.path.mkdir(parents=True, exist_ok=True)
        write_recipe(self.recipe, recipe)
        spec = {
            "arm": run.arm,
            "lr": recipe["optim"]["lr"],
            "lr_factor": run.factor,
            "seed": run.seed,
            "search": run.search,
            "measurements": str(measurements),
        }
        _write(self.path / "run.json", spec)

    def spec(self) -> dict[str, Any]:
        """What `prepare` wrote."""
        content: dict[str, Any] = json.loads((self.path / "run.json").read_text(encoding="utf-8"))
        return content

    def write_result(self, result: dict[str, Any]) -> None:
        """Mark the run as complete."""
        _write(self.path / "result.json", result)

    def result(self) -> dict[str, Any] | None:
        """The result of a complete run, else None."""
        path = self.path / "result.json"
        if not path.exists():
            return None
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return content


def _write(path: Path, content: dict[str, Any]) -> None:
    """Write JSON so that a reader sees the whole of it or nothing."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def search_runs(arm: str, factors: Sequence[float], seed: int) -> list[Run]:
    """The runs that choose an arm's learning rate; none where there is nothing to choose.

    An arm of our own asks what one change to the full method does, so it takes the full method's rate.
    """
    if arm in REFERENCES or len(factors) < 2:
        return []
    searched = FULL if arm in own_arms() else arm
    return [Run(searched, factor, seed, search=True) for factor in factors]


def accuracy(result: dict[str, Any]) -> float:
    """What runs are compared by, the linear probe; a run that diverged comes last."""
    return float(result["probe"]["linear"]) if "probe" in result else -1.0
