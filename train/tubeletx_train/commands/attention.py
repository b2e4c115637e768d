"""`tubeletx-train attention`."""

from __future__ import annotations

import json
from collections.abc import Sequence

from tubeletx_train.config.parse import parse_config
from tubeletx_train.evaluation.attention import AttentionConfig, attention

_LISTS = ("--checkpoints", "--names")


def main(arguments: Sequence[str], prog: str) -> int:
    """Draw where networks look."""
    config = parse_config(
        AttentionConfig,
        _join_lists(arguments),
        prog=prog,
        description="""Draw where networks look, without fine-tuning: class-agnostic activation maps (Figures 6 and 7 of
the paper) over the frames of any videos, several checkpoints and an untrained network side by side, as a strip (PNG)
and an animation (GIF).""",
        epilog=f"""examples:
  {prog} --checkpoints runs/tubelet.pt runs/temporal.pt --names tubelet temporal --videos my_videos/
  {prog} --checkpoints exported.pt --videos one.mp4 --untrained false --output pictures""",
    )
    pictures, gains = attention(config)
    for name, gain in gains.items():
        print(f"{name}: weighs moving pixels {gain:.2f} times as much as a flat map does")
    for path in pictures:
        print(path)
    return 0


def _join_lists(arguments: Sequence[str]) -> list[str]:
    """`--names a b` as `--names ["a","b"]`, the one form that configurations read."""
    joined: list[str] = []
    values: list[str] | None = None
    for argument in arguments:
        if values is not None and not argument.startswith("--"):
            values.append(argument)
            continue
        if values is not None:
            joined.append(_as_list(values))
        values = [] if argument in _LISTS else None
        joined.append(argument)
    if values is not None:
        joined.append(_as_list(values))
    return joined


def _as_list(values: list[str]) -> str:
    return values[0] if len(values) == 1 and values[0].startswith("[") else json.dumps(values)
