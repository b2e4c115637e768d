"""The report of the study: tables, verdicts, pictures, and the results of every run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from studies.arms import FULL, REFERENCES, SUPERVISED, UNTRAINED, all_arms, description, groups
from studies.claims import OWN_CLAIMS, PAPER_CLAIMS, Claim, claims_table, longer
from studies.measure import PAIRS
from studies.pictures import draw_pictures
from studies.queues import queue_table
from studies.results import Estimate, Results, markdown, public_result
from studies.videos import HELD_OUT, TRAIN
from tubeletx_train.common.files import writable_folder
from tubeletx_train.data import read_manifest
from tubeletx_train.evaluation.motions import MOTION_NAMES, MOTION_PAIRS

_PAIR_ARMS = (UNTRAINED, "temporal", "static", "linear", "nonlinear", FULL, "shared_8", "shared_64", SUPERVISED)
_OPPOSITES_ARMS = (UNTRAINED, "temporal_long", "linear_long", "nonlinear_long", "rotation_long", "tracks_long")

_TOLD_APART = """## Actions that differ by one thing

The choice of the linear classifier, which is fitted on all classes, between two that differ in one thing alone, percent
right; 50 is chance. Which way, how often and which first are not to be told without the order of the frames. First the
mean over all such pairs, then those that differ by the way."""

_BY_FRAMES = """## Clips of other lengths

Frozen features of the networks as they were trained, of clips of other numbers of frames; classifiers fitted and judged
on clips of one length. A motion of the probe takes the whole of its clip, so that in one of twice the frames it is half
as fast. Labelled videos are read at strides with which their clips last equally long."""

_INTRODUCTION = """# What each part of the method brings, at a small size

Written by `python -m studies report` (runs: {origin}). Every arm is pretrained for {steps} steps of {batch} pairs with
{encoder}, width {width}, on clips of {frames} x {size} x {size} of {train} videos; {held_out} others are held out. All
arms share steps, data, augmentation and network (`studies/base.yaml`); `studies/arms.yaml` names what differs.{reuse}

- **Motion probe**: a classifier on frozen features tells in which of {motions} ways one patch moves over a still frame;
  fitted on training videos, judged on held-out ones (chance {chance:.1%}).{ceiling} "Best stage" is the best of the
  encoder's stages.
- **Retrieval**: among {pool} held-out clips, find the one with the same tubelets, drawn as the full method draws them
  (chance {pool_chance:.1%}).
- **Labelled sets**{labelled}: a linear classifier on frozen features, and the 10 nearest neighbours.

