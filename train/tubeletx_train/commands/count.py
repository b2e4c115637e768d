"""`tubeletx-train count`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tubeletx_train.commands.reporting import GOES_ON, report_run
from tubeletx_train.common.errors import UsageError
from tubeletx_train.config.parse import parse_config
from tubeletx_train.config.recipes import nearest
from tubeletx_train.config.repetition import CountTestConfig, CountVideosConfig, RepetitionConfig
from tubeletx_train.evaluation.results import RESULTS_FILE
from tubeletx_train.repetition.metrics import format_counting
from tubeletx_train.repetition.run import count_videos, evaluate_counter, train_counter


def main(arguments: Sequence[str], prog: str) -> int:
    """Count repetitions."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_usage(prog))
        return 0 if arguments else 2
    mode, *rest = arguments
    if mode not in _MODES:
        raise UsageError(f"unknown mode {mode!r}{nearest(mode, _MODES)}; one of {', '.join(_MODES)} is needed")
    return _MODES[mode](rest, f"{prog} {mode}")


def _usage(prog: str) -> str:
    return f"""usage: {prog} MODE [options]

modes:
  train   train a network to count the repetitions in videos, and test it
  test    test a trained network on marked videos
  videos  count the repetitions in any videos, and draw them

`{prog} MODE --help` lists a mode's options."""


def _train(arguments: Sequence[str], prog: str) -> int:
    config = parse_config(
        RepetitionConfig,
        arguments,
        prog=prog,
        description="""Train a network to count the repetitions in videos, and test it: UCFRep (section 4.1 and
appendix C of the paper). Writes results.json and model.pt into the run's folder.""",
        epilog=f"""examples:
  tubeletx-train manifest ucfrep --root UCF-101/ --annotations ucfrep/ --output ucfrep.csv
  {prog} --config downstream/ucfrep --data.train ucfrep.csv --checkpoint pretrained.pt

{GOES_ON}""",
    )
    result, metrics = train_counter(config)
    return report_run(result, lambda: f"{format_counting(metrics)}  ({result.output / RESULTS_FILE})")


def _test(arguments: Sequence[str], prog: str) -> int:
    config = parse_config(
        CountTestConfig,
        arguments,
        prog=prog,
        description="Test a trained network on marked videos.",
        epilog=f"""example:
  {prog} --checkpoint runs/count/model.pt --videos ucfrep.csv --split val""",
    )
    print(format_counting(evaluate_counter(config)))
    return 0


def _videos(arguments: Sequence[str], prog: str) -> int:
    config = parse_config(
        CountVideosConfig,
        arguments,
        prog=prog,
        description="Count the repetitions in any videos, and draw each with its repetitions marked off.",
        epilog=f"""example:
  {prog} --checkpoint runs/count/model.pt --videos push_ups.mp4 --output pictures""",
    )
    for path, count, picture in count_videos(config):
        print(f"{count.count}\t{path}\t{picture}")
    return 0


_MODES: dict[str, Callable[[Sequence[str], str], int]] = {"train": _train, "test": _test, "videos": _videos}
