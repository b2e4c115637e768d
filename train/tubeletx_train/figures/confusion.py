"""Confusion matrices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.image import AxesImage
from matplotlib.ticker import PercentFormatter

from tubeletx_train.figures.sheet import new_figure, save_figure


def confusion_picture(
    path: str | Path,
    counts: Mapping[str, Sequence[Sequence[int]]],
    names: Sequence[str],
    *,
    title: str = "Confusion matrix",
) -> Path:
    """Write a PNG of confusion matrices side by side, each row as shares; returns `path`.

    Args:
        path: PNG to write; parent folders are made.
        counts: By whose they are, a row for each class and a column for each prediction.
        names: Classes.
        title: Heading.
    """
    side = max(4.0, 1.5 + 0.36 * len(names))
    figure = new_figure((side + 1.0) * len(counts) + 0.5, side + 0.5)
    panels = figure.subplots(1, len(counts), squeeze=False)[0]
    for axes, (whose, rows) in zip(panels, counts.items(), strict=True):
        image = _draw(axes, rows, names)
        axes.set_title(whose)
    panels[0].set_ylabel("shown")
    figure.colorbar(image, ax=panels, shrink=0.7, format=PercentFormatter(1.0))
    figure.suptitle(title)
    return save_figure(figure, path)


def _draw(axes: Axes, counts: Sequence[Sequence[int]], names: Sequence[str]) -> AxesImage:
    matrix = np.asarray(counts, np.float64)
    if matrix.shape != (len(names), len(names)):
        raise ValueError(f"counts: got shape {matrix.shape}, needs one row and column for each of {len(names)} names")
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    image = axes.imshow(shares, vmin=0, vmax=1, cmap="Blues")
    axes.set_xticks(range(len(names)), names, rotation=60, ha="right", rotation_mode="anchor", fontsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_xlabel("predicted")
    for row, column in np.argwhere(shares >= 0.05):
        share = shares[row, column]
        color = "white" if share > 0.6 else "#333"
        axes.text(column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=7, color=color)
    return image
