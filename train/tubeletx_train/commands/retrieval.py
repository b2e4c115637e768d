"""`tubeletx-train retrieval`."""

from __future__ import annotations

from collections.abc import Sequence

from tubeletx_train.config.parse import parse_config
from tubeletx_train.evaluation.pair_retrieval import RetrievalConfig, evaluate_retrieval, format_report


def main(arguments: Sequence[str], prog: str) -> int:
    """Measure a checkpoint by retrieval of held-out pairs."""
    config = parse_config(
        RetrievalConfig,
        arguments,
        prog=prog,
        description="""Measure a checkpoint by retrieval: given a clip, find among N the clip of another video
that carries the same tubelets. An untrained network of the same kind and chance stand beside it.""",
        epilog=f"""example:
  {prog} --checkpoint runs/pretrain/checkpoints/step-00002000.pt --videos held_out_videos/""",
    )
    print(format_report(evaluate_retrieval(config)))
    return 0
