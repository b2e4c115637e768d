"""Pictures of positive pairs: contact sheets and animations with the tubelets' paths drawn on."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from torch import Tensor


class DrawableTubelets(Protocol):
    """What the pictures need of `tubeletx.Tubelets`."""

    centers: Tensor

    def boxes(self) -> Tensor:
        """(B, M, T, 4) x0, y0, x1, y1."""
        ...


def contact_sheet(
    path: str | Path,
    clip_1: Tensor,
    clip_2: Tensor,
    tubelets: DrawableTubelets,
    *,
    max_pairs: int = 4,
    columns: int = 8,
    title: str = "",
) -> Path:
    """Write a PNG: two rows a pair (query above, key below), `columns` frames spread over the clip.

    Args:
        path: Where to; parent folders are made.
        clip_1: (B, 3, T, H, W) uint8, after pasting.
        clip_2: Likewise.
        tubelets: Their tubelets.
        max_pairs: Pairs shown.
        columns: Frames shown of each clip.
        title: Heading.
    """
    raise NotImplementedError


def animation(
    path: str | Path,
    clip_1: Tensor,
    clip_2: Tensor,
    tubelets: DrawableTubelets,
    *,
    max_pairs: int = 4,
    fps: float = 8.0,
) -> Path:
    """Write a GIF or MP4 (by the extension): pairs side by side, trails behind the tubelets."""
    raise NotImplementedError
