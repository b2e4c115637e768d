"""`tubeletx-train study`: prepare, run what is missing, report."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import torch

from tubeletx_train.common.output import writable_folder
from tubeletx_train.config.parse import config_from_tree
from tubeletx_train.config.pretrain import PretrainConfig
from tubeletx_train.study.arms import FULL, QUICK_ARMS, all_arms, check_arms
from tubeletx_train.study.config import StudyConfig
from tubeletx_train.study.measure import draw_measurements
from tubeletx_train.study.report import write_report
from tubeletx_train.study.runner import Schedule, Store, read_results, run_missing
from tubeletx_train.study.runs import Run
from tubeletx_train.study.videos import write_study_manifest


def run_study(config: StudyConfig) -> int:
    """Run what is missing of the study, then write its report.

    Returns:
        0; 1 where runs failed; 128 + a signal's number where one stopped it.
    """
    root = writable_folder(config.output).absolute()
    store = Store(config, root)
    schedule = plan(config)
    exit_code = 0
    if not config.report_only:
        _prepare(config, store)
        jobs = config.jobs or torch.cuda.device_count() or len(os.sched_getaffinity(0))
        outcome = run_missing(schedule, store, jobs=jobs, minutes=config.minutes)
        exit_code = outcome.exit_code
        for folder in outcome.failed:
            print(f"failed: {folder.path} (output.log says why)")
        if outcome.missing:
            print("runs are missing; the same command goes on from here")
    # Earlier calls may have run other arms.
    everything = dataclasses.replace(schedule, arms=all_arms(), results={})
    read_results(everything, store)
    if not any(not run.search and "probe" in result for run, result in everything.results.items()):
        print("no run is complete yet, so there is nothing to report")
        return exit_code
    report = Path(config.report) if config.report else root / "report"
    print(f"wrote {write_report(report, config, list(everything.results.values()), store.manifest)}")
    return exit_code


def plan(config: StudyConfig) -> Schedule:
    """The runs that a configuration asks for."""
    arms = check_arms(config.arms) if config.arms is not None else QUICK_ARMS if config.quick else all_arms()
    return Schedule(
        arms,
        config.seeds[:1] if config.quick else config.seeds,
        (1.0,) if config.quick else config.learning_rates,
        config.search_seed,
    )


def _prepare(config: StudyConfig, store: Store) -> None:
    if not store.manifest.exists():
        write_study_manifest(config.videos, store.manifest)
    if not store.measurements.exists():
        print("drawing the clips that all runs are measured by", flush=True)
        full = config_from_tree(PretrainConfig, store.recipe(Run(FULL, 1.0, config.seeds[0])), "study")
        draw_measurements(full, config.labelled, config.group_pattern).save(store.measurements)
