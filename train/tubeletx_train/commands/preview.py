"""`tubeletx-train preview`."""

from __future__ import annotations

from collections.abc import Sequence

from tubeletx_train.config.parse import parse_config
from tubeletx_train.config.pretrain import PretrainConfig
from tubeletx_train.pretrain.preview import PreviewConfig, preview


def main(arguments: Sequence[str], prog: str) -> int:
    """Draw positive pairs."""
    config = parse_config(
        PreviewConfig,
        arguments,
        prog=prog,
        describes=PretrainConfig,
        description="""Draw the first pairs that a pretraining with the same settings and seed is trained on,
before colour: a contact sheet (PNG) and an animation (GIF) with the tubelets' paths.""",
        epilog=f"""examples:
  {prog} --data.videos my_videos/
  {prog} --config demo --data.videos my_videos/ --tubelets.motion linear --output pictures""",
    )
    for path in preview(config):
        print(path)
    return 0
