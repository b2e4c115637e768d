"""The report of the study: tables, verdicts, pictures, and the results of every run."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tubeletx_train.config.tree import merge
from tubeletx_train.data import read_manifest
from tubeletx_train.downstream.attention import AttentionConfig, attention
from tubeletx_train.engine.checkpoint import CheckpointFolder
from tubeletx_train.engine.output import writable_folder
from tubeletx_train.figures.confusion import confusion_picture
from tubeletx_train.figures.study import Bar, interval_bars, interval_curves
from tubeletx_train.pretrain.motions import MOTION_NAMES, MOTION_PAIRS
from tubeletx_train.study.arms import FULL, REFERENCES, SUPERVISED, UNTRAINED, all_arms, description, own_arms
from tubeletx_train.study.config import StudyConfig
from tubeletx_train.study.intervals import Estimate, difference, estimate
from tubeletx_train.study.measure import PAIRS
from tubeletx_train.study.videos import HELD_OUT, SHARES, TRAIN

Values = Callable[[dict[str, Any]], float]

_MEASURES: dict[str, Values] = {
    "linear probe": lambda result: float(result["probe"]["linear"]),
    "10-NN probe": lambda result: float(result["probe"]["knn"]),
    "retrieval R@1": lambda result: float(result["retrieval"]["r@1"]),
    "labelled videos": lambda result: float(result["labelled"]["linear"]),
}
_MAIN = "linear probe"

# Side that the networks see frames at in the activation maps, pixels; a map has a cell for each 16.
_ATTENTION_SIZE = 112

_PANELS = {
    "Tubelets or time (Tables 2, 3)": (UNTRAINED, "temporal", "static", "linear", "nonlinear", FULL),
    "Transformation (Table 4)": ("nonlinear", "scale", "shear", FULL),
    "Tubelets in a clip (Table 5)": ("one_tubelet", FULL, "three_tubelets"),
    "Temperature": ("temperature_07", FULL, "temperature_20"),
}


@dataclass(frozen=True)
class Claim:
    """Something to settle: whether `higher` does better than `lower`."""

    text: str
    higher: str
    lower: str


_CLAIMS = (
    Claim("Tubelet contrast learns motion, temporal contrast does not (Table 2)", FULL, "temporal"),
    Claim("Static tubelets do worse than temporal contrast (Table 3)", "temporal", "static"),
    Claim("Linear motion does better than none (Table 3)", "linear", "static"),
    Claim("Non-linear motion does better than linear (Table 3)", "nonlinear", "linear"),
    Claim("Scaling helps (Table 4)", "scale", "nonlinear"),
    Claim("Shearing helps (Table 4)", "shear", "nonlinear"),
    Claim("Rotation helps (Table 4)", FULL, "nonlinear"),
    Claim("Two tubelets do better than one (Table 5)", FULL, "one_tubelet"),
    Claim("Two tubelets do better than three (Table 5)", FULL, "three_tubelets"),
    Claim("All videos serve tubelet contrast better than a quarter; the paper: hardly (Figure 5)", FULL, "rotation_25"),
    Claim("All videos serve temporal contrast better than a quarter (Figure 5)", "temporal", "temporal_25"),
)


class Results:
    """Results of the reported runs, by arm."""

    def __init__(self, runs: Sequence[dict[str, Any]]) -> None:
        """Args: `runs` may hold runs of the search and diverged ones; both are listed, not averaged."""
        self.runs = list(runs)
        self.by_arm: dict[str, list[dict[str, Any]]] = {}
        for run in sorted(runs, key=lambda run: int(run["seed"])):
            if not run["search"] and "probe" in run:
                self.by_arm.setdefault(run["arm"], []).append(run)

    def values(self, arm: str, measure: str = _MAIN) -> list[float]:
        """One value for each seed; none where the arm was not run or not measured by that."""
        found = []
        for run in self.by_arm.get(arm, []):
            try:
                found.append(_MEASURES[measure](run))
            except KeyError:
                continue
        return found

    def estimate(self, arm: str, measure: str = _MAIN) -> Estimate | None:
        """Mean over seeds with its interval."""
        values = self.values(arm, measure)
        return estimate(values) if values else None

    def ran(self, arms: Sequence[str]) -> list[str]:
        """Those of the arms that have results."""
        return [arm for arm in arms if arm in self.by_arm]

    @property
    def chance(self) -> float:
        """Of the motion probe."""
        return float(next(iter(self.by_arm.values()))[0]["probe"]["chance"])


def write_report(folder: Path, config: StudyConfig, runs: Sequence[dict[str, Any]], manifest: Path) -> Path:
    """Write README.md, its pictures, and results.json.

    Args:
        folder: Where to.
        config: Of the study.
        runs: Results of all complete runs, searches too; one at least is of a reported seed.
        manifest: The study's list of videos.

    Returns:
        The README's path.
    """
    folder = writable_folder(folder)
    results = Results(runs)
    pictures = _pictures(folder, results) | _attention(folder, results, manifest)
    sections = [
        _introduction(config, results, manifest),
        _picture(pictures, "arms", "Linear motion probe of each arm"),
        *(f"## {title}\n\n{_table(results, arms)}" for title, arms in _tables(results).items()),
        _claims(results),
        _picture(pictures, "videos", "Motion probe over the share of the videos, as in Figure 5"),
        _picture(pictures, "along", "Motion probe along training"),
        _pairs(results),
        _picture(pictures, "confusion", "Confusion matrix of the full method"),
        _attention_section(pictures),
        _left_out(config, results),
    ]
    path = folder / "README.md"
    path.write_text("\n\n".join(section for section in sections if section) + "\n", encoding="utf-8")
    lines = ",\n".join(json.dumps(_public(run), sort_keys=True) for run in results.runs)
    (folder / "results.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    return path


def _public(run: dict[str, Any]) -> dict[str, Any]:
    """A run's result without where things lay on the machine that ran it."""
    config = run["config"]
    places = {
        "data": {"videos": Path(config["data"].get("videos", "")).name},
        "run": {"output": Path(config["run"]["output"]).name},
    }
    return {name: value for name, value in run.items() if name != "measurements"} | {"config": merge(config, places)}