Figures are percent, mean ± half of the 95 % interval over seeds (Student's t). The probe pastes patches as pretraining
does, which favours tubelet arms: read it beside the labelled sets."""

_CLAIMS = """Differences are taken seed by seed, as runs of one seed share first weights and the order of videos; bold
where the 95 % interval leaves out zero, as it does by chance for one of twenty ties."""


_QUEUES = """The age gap is by how much the other rows' keys of a step score higher than the oldest of the queue, over
the temperature: both are negatives, and only age sets them apart. Runs that kept above 1.2 did not learn. One that has
collapsed ends at log(K + 1) with all clips in one point (uniformity 0)."""

_LABELLED_CAPTION = "A labelled set, linear classifier on frozen features"


def write_report(folder: Path, runs: Sequence[dict[str, Any]], manifest: Path) -> Path:
    """Write README.md, its pictures, and results.json.

    Args:
        folder: Where to.
        runs: Results of all complete runs, one at least measured.
        manifest: The study's list of videos.

    Returns:
        The README's path.
    """
    folder = writable_folder(folder)
    results = Results(runs)
    pictures = draw_pictures(folder, results)
    sections = [
        _introduction(results, manifest),
        _picture(pictures, "arms", "Linear motion probe of each arm"),
        f"## Arms of the paper\n\n{_table(results, results.ran(groups()['paper']))}",
        _claims("What the paper says, and what came out", results, PAPER_CLAIMS),
        *(_picture(pictures, name, _LABELLED_CAPTION) for name in pictures if name.startswith("labelled_")),
        _picture(pictures, "videos", "Motion probe over the share of the videos, as in Figure 5"),
        _picture(pictures, "along", "Motion probe along training"),
        _picture(pictures, "stages", "Motion probe after each stage of the encoder"),
        _claims("The same on the plateau", results, longer((*PAPER_CLAIMS, *OWN_CLAIMS), "long")),
        _claims("The same on the plateau, with the paper's loss", results, longer(PAPER_CLAIMS, "paper_loss")),
        _claims("Questions of our own", results, OWN_CLAIMS),
        *(_group(results, pictures, group) for group in groups() if group != "paper"),
        _queues(results, pictures),
        _pairs(results),
        _told_apart(results),
        _by_frames(results),
        _picture(pictures, "confusion", "Confusion matrix of the full method"),
        _left_out(results),
    ]
    path = folder / "README.md"
    path.write_text("\n\n".join(section for section in sections if section) + "\n", encoding="utf-8")
    # In the order of the runs' own files: of an encoder's stages the last counts.
    lines = ",\n".join(json.dumps(public_result(run)) for run in results.runs)
    (folder / "results.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    return path


def _introduction(results: Results, manifest: Path) -> str:
    records = read_manifest(manifest)
    measured = [run for runs in results.by_arm.values() for run in runs]
    pretrained = [run for run in measured if run["arm"] not in REFERENCES] or measured
    settings = pretrained[0]["config"]
    origins = {
        f"code {_short(str(run['commit']))}, {run['processor']}, {run.get('precision', 'float32')}"
        for run in pretrained
    }
    names = [f"{name}, chance {chance:.1%}" for name, chance in sorted(results.labelled_sets.items())]
    reuses = sorted({run.get("reuse", 1) for run in pretrained})
    return _INTRODUCTION.format(
        origin="; ".join(sorted(origins)),
        steps=" or ".join(str(steps) for steps in sorted({run["config"]["optim"]["steps"] for run in pretrained})),
        batch=settings["optim"]["batch_size"],
        encoder=settings["model"]["encoder"],
        width=settings["model"]["width"],
        frames=settings["data"]["num_frames"],
        size=settings["data"]["crop_size"],
        train=sum(record.split == TRAIN for record in records),
        held_out=sum(record.split == HELD_OUT for record in records),
        motions=len(MOTION_NAMES),
        chance=results.chance,
        ceiling=_ceiling_text(results),
        pool=PAIRS,
        pool_chance=1 / PAIRS,
        labelled=f" ({'; '.join(names)})" if names else "",
        reuse="" if reuses == [1] else f" Each clip is used {' or '.join(f'{reuse:g}' for reuse in reuses)} times.",
    )


def _short(commit: str) -> str:
    """A commit in twelve digits, with the mark of sources that were changed since."""
    return commit[:12] + "+" * commit.endswith("+")


def _ceiling_text(results: Results) -> str:
    runs = results.by_arm.get(SUPERVISED, [])
    if not runs:
        return ""
    accuracy = Estimate.of([float(run["ceiling"]) for run in runs])
    steps = runs[0]["config"]["optim"]["steps"]
    return f" Trained with these labels for {steps} steps the same network is right in {accuracy} %: the ceiling."


def _table(results: Results, arms: Sequence[str]) -> str:
    measures = [measure for measure in results.measures if any(len(results.values(arm, measure)) for arm in arms)]
    rows = []
    for arm in arms:
        runs = results.by_arm[arm]
        rates = sorted({run["config"]["optim"]["lr"] for run in runs})
        lr = "-" if arm == UNTRAINED else ", ".join(f"{rate:g}" for rate in rates)
        cells = [str(results.estimate(arm, measure) or "-") for measure in measures]
        rows.append([f"`{arm}`", description(arm), lr, str(len(runs)), *cells])
    return markdown(rows, ["arm", "what it is", "lr", "seeds", *measures])


def _claims(title: str, results: Results, claims: Sequence[Claim]) -> str:
    found = [claim for claim in claims if results.difference(claim.higher, claim.lower)]
    return f"## {title}\n\n{_CLAIMS}\n\n{claims_table(results, found)}" if found else ""


def _group(results: Results, pictures: dict[str, Path], group: str) -> str:
    arms = results.beside_full(groups()[group])
    if not arms:
        return ""
    parts = [f'## Arms of the group "{group}"', _table(results, arms)]
    parts.append(_picture(pictures, f"arms_{group}", f"Linear motion probe of the group {group}"))
    parts.append(_picture(pictures, f"along_{group}", f"Motion probe along training, group {group}"))
    return "\n\n".join(part for part in parts if part)


def _queues(results: Results, pictures: dict[str, Path]) -> str:
    table = queue_table(results)
    if not table:
        return ""
    picture = _picture(pictures, "age_gap", "Age gap along training of the runs with a queue")
    return f"## Runs with a queue\n\n{_QUEUES}\n\n{table}\n\n{picture}"


def _pairs(results: Results) -> str:
    probes = {arm: [run["probe"] for run in results.by_arm[arm]] for arm in results.ran(_PAIR_ARMS)}
    return f"""## Motions that differ by one thing

The linear probe's choice between the two, percent right; 50 is chance.

{_pairs_table(probes)}"""


def _pairs_table(probes: Mapping[str, Sequence[dict[str, Any]]]) -> str:
    """A column for each arm, of what its runs' probes found."""
    rows = []
    for name in map(" / ".join, MOTION_PAIRS):
        cells = [str(Estimate.of([float(probe["pairs"][name]) for probe in found])) for found in probes.values()]
        rows.append([name, *cells])
    return markdown(rows, ["pair", *(f"`{arm}`" for arm in probes)])


def _by_frames(results: Results) -> str:
    """The same networks judged by clips of other lengths."""
    parts = []
    for frames, judged in results.by_frames().items():
        probes = {arm: [run["probe"] for run in runs] for arm, runs in judged.by_arm.items()}
        parts += [f"### {frames} frames", _table(judged, list(judged.by_arm)), _pairs_table(probes)]
        parts += _told_tables(judged, "####")
    return "\n\n".join([_BY_FRAMES, *parts]) if parts else ""


def _told_apart(results: Results) -> str:
    """What the classes of rendered sets are told apart by."""
    parts = _told_tables(results, "###")
    return "\n\n".join([_TOLD_APART, *parts]) if parts else ""


def _told_tables(results: Results, heading: str) -> list[str]:
    parts = []
    for name, axes in results.told_apart("axes").items():
        arms = [arm for arm in results.by_arm if results.told(arm, name, "axes", axes[0])]
        parts += [f"{heading} {name}", _told(results, name, "axes", axes, arms)]
        if chosen := [arm for arm in arms if arm in _OPPOSITES_ARMS]:
            parts.append(_told(results, name, "opposites", results.told_apart("opposites")[name], chosen))
    return parts


def _told(results: Results, name: str, kind: str, whats: Sequence[str], arms: Sequence[str]) -> str:
    """A row for each arm, or for pairs, of which there are many, a column."""
    cells = [[str(Estimate.of(results.told(arm, name, kind, what))) for what in whats] for arm in arms]
    marked = [f"`{arm}`" for arm in arms]
    if kind == "axes":
        return markdown([[arm, *row] for arm, row in zip(marked, cells, strict=True)], ["arm", *whats])
    return markdown(
        [[what, *row] for what, row in zip(whats, zip(*cells, strict=True), strict=True)], ["pair", *marked]
    )


def _left_out(results: Results) -> str:
    parts = []
    missing = [arm for arm in all_arms() if arm not in results.by_arm]
    if missing:
        parts.append(f"Not run: {', '.join(f'`{arm}`' for arm in missing)}.")
    diverged = [run for run in results.runs if "diverged" in run]
    if diverged:
        parts.append("Diverged: " + ", ".join(f"`{run['arm']}` (seed {run['seed']})" for run in diverged) + ".")
    parts.append(f"`results.json` holds all {len(results.runs)} runs with their settings.")
    return "## What is not here\n\n" + "\n\n".join(parts)


def _picture(pictures: dict[str, Path], name: str, caption: str) -> str:
    return f"![{caption}]({pictures[name].name})" if name in pictures else ""
