"""The study's command line; run from the root of the repository."""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from studies.arms import SIZES, all_arms, chosen_arms, reuse_of
from studies.draw import draw
from studies.finetune import finetune_missing
from studies.judge import judge_networks
from studies.lockstep import NoGraphsError, SideBySide, worker_pool
from studies.pool import run_missing
from studies.report import write_report
from studies.runs import POINTS, Run, Study
from studies.videos import write_study_manifest
from tubeletx_train.common.device import resolve_device
from tubeletx_train.common.errors import CommandError, UsageError
from tubeletx_train.common.files import writable_folder
from tubeletx_train.data.readers import READERS

_EXAMPLES = """examples:
  python -m studies run --videos my_videos/ --output runs/study --arms untrained temporal static nonlinear rotation
  python -m studies run --videos my_videos/ --output runs/study --seeds 0 1 2 3 4 --labelled actions=my_actions/
  python -m studies run --videos kinetics.csv --output runs/paper --size paper --seconds 540
  python -m studies report --output runs/study
Stopped at any time, the same command goes on."""


_GROUP_PATTERN_HELP = "as of tubeletx-train probe, for labelled videos without splits"


def _labelled(text: str) -> tuple[str, str]:
    name, separator, path = text.partition("=")
    if not separator or not name or not path:
        raise argparse.ArgumentTypeError(f"got {text!r}, needs NAME=PATH")
    return name, path


def _block(text: str) -> tuple[list[str], list[int]]:
    arms, separator, seeds = text.partition("@")
    if not separator or not all(seed.isdigit() for seed in seeds.split(",")):
        raise argparse.ArgumentTypeError(f"got {text!r}, needs ARM,...@SEED,...")
    return arms.split(","), [int(seed) for seed in seeds.split(",")]


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
    _add_common(run)
    _add_jobs(run)
    side_by_side = commands.add_parser("lockstep", help="run what is missing side by side on one device, in graphs")
    _add_common(side_by_side)
    side_by_side.add_argument("--device", default="auto")
    side_by_side.add_argument("--reuse", type=int, default=4, help="how often a clip is used; default %(default)s")
    side_by_side.add_argument("--width", type=int, default=32, help="runs at once; default %(default)s")
    side_by_side.add_argument(
        "--points", type=int, default=POINTS, help="measurements along a run, its last one counted; default %(default)s"
    )
    side_by_side.add_argument("--workers", type=int, help="processes beside; default one for each core but one")
    side_by_side.add_argument("--lines", help="a file that each result is added to as it comes, a line of JSON each")
    side_by_side.add_argument("--plain", action="store_true", help="launch steps kernel by kernel on a GPU too")
    side_by_side.add_argument(
        "--part", nargs=2, type=int, default=(0, 1), metavar=("I", "N"), help="of the runs only each Nth, from the Ith"
    )
    side_by_side.add_argument("--commit", help="of the sources, where they lie outside of their repository")
    finetune = commands.add_parser("finetune", help="fine-tune the networks of complete runs of `lockstep` with labels")
    _add_kept(finetune)
    finetune.add_argument(
        "--labelled", nargs="+", type=_labelled, required=True, metavar="NAME=MANIFEST", help="sets of `render`"
    )
    finetune.add_argument("--per_class", type=int, help="videos of a class to train on; default all")
    finetune.add_argument("--epochs", type=int, default=30, help="default %(default)s")
    _add_jobs(finetune)
    judge = commands.add_parser("judge", help="judge the networks of complete runs of `lockstep` afterwards")
    _add_kept(judge)
    judge.add_argument(
        "--labelled", nargs="+", type=_labelled, default=[], metavar="NAME=PATH", help="by labelled sets"
    )
    judge.add_argument("--group_pattern", help=_GROUP_PATTERN_HELP)
    judge.add_argument(
        "--num_frames",
        nargs="+",
        type=int,
        default=[],
        metavar="T",
        help="by clips of so many frames, the motion probe's and the sets': in twice as many a motion is half as fast",
    )
    judge.add_argument("--device", default="auto")
    collect = commands.add_parser("collect", help="take results into a folder of runs, to report on or add to")
    collect.add_argument("results", nargs="+", help="files of `lockstep --lines`, or the results.json of a report")
    collect.add_argument("--output", default="runs/study")
    report = commands.add_parser("report", help="report on what there is")
    report.add_argument("--output", default="runs/study")
    report.add_argument("--report", help='folder of the report; default "report" in the output folder')
    return parsed


def _add_jobs(command: argparse.ArgumentParser) -> None:
    command.add_argument("--jobs", type=int, help="runs at once; default one for each GPU, or for each core without")


def _add_kept(command: argparse.ArgumentParser) -> None:
    command.add_argument("--output", default="runs/study", help="folder of the runs; default %(default)s")
    command.add_argument("--arms", nargs="+", default=["long"], metavar="NAME", help="arms or groups")
    command.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])


