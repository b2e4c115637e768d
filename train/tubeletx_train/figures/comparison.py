"""Bars of a trained network beside an untrained one and chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.ticker import PercentFormatter

from tubeletx_train.figures.sheet import new_figure, save_figure


@dataclass(frozen=True)
class Bars:
    """One measurement, as shares.

    Attributes:
        label: Its name.
        trained: Mean, and spread or None where there is one value only.
        untrained: Likewise.
        chance: What guessing gets.
    """

    label: str
    trained: tuple[float, float | None]
    untrained: tuple[float, float | None]
    chance: float


def comparison(path: str | Path, measurements: Sequence[Bars], *, title: str) -> Path:
    """Write a PNG with a group of bars for each measurement; returns `path`."""
    figure = new_figure(8, 4)
    axes = figure.subplots()
    places, width = np.arange(len(measurements)), 0.36
    for shift, name, color in ((-width / 2, "trained", "#2f6fb0"), (width / 2, "untrained", "#b0b7c3")):
        values = [getattr(item, name) for item in measurements]
        means = [mean for mean, _ in values]
        spreads = [np.nan if spread is None else spread for _, spread in values]
        bars = axes.bar(places + shift, means, width, yerr=spreads, color=color, label=name, capsize=3)
        axes.bar_label(bars, [f"{mean:.0%}" for mean in means], padding=2, fontsize=9)
    chances = [item.chance for item in measurements]
    axes.hlines(chances, places - width, places + width, colors="#c44e52", linestyles="--", label="chance")
    axes.set_xticks(places, [item.label for item in measurements])
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.margins(y=0.12)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(title)
    axes.legend(frameon=False)
    return save_figure(figure, path)