_INTRODUCTION = """# What each part of the method brings, at a small size

Written by `tubeletx-train study` (code {commits}). Every arm is pretrained for {steps} steps of {batch} pairs with
{encoder}, width {width}, on clips of {frames} x {size} x {size} of {train} videos; {held_out} others are held out. All
arms share steps, data, augmentation and network (recipe `study/base`); each arm's recipe names what differs. {search}

- **Motion probe**: a classifier on frozen features tells in which of {motions} ways one patch moves over a still frame;
  fitted on training videos, judged on held-out ones (chance {chance:.1%}).{ceiling}
- **Retrieval**: among {pool} held-out clips, find the one with the same tubelets, drawn as the full method draws them
  (chance {pool_chance:.1%}).
- **Labelled videos**: a linear classifier on frozen features tells the classes of real clips, each group left out once.

Figures are percent, mean ± half of the 95 % interval over seeds (Student's t). The probe pastes patches as pretraining
does, which favours tubelet arms: read it beside the labelled videos."""


def _introduction(config: StudyConfig, results: Results, manifest: Path) -> str:
    records = read_manifest(manifest)
    reported = [run for runs in results.by_arm.values() for run in runs]
    pretrained = [run for run in reported if run["arm"] not in REFERENCES] or reported
    settings = pretrained[0]["config"]
    return _INTRODUCTION.format(
        commits=", ".join(sorted({str(run["commit"])[:12] for run in results.runs})),
        steps=settings["optim"]["steps"],
        batch=settings["optim"]["batch_size"],
        encoder=settings["model"]["encoder"],
        width=settings["model"]["width"],
        frames=settings["data"]["num_frames"],
        size=settings["data"]["crop_size"],
        train=sum(record.split == TRAIN for record in records),
        held_out=sum(record.split == HELD_OUT for record in records),
        search=_search_text(config),
        motions=len(MOTION_NAMES),
        chance=results.chance,
        ceiling=_ceiling_text(results),
        pool=PAIRS,
        pool_chance=1 / PAIRS,
    )


def _ceiling_text(results: Results) -> str:
    runs = results.by_arm.get(SUPERVISED, [])
    if not runs:
        return ""
    accuracy = estimate([float(run["ceiling"]) for run in runs])
    steps = runs[0]["config"]["optim"]["steps"]
    return f" Trained with these labels for {steps} steps the same network is right in {accuracy} %: the ceiling."


