"""The clips that all runs of a study are measured by."""

from __future__ import annotations

import torch

from studies.arms import FULL
from studies.measure import draw_measurements
from studies.runs import Study
from tubeletx_train.common.errors import UsageError
from tubeletx_train.config.parse import config_from_tree
from tubeletx_train.config.pretrain import PretrainConfig


def draw(study: Study, labelled: dict[str, str], group_pattern: str | None) -> None:
    """Draw the clips that all runs are measured by, where they are not there yet.

    Raises:
        UsageError: They are there, with other labelled sets.
    """
    if study.measurements.exists():
        there = sorted(torch.load(study.measurements, weights_only=True, mmap=True)["labelled"])
        if there != sorted(labelled):
            raise UsageError(
                f"--labelled: got {_names(sorted(labelled))}, needs {_names(there)}, by which the runs in {study.root} "
                "are measured; choose another --output"
            )
        return
    print("drawing the clips that all runs are measured by", flush=True)
    full = config_from_tree(PretrainConfig, study.settings(FULL), "studies")
    draw_measurements(full, labelled, group_pattern).save(study.measurements)


def _names(sets: list[str]) -> str:
    return ", ".join(sets) or "none"
