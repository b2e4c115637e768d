"""Fine-tunes what the runs of a study learned, with the labels of a set."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from studies.arms import UNTRAINED
from studies.pool import Job, run_jobs
from studies.runs import Run, Study

RECIPE = "downstream/rendered"


def setting_of(name: str, per_class: int | None) -> str:
    """How a result is named after the set and the videos of a class."""
    return f"{name}, fine-tuned on {'all' if per_class is None else f'{per_class} a class'}"


def settings_of(config: dict[str, Any], manifest: str, per_class: int | None, epochs: int) -> list[str]:
    """Arguments of `tubeletx-train finetune`: the recipe, at the size that a run was pretrained at.

    Args:
        config: The run's settings.
        manifest: Of the labelled set.
        per_class: Videos of a class; None takes all.
        epochs: Of training.
    """
    data, model = config["data"], config["model"]
    given = {
        "data.train": manifest,
        "data.num_frames": data["num_frames"],
        # Rendered clips are of 16 frames.
        "data.stride": max(16 // data["num_frames"], 1),
        "data.crop_size": data["crop_size"],
        "data.num_workers": 0,
        "model.encoder": model["encoder"],
        "model.width": model["width"],
        "optim.epochs": epochs,
        "run.seed": config["run"]["seed"],
    }
    if per_class is not None:
        given["data.per_class"] = per_class
    return ["--config", RECIPE, *(f"--{name}={value}" for name, value in given.items())]


def finetune_missing(
    study: Study,
    runs: Sequence[Run],
    labelled: dict[str, str],
    *,
    per_class: int | None,
    epochs: int,
    jobs: int | None = None,
) -> int:
    """Fine-tune each network with each set, where that was not done before, and add it to the run's result.

    Args:
        study: Whose runs; untrained ones begin from scratch.
        runs: Those that are wanted; incomplete ones are left out.
        labelled: Manifests by name.
        per_class: Videos of a class; None takes all.
        epochs: Of training; a set that was done in others is done again.
        jobs: Fine-tunings at once; None takes one for each GPU, or for each core where there is none.

    Returns:
        0; 1 where some failed; 128 + a signal's number where one stopped it.

    Raises:
        UsageError: See `Study.networks`.
    """
    complete = study.networks(runs, without=(UNTRAINED,))
    todo = []
    for run, result in complete:
        done = result.get("finetuned", {})
        for name, manifest in labelled.items():
            setting = setting_of(name, per_class)
            if done.get(setting, {}).get("epochs") == epochs:
                continue
            output = study.folder(run) / "finetuned" / f"{name}-{per_class or 'all'}-{epochs}"
            output.mkdir(parents=True, exist_ok=True)
            checkpoint = "scratch" if run.arm == UNTRAINED else str(study.encoder(run))
            command = [sys.executable, "-m", "tubeletx_train", "finetune", f"--checkpoint={checkpoint}"]
            command += settings_of(result["config"], str(Path(manifest).absolute()), per_class, epochs)
            command += [f"--run.output={output}"]
            add = partial(_add, study, run, setting, output / "results.json", epochs)
            todo.append(Job(f"{run.arm}, seed {run.seed}, {name}", command, output / "log.txt", add))
    return run_jobs(todo, "fine-tuning", done=len(complete) * len(labelled) - len(todo), at_once=jobs)


def _add(study: Study, run: Run, setting: str, path: Path, epochs: int) -> bool:
    if not path.exists():
        return False
    found = json.loads(path.read_text(encoding="utf-8"))
    entry = {"top1": found["metrics"]["top1"], "chance": 1 / found["num_classes"], "epochs": epochs}
    entry |= {name: found[name] for name in ("train_videos", "test_videos", "processor", "precision", "torch")}
    result = study.result(run)
    assert result is not None
    result["finetuned"] = result.get("finetuned", {}) | {setting: entry}
    study.write_result(run, result)
    return True
