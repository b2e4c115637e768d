"""What the runs of a study came to, by arm and seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tubeletx_train.config.tree import merge
from tubeletx_train.study.arms import FULL
from tubeletx_train.study.intervals import Estimate, difference, estimate

MEASURES: dict[str, Callable[[dict[str, Any]], float]] = {
    "linear probe": lambda result: float(result["probe"]["linear"]),
    "10-NN probe": lambda result: float(result["probe"]["knn"]),
    "retrieval R@1": lambda result: float(result["retrieval"]["r@1"]),
    "labelled videos": lambda result: float(result["labelled"]["linear"]),
}
MAIN_MEASURE = "linear probe"


class Results:
    """Results of the reported runs, by arm.

    Attributes:
        runs: All that were given.
        by_arm: Those of reported seeds that were measured, in the order of their seeds.
    """

    def __init__(self, runs: Sequence[dict[str, Any]]) -> None:
        """Args: `runs` may hold runs of the search and diverged ones; both are listed, not averaged."""
        self.runs = list(runs)
        self.by_arm: dict[str, list[dict[str, Any]]] = {}
        for run in sorted(runs, key=lambda run: int(run["seed"])):
            if not run["search"] and "probe" in run:
                self.by_arm.setdefault(run["arm"], []).append(run)

    def values(self, arm: str, measure: str = MAIN_MEASURE) -> dict[int, float]:
        """A value for each seed; none where the arm was not run or not measured by that."""
        found = {}
        for run in self.by_arm.get(arm, []):
            try:
                found[int(run["seed"])] = MEASURES[measure](run)
            except KeyError:
                continue
        return found

    def estimate(self, arm: str, measure: str = MAIN_MEASURE) -> Estimate | None:
        """Mean over seeds with its interval."""
        values = self.values(arm, measure)
        return estimate(list(values.values())) if values else None

    def difference(self, higher: str, lower: str, measure: str = MAIN_MEASURE) -> Estimate | None:
        """Mean of `higher` minus `lower`, over the seeds that both have; None where there is none."""
        return difference(self.values(higher, measure), self.values(lower, measure))

    def ran(self, arms: Sequence[str]) -> list[str]:
        """Those of the arms that have results."""
        return [arm for arm in arms if arm in self.by_arm]

    def beside_full(self, arms: Sequence[str]) -> list[str]:
        """Those of the arms that have results, behind the full method; none if none has."""
        ran = self.ran(arms)
        return [*self.ran([FULL]), *ran] if ran else []

    def measured(self, arms: Sequence[str]) -> list[str]:
        """Names of the measures that any of the arms has values of."""
        return [measure for measure in MEASURES if any(self.values(arm, measure) for arm in arms)]

    @property
    def chance(self) -> float:
        """Of the motion probe."""
        return float(next(iter(self.by_arm.values()))[0]["probe"]["chance"])


def public_result(run: dict[str, Any]) -> dict[str, Any]:
    """A run's result without where things lay on the machine that ran it."""
    config = run["config"]
    places = {
        "data": {"videos": Path(config["data"].get("videos", "")).name},
        "run": {"output": Path(config["run"]["output"]).name},
    }
    return {name: value for name, value in run.items() if name != "measurements"} | {"config": merge(config, places)}
