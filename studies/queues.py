"""What became of the queues of runs: how old keys were, whether age told of them, and how the run ended."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

from studies.results import Results, markdown


def _with_queue(results: Results) -> Iterator[tuple[str, dict[str, Any]]]:
    """Runs with a queue whose log has the gauge."""
    for arm, runs in results.by_arm.items():
        for run in runs:
            if run["config"].get("contrast", {}).get("queue_size", 0) and "age_gap" in (run.get("log") or [{}])[0]:
                yield arm, run


def _filled(run: dict[str, Any]) -> list[dict[str, float]]:
    """The log from the step on at which the queue holds keys alone."""
    steps = run["config"]["contrast"]["queue_size"] / run["config"]["optim"]["batch_size"]
    # A line is the mean since the one before.
    return [line for before, line in itertools.pairwise([{"step": 0}, *run["log"]]) if before["step"] >= 2 * steps]


def age_gaps(results: Results) -> dict[str, list[tuple[float, float, float]]]:
    """The gauge along the first run of each queue, once it is full: (step, gap, NaN) by arm and seed.

    Queues of one length, momentum and number of steps are one: what else sets arms apart hardly moves the gauge.
    """
    first: dict[tuple[int, float, int], tuple[str, dict[str, Any]]] = {}
    for arm, run in _with_queue(results):
        if _filled(run):
            contrast = run["config"]["contrast"]
            queue = (contrast["queue_size"], contrast["momentum"], run["config"]["optim"]["steps"])
            first.setdefault(queue, (arm, run))
    return {
        f"{arm}, seed {run['seed']}": [(line["step"], line["age_gap"], math.nan) for line in _filled(run)]
        for arm, run in first.values()
    }


def queue_table(results: Results) -> str:
    """A Markdown table of the runs with a queue; empty where there is none."""
    rows = []
    for arm, run in _with_queue(results):
        contrast, optim, lines = run["config"]["contrast"], run["config"]["optim"], _filled(run)
        if not lines:
            continue
        stay, memory = contrast["queue_size"] / optim["batch_size"], 1 / (1 - contrast["momentum"])
        last = lines[-1]
        chance = math.log(contrast["queue_size"] + 1)
        rows.append(
            [
                f"`{arm}`",
                str(run["seed"]),
                f"{optim['steps']}",
                f"{stay:g} / {memory:g} = {stay / memory:.2g}",
                f"{max(line['age_gap'] for line in lines):.2f}",
                f"{last['loss']:.2f} of {chance:.2f}",
                f"{last['top1']:.0%}, {last['batch_top1']:.0%}",
                f"{last['uniformity']:.2f}",
                f"{run['probe']['linear']:.1%}",
                f"{run['retrieval']['r@1']:.1%}",
            ]
        )
    header = [
        "arm",
        "seed",
        "steps",
        "steps a key stays / of the key network's memory",
        "largest age gap",
        "loss at the end, of log(K + 1)",
        "top-1, batch's top-1",
        "uniformity",
        "linear probe",
        "retrieval R@1",
    ]
    return markdown(rows, header) if rows else ""
