"""The pictures of the study's report."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from studies.arms import FULL, UNTRAINED, groups
from studies.charts import Bar, curves_picture, interval_bars
from studies.queues import age_gaps
from studies.results import MAIN_MEASURE, Estimate, Results
from studies.videos import SHARES
from tubeletx_train.evaluation.motions import MOTION_NAMES
from tubeletx_train.figures.confusion import confusion_picture

_PANELS = {
    "Tubelets or time (Tables 2, 3)": (UNTRAINED, "temporal", "static", "linear", "nonlinear", FULL),
    "Transformation (Table 4)": ("nonlinear", "scale", "shear", FULL),
    "Tubelets in a clip (Table 5)": ("one_tubelet", FULL, "three_tubelets"),
    "Temperature": ("temperature_07", FULL, "temperature_20"),
}
_LABELLED_PANELS = {
    "Tubelets or time": (UNTRAINED, "temporal", "static", "linear", "nonlinear", FULL),
    "Motion as the only clue": (FULL, *groups()["shared"]),
    "On the plateau": groups()["long"],
    "With the paper's loss": groups()["paper_loss"],
}
_ALONG = ("temporal", "static", "linear", "nonlinear", FULL, "one_tubelet", "three_tubelets")
_STAGES = (UNTRAINED, "temporal", "static", "nonlinear", FULL, "shared_8", "shared_64")

Curve = list[tuple[float, float, float]]


def draw_pictures(folder: Path, results: Results) -> dict[str, Path]:
    """Draw what there are results for.

    Args:
        folder: Where to.
        results: Of all arms.

    Returns:
        Files by name: "arms", "videos", "along", "stages", "confusion", for each labelled set "labelled_SET", for each
        group of arms beside the paper's "arms_GROUP" and "along_GROUP", and of arms with a queue "age_gap".
    """
    pictures = {}
    levels = {"chance": results.chance}
    if untrained := results.estimate(UNTRAINED):
        levels["untrained"] = untrained.mean
    panels: dict[str, Mapping[str, Sequence[str]]] = {"arms": _PANELS}
    along: dict[str, Sequence[str]] = {"along": _ALONG}
    for group, members in groups().items():
        if group != "paper" and (arms := results.beside_full(members)):
            panels[f"arms_{group}"] = {f'Arms of the group "{group}", beside the full method': arms}
            along[f"along_{group}"] = arms
    for name, arms_of in panels.items():
        if bars := _bars(results, arms_of, MAIN_MEASURE):
            pictures[name] = interval_bars(
                folder / f"{name}.png", bars, levels, title="Motion probe, held-out videos", ylabel="linear accuracy"
            )
    for name, chance in results.labelled_sets.items():
        if bars := _bars(results, _LABELLED_PANELS, f"{name}, linear"):
            file = f"labelled_{name.replace(' ', '_')}"
            title = f"Labelled set {name}, frozen features"
            pictures[file] = interval_bars(
                folder / f"{file}.png", bars, {"chance": chance}, title=title, ylabel="linear accuracy"
            )
    curves = {
        "videos": (_share_curves(results), "Fewer videos to train on, equal steps", "% of the training videos"),
        "stages": (_stage_curves(results), "Motion probe after each stage of the encoder", "stage (0 is the stem)"),
    }
    curves |= {
        name: (_along_curves(results, arms), "Motion probe along training", "step") for name, arms in along.items()
    }
    for name, (found, title, xlabel) in curves.items():
        if found:
            pictures[name] = curves_picture(
                folder / f"{name}.png",
                found,
                title=title,
                xlabel=xlabel,
                ylabel="linear motion probe",
                chance=results.chance,
            )
    if gaps := age_gaps(results):
        pictures["age_gap"] = curves_picture(
            folder / "age_gap.png",
            gaps,
            title="What age tells of the keys of a queue",
            xlabel="step",
            ylabel="age gap, in units of the loss",
        )
    if full := results.by_arm.get(FULL):
        whose = f"full method, seed {full[0]['seed']}: {full[0]['probe']['linear']:.0%} right"
        pictures["confusion"] = confusion_picture(
            folder / "confusion.png", {whose: full[0]["probe"]["confusion"]}, MOTION_NAMES
        )
    return pictures


def _bars(results: Results, panels: Mapping[str, Sequence[str]], measure: str) -> dict[str, list[Bar]]:
    ran = {
        title: [arm for arm in results.ran(arms) if len(results.values(arm, measure))] for title, arms in panels.items()
    }
    # A panel with one arm compares nothing.
    return {title: [_bar(results, arm, measure) for arm in arms] for title, arms in ran.items() if len(arms) > 1}


def _bar(results: Results, arm: str, measure: str) -> Bar:
    values = results.values(arm, measure).tolist()
    found = Estimate.of(values)
    return Bar(arm, found.mean, found.half_width, values)


def _share_curves(results: Results) -> dict[str, Curve]:
    curves = {}
    methods = (("tubelet contrast (full)", FULL), ("temporal contrast", "temporal"))
    lengths = (("", ""), (", four times the steps", "_long"))
    for (length, form), (name, arm) in itertools.product(lengths, methods):
        points = []
        for share, member in (*((share, f"{arm}_{share}") for share in SHARES), (100, arm)):
            if found := results.estimate(member + form):
                points.append((float(share), found.mean, found.half_width))
        if len(points) > 1:
            curves[name + length] = points
    return curves


def _along_curves(results: Results, arms: Sequence[str]) -> dict[str, Curve]:
    """Means over the seeds that all of the arms have: seeds differ in when they begin to learn."""
    ran = [arm for arm in results.ran(arms) if any(run["along"] for run in results.by_arm[arm])]
    shared = set.intersection(*(set(results.values(arm).index) for arm in ran)) if ran else set()
    if not shared:
        return {}
    curves = {}
    for arm in ran:
        by_step: dict[int, list[float]] = {}
        for run in results.by_arm[arm]:
            for point in run["along"] if run["seed"] in shared else ():
                by_step.setdefault(int(point["step"]), []).append(float(point["linear"]))
        curves[arm] = [(float(step), Estimate.of(values).mean, math.nan) for step, values in sorted(by_step.items())]
    return curves


def _stage_curves(results: Results) -> dict[str, Curve]:
    curves: dict[str, Curve] = {}
    for arm in results.ran(_STAGES):
        stages = [
            [stage["linear"] for stage in run["stages"].values()] for run in results.by_arm[arm] if "stages" in run
        ]
        found = [Estimate.of(values) for values in zip(*stages, strict=True)]
        if found:
            curves[arm] = [(float(place), stage.mean, stage.half_width) for place, stage in enumerate(found)]
    return curves