def _search_text(config: StudyConfig) -> str:
    if config.quick or len(config.learning_rates) < 2:
        return "Learning rates are the recipes' own."
    factors = ", ".join(f"{factor:g}" for factor in config.learning_rates)
    return (
        f"Learning rate of each arm: the recipe's times {factors}, whichever has the best linear probe on seed "
        f"{config.search_seed}, which is not reported."
    )


def _tables(results: Results) -> dict[str, list[str]]:
    own = own_arms()
    paper = [arm for arm in all_arms() if arm not in own]
    tables = {"Arms of the paper": results.ran(paper)}
    if ran := results.ran(own):
        tables["Arms of our own"] = [*results.ran([FULL]), *ran]
    return tables


def _table(results: Results, arms: Sequence[str]) -> str:
    measures = [measure for measure in _MEASURES if any(results.values(arm, measure) for arm in arms)]
    lines = [
        f"| arm | what it is | lr | seeds | {' | '.join(measures)} |",
        f"|---|---|---|---|{'---|' * len(measures)}",
    ]
    for arm in arms:
        runs = results.by_arm[arm]
        lr = "-" if arm == UNTRAINED else f"{runs[0]['lr']:g}"
        cells = [str(results.estimate(arm, measure) or "-") for measure in measures]
        lines.append(f"| `{arm}` | {description(arm)} | {lr} | {len(runs)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _claims(results: Results) -> str:
    lines = ["## What the paper says, and what came out", "", "| claim | difference, linear probe | verdict |"]
    lines.append("|---|---|---|")
    for claim in _CLAIMS:
        first, second = results.values(claim.higher), results.values(claim.lower)
        if not first or not second:
            lines.append(f"| {claim.text} | not run | - |")
            continue
        gap = estimate(first).mean - estimate(second).mean
        interval = difference(first, second)
        if interval is None:
            lines.append(f"| {claim.text} | {100 * gap:+.1f} (one seed) | one seed decides nothing |")
            continue
        low, high = interval
        verdict = "holds" if low > 0 else "the opposite" if high < 0 else "not told apart"
        lines.append(f"| {claim.text} | {100 * gap:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}] | {verdict} |")
    return "\n".join(lines)


def _pairs(results: Results) -> str:
    arms = results.ran((UNTRAINED, "temporal", "static", "linear", "nonlinear", FULL))
    lines = [
        "## Motions that differ by one thing",
        "",
        "The linear probe's choice between the two, percent right; 50 is chance.",
        "",
        f"| pair | {' | '.join(f'`{arm}`' for arm in arms)} |",
        f"|---|{'---|' * len(arms)}",
    ]
    for pair in MOTION_PAIRS:
        name = " / ".join(pair)
        cells = [str(estimate([float(run["probe"]["pairs"][name]) for run in results.by_arm[arm]])) for arm in arms]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _left_out(config: StudyConfig, results: Results) -> str:
    parts = []
    missing = [arm for arm in all_arms() if arm not in results.by_arm]
    if missing:
        command = f"tubeletx-train study --videos VIDEOS --output OUTPUT --arms [{','.join(missing)}]"
        command += f" --seeds [{','.join(map(str, config.seeds))}]" + (
            "" if config.size == "small" else " --size paper"
        )
        parts.append(f"Not run: {', '.join(f'`{arm}`' for arm in missing)}. To run them:\n\n```\n{command}\n```")
    diverged = [run for run in results.runs if "diverged" in run]
    if diverged:
        names = ", ".join(f"`{run['arm']}` (lr {run['lr']:g}, seed {run['seed']})" for run in diverged)
        parts.append(f"Diverged: {names}.")
    parts.append(f"`results.json` holds all {len(results.runs)} runs with their settings, those of the search too.")
    return "## What is not here\n\n" + "\n\n".join(parts)


def _picture(pictures: dict[str, Path], name: str, caption: str) -> str:
    return f"![{caption}]({pictures[name].name})" if name in pictures else ""


def _bar(results: Results, arm: str) -> Bar:
    values = results.values(arm)
    found = estimate(values)
    return Bar(arm.removeprefix("own/"), found.mean, found.half_width, values)


def _pictures(folder: Path, results: Results) -> dict[str, Path]:
    pictures = {}
    panels = {title: results.ran(arms) for title, arms in _PANELS.items()}
    if own := results.ran(own_arms()):
        panels["Our own"] = [*results.ran([FULL]), *own]
    # A panel with one arm compares nothing.
    bars = {title: [_bar(results, arm) for arm in arms] for title, arms in panels.items() if len(arms) > 1}
    lines = {"chance": results.chance}
    if untrained := results.estimate(UNTRAINED):
        lines["untrained"] = untrained.mean
    if bars:
        pictures["arms"] = interval_bars(
            folder / "arms.png", bars, lines, title="Motion probe, held-out videos", ylabel="linear accuracy"
        )
    if curves := _share_curves(results):
        pictures["videos"] = interval_curves(
            folder / "videos.png",
            curves,
            title="Fewer videos to train on, equal steps",
            xlabel="% of the training videos",
            ylabel="linear motion probe",
            chance=results.chance,
        )
    if curves := _along_curves(results):
        pictures["along"] = interval_curves(
            folder / "along.png",
            curves,
            title="Motion probe along training, mean over seeds",
            xlabel="step",
            ylabel="linear motion probe",
            chance=results.chance,
        )
    if full := results.by_arm.get(FULL):
        title = f"Full method, seed {full[0]['seed']}: {full[0]['probe']['linear']:.0%} right"
        pictures["confusion"] = confusion_picture(
            folder / "confusion.png", full[0]["probe"]["confusion"], MOTION_NAMES, title=title
        )
    return pictures


def _attention(folder: Path, results: Results, manifest: Path) -> dict[str, Path]:
    """Where the networks of the first seed look in held-out videos, if their checkpoints are still there."""
    checkpoints = {name: _checkpoint(results, arm) for name, arm in (("tubelet", FULL), ("temporal", "temporal"))}
    found = {name: path for name, path in checkpoints.items() if path is not None}
    if len(found) < len(checkpoints):
        return {}
    settings = AttentionConfig(
        checkpoints=tuple(map(str, found.values())),
        names=tuple(found),
        videos=str(manifest),
        split=HELD_OUT,
        output=str(folder),
        max_videos=3,
        num_frames=8,
        input_size=_ATTENTION_SIZE,
        picture_size=_ATTENTION_SIZE,
    )
    (strip, _), _ = attention(settings)
    return {"attention": strip}


def _checkpoint(results: Results, arm: str) -> Path | None:
    for run in results.by_arm.get(arm, []):
        paths = CheckpointFolder(Path(run["config"]["run"]["output"]) / "checkpoints").paths()
        if paths:
            return paths[0]
    return None


def _attention_section(pictures: dict[str, Path]) -> str:
    if "attention" not in pictures:
        return ""
    return f"""## Where the networks look

Class-agnostic activation maps of held-out videos without fine-tuning, as in Figure 6, seen at {_ATTENTION_SIZE} pixels
for maps of more than a few cells.

{_picture(pictures, "attention", "Activation maps: tubelet contrast, temporal contrast, untrained")}"""


def _share_curves(results: Results) -> dict[str, list[tuple[float, float, float]]]:
    curves = {}
    for name, arm in (("tubelet contrast (full)", FULL), ("temporal contrast", "temporal")):
        points = []
        for share, member in (*((share, f"{arm}_{share}") for share in SHARES), (100, arm)):
            if found := results.estimate(member):
                points.append((float(share), found.mean, _or_nan(found)))
        if len(points) > 1:
            curves[name] = points
    return curves


def _along_curves(results: Results) -> dict[str, list[tuple[float, float, float]]]:
    curves = {}
    for arm in results.ran(("temporal", "static", "linear", "nonlinear", FULL, "one_tubelet", "three_tubelets")):
        by_step: dict[int, list[float]] = {}
        for run in results.by_arm[arm]:
            for point in run["along"]:
                by_step.setdefault(int(point["step"]), []).append(float(point["linear"]))
        curves[arm] = [(float(step), estimate(values).mean, math.nan) for step, values in sorted(by_step.items())]
    return curves


def _or_nan(found: Estimate) -> float:
    return math.nan if found.half_width is None else found.half_width
