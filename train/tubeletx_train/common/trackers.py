"""Experiment trackers that a run reports to beside its own log."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

from tubeletx_train.common.errors import UsageError

TrackerName = Literal["none", "wandb", "mlflow"]
_PROJECT = "tubeletx"


class Tracker(Protocol):
    """What a run needs of a tracker."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Report numbers of a step."""
        ...

    def close(self) -> None:
        """End the report."""
        ...


def require_tracker(name: TrackerName) -> None:
    """Raises UsageError where its package is not installed."""
    if name != "none" and importlib.util.find_spec(name) is None:
        raise UsageError(f"run.tracker {name!r} needs the package {name}; pip install {name}")


def open_tracker(name: TrackerName, folder: Path, settings: Mapping[str, Any]) -> Tracker | None:
    """A tracker's run of the name of a folder, the same one where the run goes on; None for "none".

    Args:
        name: Which.
        folder: The run's.
        settings: By dotted name.
    """
    if name == "none":
        return None
    identity = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
    return (_WandB if name == "wandb" else _MLflow)(folder, identity, settings)


class _WandB:
    def __init__(self, folder: Path, identity: str, settings: Mapping[str, Any]) -> None:
        wandb = importlib.import_module("wandb")
        self._run = wandb.init(
            project=_PROJECT,
            name=folder.resolve().name,
            id=identity,
            resume="allow",
            dir=str(folder),
            config=dict(settings),
        )

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        self._run.finish()


class _MLflow:
    def __init__(self, folder: Path, identity: str, settings: Mapping[str, Any]) -> None:
        self._mlflow = importlib.import_module("mlflow")
        self._mlflow.set_experiment(_PROJECT)
        tag = f"{_PROJECT}.run"
        found = self._mlflow.search_runs(filter_string=f"tags.`{tag}` = '{identity}'", output_format="list")
        if found:
            self._mlflow.start_run(run_id=found[0].info.run_id)
            return
        self._mlflow.start_run(run_name=folder.resolve().name, tags={tag: identity})
        self._mlflow.log_params({key: value for key, value in settings.items() if value is not None})

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._mlflow.log_metrics(dict(values), step=step)

    def close(self) -> None:
        self._mlflow.end_run()
