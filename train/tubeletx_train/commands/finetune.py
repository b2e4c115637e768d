"""`tubeletx-train finetune`."""

from __future__ import annotations

from collections.abc import Sequence

from tubeletx_train.commands.reporting import GOES_ON, report_run
from tubeletx_train.config.labelled import FinetuneConfig
from tubeletx_train.config.parse import parse_config
from tubeletx_train.evaluation.results import RESULTS_FILE, format_metrics
from tubeletx_train.finetune.task import finetune


def main(arguments: Sequence[str], prog: str) -> int:
    """Fine-tune and test."""
    config = parse_config(
        FinetuneConfig,
        arguments,
        prog=prog,
        description="""Fine-tune a pretrained encoder with labels, and test it: recognition of one class, or of several.
Manifests are made by `tubeletx-train manifest`. The output folder gets results.json, which `tubeletx-train table`
collects, and model.pt, which `tubeletx-train evaluate` tests again.""",
        epilog=f"""examples:
  {prog} --config downstream/ucf101 --checkpoint pretrained.pt --data.train ucf101.csv
  {prog} --config downstream/ucf_low_shot --checkpoint scratch --data.train ucf101.csv --run.seed 1
  {prog} --config downstream/charades --checkpoint tclr.pth --data.train charades.csv --protocol released
  torchrun --nproc-per-node 4 -m tubeletx_train finetune --config downstream/ssv2 ...

{GOES_ON}""",
    )
    result, metrics = finetune(config)
    return report_run(result, lambda: f"{format_metrics(metrics)}  ({result.output / RESULTS_FILE})")
