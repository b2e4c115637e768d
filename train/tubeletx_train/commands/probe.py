"""`tubeletx-train probe`."""

from __future__ import annotations

from collections.abc import Sequence

from tubeletx_train.config.parse import parse_config
from tubeletx_train.evaluation.probe import ProbeConfig, format_probe, probe_checkpoint


def main(arguments: Sequence[str], prog: str) -> int:
    """Read motions, or the classes of labelled videos, from a checkpoint's frozen features."""
    if arguments and not arguments[0].startswith("-"):
        arguments = ["--checkpoint", *arguments]
    config = parse_config(
        ProbeConfig,
        arguments,
        prog=prog,
        description="""Fit a linear and a nearest-neighbour classifier on frozen features and judge them by other
videos; an untrained network of the same kind and chance stand beside the checkpoint.""",
        epilog=f"""examples:
  how does a patch move over a still frame?
  {prog} runs/pretrain/checkpoints/step-00002000.pt --videos held_out_videos/ --output runs/probe
  the same, and what the network reaches when trained with the labels
  {prog} CHECKPOINT --videos held_out_videos/ --ceiling_steps 600
  classes of labelled videos, a folder for each, leaving one person (p0, p1, ...) out at a time
  {prog} CHECKPOINT --videos actions/ --task labels --group_pattern '(p[0-9]+)_'""",
    )
    print(format_probe(probe_checkpoint(config)))
    if config.output is not None:
        print(f"wrote {config.output}/probe.json and {config.output}/confusion.png")
    return 0
