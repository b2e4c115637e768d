"""What the pictures share: colours, type, margins, and how they are made and saved."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image, ImageFont

PAPER, INK, FAINT = (250, 250, 248), (30, 30, 34), (120, 120, 126)
GAP = 4
MARGIN = 14


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The typeface at a size in pixels."""
    return ImageFont.load_default(size)


def even(width: int, height: int) -> tuple[int, int]:
    """The size rounded up to even sides, which H.264 wants."""
    return width + width % 2, height + height % 2


def animation_path(path: str | Path) -> Path:
    """The path of an animation. Raises ValueError when its extension is neither .gif nor .mp4."""
    path = Path(path)
    if path.suffix.lower() not in (".gif", ".mp4"):
        raise ValueError(f"path: got {path.name!r}, needs one that ends in .gif or .mp4")
    return path


def save_animation(path: Path, pictures: Sequence[Image.Image], fps: float) -> Path:
    """Write pictures of one (even) size as a GIF that repeats, or as MP4, by the extension; returns `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix.lower() == ".gif":
        pictures[0].save(
            path, save_all=True, append_images=pictures[1:], duration=round(1000 / fps), loop=0, optimize=False
        )
    else:
        import imageio.v2 as imageio

        # The sides are even already, hence no resizing to the encoder's blocks of 16.
        imageio.mimwrite(path, [np.asarray(p) for p in pictures], fps=fps, macro_block_size=2, quality=8)
    return path


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, in inches, that no window belongs to."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, path: str | Path, dpi: int = 130) -> Path:
    """Write a figure, making parent folders; returns `path`."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=dpi)
    return path
