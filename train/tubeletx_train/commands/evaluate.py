"""`tubeletx-train evaluate`."""

from __future__ import annotations

from collections.abc import Sequence

from tubeletx_train.config.labelled import EvaluateConfig
from tubeletx_train.config.parse import parse_config
from tubeletx_train.evaluation.evaluate import evaluate
from tubeletx_train.evaluation.results import format_metrics


def main(arguments: Sequence[str], prog: str) -> int:
    """Evaluate."""
    config = parse_config(
        EvaluateConfig,
        arguments,
        prog=prog,
        description="""Test a fine-tuned network again, or judge the frozen features of a pretrained encoder by a linear
classifier, by nearest neighbours or by retrieval. Features are computed once and kept in --features.""",
        epilog=f"""examples:
  {prog} --config downstream/ucf101 --checkpoint runs/ucf101/model.pt --data.test ucf101.csv
  {prog} --config downstream/ucf101 --mode linear --checkpoint pretrained.pt --data.train ucf101.csv
  {prog} --config downstream/hmdb51 --mode retrieval --checkpoint pretrained.pt --data.train hmdb51.csv""",
    )
    print(f"{format_metrics(evaluate(config))}  ({config.output}/results.json)")
    return 0
