"""What the runs of a study came to, as tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from scipy import stats

from studies.arms import FULL
from tubeletx_train.config.tree import merge

MAIN_MEASURE = "linear probe"
_CONFIDENCE = 0.95
_LEAST_VALUES = 3


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval.

    Attributes:
        mean: The mean.
        half_width: Half of the interval, by Student's t; NaN of one or two values, of which two are equal too easily.
        count: Values.
    """

    mean: float
    half_width: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Estimate:
        """Of at least one value."""
        series = pd.Series(values, dtype=float)
        if len(series) < _LEAST_VALUES:
            return cls(float(series.mean()), math.nan, len(series))
        quantile = float(stats.t.ppf((1 + _CONFIDENCE) / 2, len(series) - 1))
        return cls(float(series.mean()), quantile * float(series.sem()), len(series))

    @property
    def leaves_out_zero(self) -> bool:
        """Whether there is an interval and zero is not in it."""
        return abs(self.mean) > self.half_width

    def __str__(self) -> str:
        spread = "" if math.isnan(self.half_width) else f" ± {100 * self.half_width:.1f}"
        return f"{100 * self.mean:.1f}{spread}"


def _measures(run: dict[str, Any]) -> dict[str, float]:
    """What a run is compared by, by the name of the measure."""
    found = {MAIN_MEASURE: run["probe"]["linear"], "10-NN probe": run["probe"]["knn"]}
    if "stages" in run:
        found["best stage"] = max(stage["linear"] for stage in run["stages"].values())
    if "retrieval" in run:
        found["retrieval R@1"] = run["retrieval"]["r@1"]
    for name, last in _last_stages(run).items():
        found |= {f"{name}, linear": last["linear"], f"{name}, k-NN": last["knn"]}
    return found | {setting: tuned["top1"] for setting, tuned in run.get("finetuned", {}).items()}


def _last_stages(run: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What the encoder's own features came to, by labelled set."""
    return {name: list(stages.values())[-1] for name, stages in run.get("labelled", {}).items()}


class Results:
    """Results of all runs.

    Attributes:
        runs: All that were given, diverged ones too.
        by_arm: Those that were measured, in the order of their seeds.
        table: A row for each of these, with its arm, seed, and a column for each measure.
    """

    def __init__(self, runs: Sequence[dict[str, Any]]) -> None:
        self.runs = sorted(runs, key=lambda run: (run["arm"], int(run["seed"])))
        self.by_arm: dict[str, list[dict[str, Any]]] = {}
        for run in self.runs:
            if "probe" in run:
                self.by_arm.setdefault(run["arm"], []).append(run)
        rows = [{"arm": run["arm"], "seed": int(run["seed"])} | _measures(run) for run in self.runs if "probe" in run]
        self.table = pd.DataFrame(rows, columns=None if rows else ["arm", "seed", MAIN_MEASURE])

    @property
    def measures(self) -> list[str]:
        """Names of what any run was measured by."""
        return [name for name in self.table.columns if name not in ("arm", "seed")]

    @property
    def labelled_sets(self) -> dict[str, float]:
        """Chance in each labelled set, by name."""
        found: dict[str, float] = {}
        for run in self.runs:
            for name, last in _last_stages(run).items():
                found.setdefault(name, last["chance"])
        return found

    def told_apart(self, kind: str) -> dict[str, list[str]]:
        """What is told apart in rendered sets, by the name of the set.

        Args:
            kind: "axes", all classes that differ by one thing, or "opposites", single pairs of them.
        """
        found: dict[str, list[str]] = {}
        for run in self.runs:
            for name, last in _last_stages(run).items():
                if kind in last:
                    found.setdefault(name, list(last[kind]))
        return found

    def by_frames(self) -> dict[int, Results]:
        """What runs came to afterwards on clips of other lengths, by the number of frames, the shortest first."""
        found: dict[int, list[dict[str, Any]]] = {}
        for run in self.runs:
            for frames, measured in run.get("by_frames", {}).items():
                whose = {name: run[name] for name in ("arm", "seed", "config")}
                found.setdefault(int(frames), []).append(whose | measured)
        return {frames: Results(found[frames]) for frames in sorted(found)}

    def told(self, arm: str, name: str, kind: str, what: str) -> list[float]:
        """Accuracies in one thing of `told_apart`, a value for each seed that has one."""
        stages = [_last_stages(run).get(name, {}) for run in self.by_arm.get(arm, ())]
        return [last[kind][what] for last in stages if what in last.get(kind, {})]

    def values(self, arm: str, measure: str = MAIN_MEASURE) -> pd.Series[float]:
        """A value for each seed; none where the arm was not run or not measured by that."""
        rows = self.table[self.table["arm"] == arm].set_index("seed")
        return rows[measure].dropna() if measure in rows else pd.Series(dtype=float)

    def estimate(self, arm: str, measure: str = MAIN_MEASURE) -> Estimate | None:
        """Mean over seeds with its interval; None without a value."""
        values = self.values(arm, measure)
        return Estimate.of(values.tolist()) if len(values) else None

    def difference(self, higher: str, lower: str, measure: str = MAIN_MEASURE) -> Estimate | None:
        """Mean of `higher` minus `lower`, over the seeds that both have; None where there is none.

        Taken seed by seed: runs of one seed share first weights and the order of videos, and what that brings cancels.
        """
        differences = (self.values(higher, measure) - self.values(lower, measure)).dropna()
        return Estimate.of(differences.tolist()) if len(differences) else None

    def ran(self, arms: Sequence[str]) -> list[str]:
        """Those of the arms that have results."""
        return [arm for arm in arms if arm in self.by_arm]

    def beside_full(self, arms: Sequence[str]) -> list[str]:
        """Those of the arms that have results, behind the full method; none if none has."""
        ran = self.ran([arm for arm in arms if arm != FULL])
        return [*self.ran([FULL]), *ran] if ran else []

    @property
    def chance(self) -> float:
        """Of the motion probe."""
        return float(next(iter(self.by_arm.values()))[0]["probe"]["chance"])


def markdown(rows: Sequence[Sequence[str]], header: Sequence[str]) -> str:
    """A table in Markdown."""
    frame = pd.DataFrame(rows, columns=list(header))
    text: str = frame.to_markdown(index=False, tablefmt="pipe", disable_numparse=True)
    return text


def public_result(run: dict[str, Any]) -> dict[str, Any]:
    """A run's result without where things lay on the machine that ran it."""
    config = run["config"]
    places = {
        "data": {"videos": Path(config["data"].get("videos", "")).name},
        "run": {"output": Path(config["run"]["output"]).name},
    }
    return run | {"config": merge(config, places)}
