"""The clips that all runs of a study are measured by."""

from __future__ import annotations

from studies.arms import FULL
from studies.measure import draw_measurements
from studies.runs import Study
from tubeletx_train.config.parse import config_from_tree
from tubeletx_train.config.pretrain import PretrainConfig


def draw(study: Study, labelled: dict[str, str], group_pattern: str | None) -> None:
    """Draw the clips that all runs are measured by, where they are not there yet."""
    if not study.measurements.exists():
        print("drawing the clips that all runs are measured by", flush=True)
        full = config_from_tree(PretrainConfig, study.settings(FULL), "studies")
        draw_measurements(full, labelled, group_pattern).save(study.measurements)
