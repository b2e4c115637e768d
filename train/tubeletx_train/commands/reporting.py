"""What the commands that train say of a run."""

from __future__ import annotations

import sys
from collections.abc import Callable

from tubeletx_train.engine.loop import TrainingResult

GOES_ON = "Started again with the same output folder, a run goes on from its newest checkpoint."


def report_run(result: TrainingResult, outcome: Callable[[], str]) -> int:
    """Say in the main process how a run ended, and with what if it got there; returns the command's exit code."""
    if result.is_main and result.exit_code:
        print(f"stopped after step {result.step}; the same command goes on from {result.checkpoint}", file=sys.stderr)
    elif result.is_main:
        print(f"done: {outcome()}")
    return result.exit_code
