"""`tubeletx-train pretrain`."""

from __future__ import annotations

from collections.abc import Sequence

from tubeletx_train.commands.reporting import GOES_ON, report_run
from tubeletx_train.config.parse import parse_config
from tubeletx_train.config.pretrain import PretrainConfig
from tubeletx_train.pretrain.task import pretrain


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

{GOES_ON}
Ctrl-C, SIGTERM, SIGHUP and SIGUSR1 save one before they end the run.""",
    )
    result = pretrain(config)
    return report_run(result, lambda: f"{result.step} steps, last checkpoint {result.checkpoint}")
