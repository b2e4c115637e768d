"""The pictures of the study's report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from tubeletx_train.common.checkpoint import CheckpointFolder
from tubeletx_train.evaluation.attention import AttentionConfig, look
from tubeletx_train.evaluation.motions import MOTION_NAMES
from tubeletx_train.figures.attention import attention_strip
from tubeletx_train.figures.confusion import confusion_picture
from tubeletx_train.figures.study import Bar, interval_bars, interval_curves
from tubeletx_train.study.arms import FULL, UNTRAINED, own_arms
from tubeletx_train.study.intervals import estimate
from tubeletx_train.study.results import Results
from tubeletx_train.study.videos import SHARES

# Side that the networks see frames at in the activation maps, pixels; a map has a cell for each 16.
ATTENTION_SIZE = 112

_PANELS = {
    "Tubelets or time (Tables 2, 3)": (UNTRAINED, "temporal", "static", "linear", "nonlinear", FULL),
    "Transformation (Table 4)": ("nonlinear", "scale", "shear", FULL),
    "Tubelets in a clip (Table 5)": ("one_tubelet", FULL, "three_tubelets"),
    "Temperature": ("temperature_07", FULL, "temperature_20"),
}
_ALONG = ("temporal", "static", "linear", "nonlinear", FULL, "one_tubelet", "three_tubelets")

Curve = list[tuple[float, float, float]]


def draw_pictures(folder: Path, results: Results) -> dict[str, Path]:
    """Draw what there are results for.

    Args:
        folder: Where to.
        results: Of all arms.

    Returns:
        Files by name: "arms", "arms_own", "videos", "along", "along_own", "confusion".
    """
    pictures = {}
    levels = {"chance": results.chance}
    if untrained := results.estimate(UNTRAINED):
        levels["untrained"] = untrained.mean
    own = results.beside_full(own_arms())
    panels: dict[str, Mapping[str, Sequence[str]]] = {
        "arms": _PANELS,
        "arms_own": {"Arms of our own, beside the full method": own},
    }
    for name, arms in panels.items():
        if bars := _bars(results, arms):
            pictures[name] = interval_bars(
                folder / f"{name}.png", bars, levels, title="Motion probe, held-out videos", ylabel="linear accuracy"
            )
    curves = {
        "videos": (_share_curves(results), "Fewer videos to train on, equal steps", "% of the training videos"),
        "along": (_along_curves(results, _ALONG), "Motion probe along training", "step"),
        "along_own": (_along_curves(results, own), "Motion probe along training, arms of our own", "step"),
    }
    for name, (found, title, xlabel) in curves.items():
        if found:
            pictures[name] = interval_curves(
                folder / f"{name}.png",
                found,
                title=title,
                xlabel=xlabel,
                ylabel="linear motion probe",
                chance=results.chance,
            )
    if full := results.by_arm.get(FULL):
        title = f"Full method, seed {full[0]['seed']}: {full[0]['probe']['linear']:.0%} right"
        pictures["confusion"] = confusion_picture(
            folder / "confusion.png", full[0]["probe"]["confusion"], MOTION_NAMES, title=title
        )
    return pictures


def draw_attention(folder: Path, results: Results, videos: str, split: str | None) -> Path | None:
    """Draw where the networks of the first seed look; None where their checkpoints are gone.

    Args:
        folder: Where to.
        results: Of all arms.
        videos: A folder of videos or a manifest.
        split: Keep only the manifest's rows of this split.
    """
    checkpoints = {name: _checkpoint(results, arm) for name, arm in (("tubelet", FULL), ("temporal", "temporal"))}
    found = {name: path for name, path in checkpoints.items() if path is not None}
    if len(found) < len(checkpoints):
        return None
    settings = AttentionConfig(
        checkpoints=tuple(map(str, found.values())),
        names=tuple(found),
        videos=videos,
        split=split,
        max_videos=3,
        num_frames=8,
        input_size=ATTENTION_SIZE,
        picture_size=ATTENTION_SIZE,
    )
    titles, clips, maps = look(settings)
    return attention_strip(folder / "attention.png", clips, maps, titles=titles)


def _checkpoint(results: Results, arm: str) -> Path | None:
    for run in results.by_arm.get(arm, []):
        paths = CheckpointFolder(Path(run["config"]["run"]["output"]) / "checkpoints").paths()
        if paths:
            return paths[0]
    return None


def _bars(results: Results, panels: Mapping[str, Sequence[str]]) -> dict[str, list[Bar]]:
    ran = {title: results.ran(arms) for title, arms in panels.items()}
    # A panel with one arm compares nothing.
    return {title: [_bar(results, arm) for arm in arms] for title, arms in ran.items() if len(arms) > 1}


def _bar(results: Results, arm: str) -> Bar:
    values = list(results.values(arm).values())
    found = estimate(values)
    return Bar(arm.removeprefix("own/"), found.mean, found.half_width, values)


def _share_curves(results: Results) -> dict[str, Curve]:
    curves = {}
    for name, arm in (("tubelet contrast (full)", FULL), ("temporal contrast", "temporal")):
        points = []
        for share, member in (*((share, f"{arm}_{share}") for share in SHARES), (100, arm)):
            if found := results.estimate(member):
                half_width = math.nan if found.half_width is None else found.half_width
                points.append((float(share), found.mean, half_width))
        if len(points) > 1:
            curves[name] = points
    return curves


def _along_curves(results: Results, arms: Sequence[str]) -> dict[str, Curve]:
    """Means over the seeds that all of the arms have: seeds differ in when they begin to learn."""
    ran = results.ran(arms)
    shared = set.intersection(*(set(results.values(arm)) for arm in ran)) if ran else set()
    if not shared:
        return {}
    curves = {}
    for arm in ran:
        by_step: dict[int, list[float]] = {}
        for run in results.by_arm[arm]:
            for point in run["along"] if run["seed"] in shared else ():
                by_step.setdefault(int(point["step"]), []).append(float(point["linear"]))
        curves[arm] = [(float(step), estimate(values).mean, math.nan) for step, values in sorted(by_step.items())]
    return curves
