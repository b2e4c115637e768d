"""Confusion matrices."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.ticker import PercentFormatter

from tubeletx_train.figures.sheet import new_figure, save_figure


def confusion_picture(
    path: str | Path, counts: Sequence[Sequence[int]], names: Sequence[str], *, title: str = "Confusion matrix"
) -> Path:
    """Write a PNG of a confusion matrix, each row as shares; returns `path`.

    Args:
        path: PNG to write; parent folders are made.
        counts: A row for each class, a column for each prediction.
        names: Classes.
        title: Heading.
    """
    matrix = np.asarray(counts, np.float64)
    if matrix.shape != (len(names), len(names)):
        raise ValueError(f"counts: got shape {matrix.shape}, needs one row and column for each of {len(names)} names")
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    side = max(4.0, 1.5 + 0.36 * len(names))
    figure = new_figure(side + 1.5, side + 0.5)
    axes = figure.subplots()
    image = axes.imshow(shares, vmin=0, vmax=1, cmap="Blues")
    axes.set_xticks(range(len(names)), names, rotation=60, ha="right", rotation_mode="anchor", fontsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_xlabel("predicted")
    axes.set_ylabel("shown")
    for row, column in np.argwhere(shares >= 0.05):
        share = shares[row, column]
        color = "white" if share > 0.6 else "#333"
        axes.text(column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=7, color=color)
    figure.colorbar(image, ax=axes, shrink=0.7, format=PercentFormatter(1.0))
    axes.set_title(title)
    return save_figure(figure, path)
