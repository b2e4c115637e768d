"""`tubeletx-train study`."""

from __future__ import annotations

from collections.abc import Sequence

from tubeletx_train.config.parse import parse_config
from tubeletx_train.study.config import StudyConfig
from tubeletx_train.study.study import run_study

_FLAGS = ("--quick", "--report_only")


def main(arguments: Sequence[str], prog: str) -> int:
    """Run what is missing of the study, then write its report."""
    config = parse_config(
        StudyConfig,
        [f"{argument}=true" if argument in _FLAGS else argument for argument in arguments],
        prog=prog,
        description="""Pretrain each arm of the study (recipes study/*) over several seeds, measure what was learned by
the motion probe, retrieval and labelled videos, and write a report. Stopped at any time, the same command goes on.""",
        epilog=f"""examples:
  five arms, one seed, under half an hour on two cores
  {prog} --videos my_videos/ --quick
  the whole study
  {prog} --videos my_videos/ --output runs/study
  some arms
  {prog} --videos my_videos/ --output runs/study --arms [temporal,rotation,own/reversed] --seeds [0,1,2,3,4]
  the paper's network on a GPU, in pieces of nine minutes
  {prog} --videos kinetics.csv --output runs/paper --size paper --minutes 9
  report on what there is
  {prog} --videos my_videos/ --output runs/study --report_only""",
    )
    return run_study(config)
