"""The study's command line; run from the root of the repository."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from studies.arms import FULL, SIZES, all_arms, arm_recipe, chosen_arms, groups
from studies.measure import draw_measurements
from studies.pool import run_missing
from studies.report import write_report
from studies.runs import Run, Study
from studies.videos import write_study_manifest
from tubeletx_train.common.errors import CommandError, UsageError
from tubeletx_train.common.files import writable_folder
from tubeletx_train.config.parse import config_from_tree
from tubeletx_train.config.pretrain import PretrainConfig

_EXAMPLES = """examples:
  python -m studies run --videos my_videos/ --output runs/study --arms untrained temporal static nonlinear rotation
  python -m studies run --videos my_videos/ --output runs/study --seeds 0 1 2 3 4 --labelled actions=my_actions/
  python -m studies run --videos kinetics.csv --output runs/paper --size paper --seconds 540
  python -m studies report --output runs/study
Stopped at any time, the same command goes on."""


def _labelled(text: str) -> tuple[str, str]:
    name, separator, path = text.partition("=")
    if not separator or not name or not path:
        raise argparse.ArgumentTypeError(f"got {text!r}, needs NAME=PATH")
    return name, path


def parser() -> argparse.ArgumentParser:
    """The arguments."""
    parsed = argparse.ArgumentParser(
        prog="python -m studies",
        description="Pretrain each arm of studies/arms.yaml over several seeds, judge what was learned, and report.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parsed.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="run what is missing, then report")
    run.add_argument(
        "--videos", required=True, help='a folder, split 7 to 3, or a manifest with splits "train" and "held_out"'
    )
    run.add_argument("--output", default="runs/study", help="folder of runs and report; default %(default)s")
    run.add_argument("--size", choices=SIZES, default="small")
    run.add_argument("--arms", nargs="+", default=list(groups()), metavar="NAME", help="arms or groups; default all")
    run.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    run.add_argument("--steps", type=int, help="steps of a run; default the recipe's")
    run.add_argument("--jobs", type=int, help="runs at once; default one for each GPU, or for each core without")
    run.add_argument("--seconds", type=float, help="stop after so long; runs under way save a checkpoint")
    run.add_argument(
        "--labelled", nargs="*", type=_labelled, default=[], metavar="NAME=PATH", help="labelled videos to judge by"
    )
    run.add_argument("--group_pattern", help="as of tubeletx-train probe, for labelled videos without splits")
    report = commands.add_parser("report", help="report on what there is")
    report.add_argument("--output", default="runs/study")
    report.add_argument("--report", help='folder of the report; default "report" in the output folder')
    return parsed


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    options = parser().parse_args(arguments)
    try:
        return _run(options) if options.command == "run" else _report(options)
    except CommandError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code


def _run(options: argparse.Namespace) -> int:
    arms = chosen_arms(options.arms)
    if options.steps is not None and options.steps < 1:
        raise UsageError(f"--steps: got {options.steps}, needs 1 or more")
    study = Study(writable_folder(options.output).absolute(), options.size, options.steps)
    prepare(study, options.videos, dict(options.labelled), options.group_pattern)
    # Seed by seed, so that a study that is cut off is balanced.
    runs = [Run(arm, seed) for seed in dict.fromkeys(options.seeds) for arm in arms]
    code = run_missing(study, runs, jobs=options.jobs, seconds=options.seconds)
    options.report = None
    _report(options)
    return code


def prepare(study: Study, videos: str, labelled: dict[str, str], group_pattern: str | None) -> None:
    """Write what all runs share, where it is not there yet: the list of videos, and the clips to judge by."""
    if not study.manifest.exists():
        write_study_manifest(videos, study.manifest)
    if not study.measurements.exists():
        print("drawing the clips that all runs are measured by", flush=True)
        recipe = arm_recipe(FULL, study.size) | {}
        recipe["data"] = recipe["data"] | {"videos": str(study.manifest)}
        full = config_from_tree(PretrainConfig, recipe, "studies")
        draw_measurements(full, labelled, group_pattern).save(study.measurements)


def _report(options: argparse.Namespace) -> int:
    study = Study(Path(options.output).absolute())
    known = [run for run in study.results() if run["arm"] in all_arms()]
    if not any("probe" in run for run in known):
        print("no run is complete yet, so there is nothing to report")
        return 0
    report = Path(options.report) if options.report else study.root / "report"
    print(f"wrote {write_report(report, known, study.manifest)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