def _add_common(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--videos", required=True, help='a folder, split 7 to 3, or a manifest with splits "train" and "held_out"'
    )
    command.add_argument("--output", default="runs/study", help="folder of runs and report; default %(default)s")
    command.add_argument("--size", choices=SIZES, default="small")
    command.add_argument("--arms", nargs="+", default=["paper", "own"], metavar="NAME", help="arms or groups")
    command.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    command.add_argument(
        "--blocks",
        nargs="+",
        type=_block,
        metavar="ARM,...@SEED,...",
        help="arms and seeds to run one block after the other, in place of --arms and --seeds",
    )
    command.add_argument("--reader", choices=sorted(READERS), help="of the videos; default the recipe's")
    command.add_argument("--steps", type=int, help="steps of a run; default the recipe's")
    command.add_argument("--seconds", type=float, help="stop after so long; `run` saves what is under way")
    command.add_argument(
        "--labelled", nargs="*", type=_labelled, default=[], metavar="NAME=PATH", help="labelled videos to judge by"
    )
    command.add_argument("--group_pattern", help=_GROUP_PATTERN_HELP)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    options = parser().parse_args(arguments)
    try:
        return _COMMANDS[options.command](options)
    except CommandError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code


def _chosen(options: argparse.Namespace) -> tuple[Study, list[Run]]:
    if options.steps is not None and options.steps < 1:
        raise UsageError(f"--steps: got {options.steps}, needs 1 or more")
    # Seed by seed, so that a study that is cut off is balanced.
    blocks = options.blocks or [(options.arms, options.seeds)]
    runs = [Run(arm, seed) for arms, seeds in blocks for seed in seeds for arm in chosen_arms(arms)]
    runs = list(dict.fromkeys(runs))
    study = Study(writable_folder(options.output).absolute(), options.size, options.steps, options.reader)
    if not study.manifest.exists():
        write_study_manifest(options.videos, study.manifest)
    return study, runs


def _run(options: argparse.Namespace) -> int:
    study, runs = _chosen(options)
    for run in runs:
        if reuse_of(run.arm):
            raise UsageError(f"--arms: got {run.arm!r}, which `lockstep` alone can run")
    draw(study, dict(options.labelled), options.group_pattern)
    code = run_missing(study, runs, jobs=options.jobs, seconds=options.seconds)
    options.report = None
    _report(options)
    return code


def _lockstep(options: argparse.Namespace) -> int:
    since = time.monotonic()
    logging.basicConfig(level=logging.INFO, format="%(relativeCreated)8d ms  %(message)s")
    end = math.inf if options.seconds is None else since + options.seconds
    study, runs = _chosen(options)
    device = resolve_device(options.device)
    cores = len(os.sched_getaffinity(0))
    if options.points < 1:
        raise UsageError(f"--points: got {options.points}, needs 1 or more")
    place, count = options.part
    with worker_pool(options.workers or max(cores - 1, 1)) as pool:
        drawn = pool.submit(draw, study, dict(options.labelled), options.group_pattern)
        try:
            done = SideBySide(
                study,
                runs[place::count],
                pool,
                drawn,
                device=device,
                reuse=options.reuse,
                width=options.width,
                graphs=not options.plain,
                points=options.points,
                end=end,
                lines=Path(options.lines) if options.lines else None,
                commit=options.commit,
            ).go()
            print(f"{done} runs are complete")
            return 0
        except NoGraphsError:
            logging.exception("steps cannot be captured; going on in %d processes", cores)
            drawn.result()
    return _in_processes(sys.argv[1:], cores, end)


def _in_processes(arguments: Sequence[str], count: int, end: float) -> int:
    """The same command in so many processes, whose steps are launched kernel by kernel."""
    seconds = [] if end == math.inf else ["--seconds", str(end - time.monotonic())]
    command = [sys.executable, "-m", "studies", *arguments, *seconds, "--plain", "--workers", "1", "--width", "1"]
    parts = [[*command, "--part", str(place), str(count)] for place in range(count)]
    return max(process.wait() for process in [subprocess.Popen(part) for part in parts])


def _kept(options: argparse.Namespace) -> tuple[Study, list[Run]]:
    study = Study(Path(options.output).absolute())
    runs = [Run(arm, seed) for seed in options.seeds for arm in chosen_arms(options.arms)]
    return study, runs


def _finetune(options: argparse.Namespace) -> int:
    study, runs = _kept(options)
    return finetune_missing(
        study,
        runs,
        dict(options.labelled),
        per_class=options.per_class,
        epochs=options.epochs,
        jobs=options.jobs,
    )


def _judge(options: argparse.Namespace) -> int:
    study, runs = _kept(options)
    judge_networks(
        study,
        runs,
        dict(options.labelled),
        group_pattern=options.group_pattern,
        num_frames=options.num_frames,
        device=options.device,
    )
    return 0


def _collect(options: argparse.Namespace) -> int:
    study = Study(writable_folder(options.output).absolute())
    for path in options.results:
        text = Path(path).read_text(encoding="utf-8")
        for result in json.loads(text) if text.startswith("[") else map(json.loads, text.splitlines()):
            study.write_result(Run(result["arm"], result["seed"]), result)
    return 0


def _report(options: argparse.Namespace) -> int:
    study = Study(Path(options.output).absolute())
    known = [run for run in study.results() if run["arm"] in all_arms()]
    if not any("probe" in run for run in known):
        print("no run is complete yet, so there is nothing to report")
        return 0
    report = Path(options.report) if options.report else study.root / "report"
    print(f"wrote {write_report(report, known, study.manifest)}")
    return 0


_COMMANDS = {
    "run": _run,
    "lockstep": _lockstep,
    "finetune": _finetune,
    "judge": _judge,
    "collect": _collect,
    "report": _report,
}

if __name__ == "__main__":
    sys.exit(main())
