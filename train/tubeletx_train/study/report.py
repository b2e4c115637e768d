"""The report of the study: tables, verdicts, pictures, and the results of every run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tubeletx_train.common.output import writable_folder
from tubeletx_train.data import read_manifest
from tubeletx_train.evaluation.motions import MOTION_NAMES, MOTION_PAIRS
from tubeletx_train.study.arms import FULL, REFERENCES, SUPERVISED, UNTRAINED, all_arms, description, own_arms
from tubeletx_train.study.claims import OWN_CLAIMS, PAPER_CLAIMS, claims_table
from tubeletx_train.study.config import StudyConfig
from tubeletx_train.study.intervals import estimate
from tubeletx_train.study.markdown import table
from tubeletx_train.study.measure import PAIRS
from tubeletx_train.study.pictures import ATTENTION_SIZE, draw_attention, draw_pictures
from tubeletx_train.study.results import Results, public_result
from tubeletx_train.study.runs import accuracy
from tubeletx_train.study.videos import HELD_OUT, TRAIN


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
    pictures = draw_pictures(folder, results)
    videos, split = (config.attention_videos, None) if config.attention_videos else (str(manifest), HELD_OUT)
    if strip := draw_attention(folder, results, videos, split):
        pictures["attention"] = strip
    sections = [
        _introduction(config, results, manifest),
        _picture(pictures, "arms", "Linear motion probe of each arm"),
        *(f"## {title}\n\n{_table(results, arms)}" for title, arms in _tables(results).items()),
        f"## What the paper says, and what came out\n\n{_CLAIMS}\n\n{claims_table(results, PAPER_CLAIMS)}",
        _picture(pictures, "videos", "Motion probe over the share of the videos, as in Figure 5"),
        _picture(pictures, "along", "Motion probe along training"),
        _own_claims(results),
        _picture(pictures, "arms_own", "Linear motion probe of arms of our own"),
        _picture(pictures, "along_own", "Motion probe along training, arms of our own"),
        _pairs(results),
        _picture(pictures, "confusion", "Confusion matrix of the full method"),
        _attention_section(pictures),
        _search(config, results),
        _left_out(config, results),
    ]
    path = folder / "README.md"
    path.write_text("\n\n".join(section for section in sections if section) + "\n", encoding="utf-8")
    lines = ",\n".join(json.dumps(public_result(run), sort_keys=True) for run in results.runs)
    (folder / "results.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    return path


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

_CLAIMS = """Differences are taken seed by seed, as runs of one seed share first weights and the order of videos; bold
where the 95 % interval leaves out zero, as it does by chance for one of twenty ties."""


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
        f"{config.search_seed}, which is not reported; arms of our own take the full method's."
    )


def _tables(results: Results) -> dict[str, list[str]]:
    own = own_arms()
    paper = [arm for arm in all_arms() if arm not in own]
    tables = {"Arms of the paper": results.ran(paper)}
    if beside := results.beside_full(own):
        tables["Arms of our own"] = beside
    return tables


def _table(results: Results, arms: Sequence[str]) -> str:
    measures = results.measured(arms)
    rows = []
    for arm in arms:
        runs = results.by_arm[arm]
        lr = "-" if arm == UNTRAINED else f"{runs[0]['lr']:g}"
        cells = [str(results.estimate(arm, measure) or "-") for measure in measures]
        rows.append([f"`{arm}`", description(arm), lr, str(len(runs)), *cells])
    return table(["arm", "what it is", "lr", "seeds", *measures], rows)


def _own_claims(results: Results) -> str:
    if not any(results.difference(claim.higher, claim.lower) for claim in OWN_CLAIMS):
        return ""
    return f"## Questions of our own\n\n{claims_table(results, OWN_CLAIMS)}"


def _pairs(results: Results) -> str:
    arms = results.ran((UNTRAINED, "temporal", "static", "linear", "nonlinear", FULL))
    rows = []
    for pair in MOTION_PAIRS:
        name = " / ".join(pair)
        cells = [str(estimate([float(run["probe"]["pairs"][name]) for run in results.by_arm[arm]])) for arm in arms]
        rows.append([name, *cells])
    return f"""## Motions that differ by one thing

The linear probe's choice between the two, percent right; 50 is chance.

{table(["pair", *(f"`{arm}`" for arm in arms)], rows)}"""


def _search(config: StudyConfig, results: Results) -> str:
    found: dict[str, dict[float, str]] = {}
    for run in results.runs:
        if run["search"]:
            cell = f"{100 * accuracy(run):.1f}" if "probe" in run else "diverged"
            found.setdefault(run["arm"], {})[float(run["lr_factor"])] = cell
    if not found:
        return ""
    factors = sorted({factor for cells in found.values() for factor in cells})
    rows = [[f"`{arm}`", *(found[arm].get(factor, "-") for factor in factors)] for arm in all_arms() if arm in found]
    return f"""## The search for learning rates

Linear probe on seed {config.search_seed}, percent, at multiples of the recipe's learning rate.

{table(["arm", *(f"x {factor:g}" for factor in factors)], rows)}"""


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


def _attention_section(pictures: dict[str, Path]) -> str:
    if "attention" not in pictures:
        return ""
    return f"""## Where the networks look

Class-agnostic activation maps without fine-tuning, as in Figure 6, seen at {ATTENTION_SIZE} pixels for maps of more
than a few cells.

{_picture(pictures, "attention", "Activation maps: tubelet contrast, temporal contrast, untrained")}"""
