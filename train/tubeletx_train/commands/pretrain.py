"""`tubeletx-train pretrain`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from tubeletx_train.config.parse import parse_config
from tubeletx_train.config.pretrain import PretrainConfig
from tubeletx_train.pretrain.loop import pretrain


def main(arguments: Sequence[str], prog: str) -> int:
    """Pretrain, or go on with a pretraining."""
    config = parse_config(
        PretrainConfig,
        arguments,
        prog=prog,
        description="Pretrain a video encoder by tubelet contrast (or temporal contrast).",
        epilog=f"""examples:
  {prog} --config pretrain/mini_kinetics --data.videos my_videos/
  {prog} --config my.yaml --optim.lr 0.02 --print_config
  torchrun --nproc-per-node 8 -m tubeletx_train pretrain --config pretrain/kinetics400 --data.videos kinetics.csv

Started again with the same output folder, a run goes on from its newest checkpoint.
Ctrl-C and SIGTERM save one before they end the run.""",
    )
    result = pretrain(config)
    if not result.is_main:
        return result.exit_code
    if result.exit_code:
        print(f"stopped after step {result.step}; the same command goes on from {result.checkpoint}", file=sys.stderr)
    else:
        print(f"done: {result.step} steps, last checkpoint {result.checkpoint}")
    return result.exit_code
