"""Pictures of the study: bars with intervals, accuracy over the share of videos, accuracy along training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

_BLUE, _GREY, _RED = "#2f6fb0", "#8a93a3", "#c44e52"
# Told apart by most colour-blind eyes (Okabe and Ito).
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#555555", "#8c6d31")
# Curves of more points have none of them marked.
_MOST_MARKED = 12
_LEGEND_COLUMNS = 3
# Characters that stand side by side below a picture of curves.
_LEGEND_WIDTH = 90


@dataclass(frozen=True)
class Bar:
    """One bar, as shares.

    Attributes:
        label: Name under it.
        mean: Height.
        half_width: Half of its interval, NaN for none.
        values: Single values, drawn as dots.
    """

    label: str
    mean: float
    half_width: float
    values: Sequence[float]


def interval_bars(
    path: str | Path, panels: Mapping[str, Sequence[Bar]], lines: Mapping[str, float], *, title: str, ylabel: str
) -> Path:
    """Write a PNG with a panel of bars for each comparison; returns `path`.

    Args:
        path: PNG to write.
        panels: Bars by the panel's title.
        lines: Levels drawn through all panels, by name.
        title: Heading.
        ylabel: What the bars measure.
    """
    widths = [max(len(bars), 2) for bars in panels.values()]
    figure = Figure(figsize=(min(2.5 + 0.85 * sum(widths), 22), 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    all_axes = figure.subplots(1, len(panels), sharey=True, squeeze=False, width_ratios=widths)[0]
    for axes, (name, bars) in zip(all_axes, panels.items(), strict=True):
        places = np.arange(len(bars))
        errors = [bar.half_width for bar in bars]
        axes.bar(places, [bar.mean for bar in bars], 0.7, yerr=errors, capsize=3, color=_BLUE, ecolor="#333")
        for place, bar in zip(places, bars, strict=True):
            axes.plot([place] * len(bar.values), bar.values, "o", color="white", mec="#333", ms=4)
        for style, (label, level) in zip(("--", ":", "-."), lines.items(), strict=False):
            axes.axhline(level, color=_RED, linestyle=style, linewidth=1, label=f"{label} ({level:.1%})")
        axes.set_xticks(places, [bar.label for bar in bars], rotation=35, ha="right", rotation_mode="anchor")
        axes.set_title(name, fontsize=10)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.spines[["top", "right"]].set_visible(False)
    all_axes[0].set_ylim(bottom=0)
    all_axes[0].set_ylabel(ylabel)
    if lines:
        _legend_below(figure, all_axes[0], _LEGEND_COLUMNS)
    return _save(figure, path)


def curves_picture(
    path: str | Path,
    curves: Mapping[str, Sequence[tuple[float, float, float]]],
    *,
    title: str,
    xlabel: str,
    ylabel: str,
    chance: float | None = None,
) -> Path:
    """Write a PNG with one curve for each name; returns `path`.

    Args:
        path: PNG to write.
        curves: (x, mean, half of the interval or NaN) by name.
        title: Heading.
        xlabel: What x is.
        ylabel: What the curves measure.
        chance: What guessing gets, where the curves are shares; None for other numbers, about zero.
    """
    columns = min(_LEGEND_COLUMNS, max(_LEGEND_WIDTH // max(map(len, curves), default=1), 1))
    figure = Figure(figsize=(7.5, 4.4 + 0.2 * -(-len(curves) // columns)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for number, (name, points) in enumerate(curves.items()):
        x, mean, half = (np.array(column, np.float64) for column in zip(*points, strict=True))
        color, style = _COLORS[number % len(_COLORS)], ("-", "--", ":")[number // len(_COLORS) % 3]
        marker = "o" if len(points) <= _MOST_MARKED else None
        axes.errorbar(x, mean, yerr=half, color=color, linestyle=style, marker=marker, ms=4, capsize=3, label=name)
    axes.axhline(chance or 0, color=_GREY, linestyle="--", linewidth=1, label="chance" if chance else None)
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.set_title(title)
    axes.grid(alpha=0.25)
    _legend_below(figure, axes, columns)
    axes.spines[["top", "right"]].set_visible(False)
    if chance is not None:
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    return _save(figure, path)


def _legend_below(figure: Figure, axes: Axes, columns: int) -> None:
    """Name what is drawn where nothing is."""
    names = axes.get_legend_handles_labels()
    figure.legend(*names, loc="outside lower center", ncols=columns, frameon=False, fontsize=8)


def _save(figure: Figure, path: str | Path) -> Path:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    return path
