"""Training curves from a JSON-lines log."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.ticker import PercentFormatter

from tubeletx_train.figures.sheet import new_figure, save_figure


def training_curves(log: str | Path, path: str | Path, *, title: str = "Pretraining") -> Path:
    """Draw loss and contrastive top-1 over steps, raw and smoothed.

    Args:
        log: JSON lines with "step", "loss" and "top1" (a share in [0, 1]); lines without them are passed over, and a
            step that was logged again after a resume counts as it was last.
        path: PNG to write; parent folders are made.
        title: Heading.

    Returns:
        `path`.

    Raises:
        ValueError: The log holds no loss.
    """
    figure = new_figure(10, 4)
    figure.suptitle(title, fontsize=14)
    left, right = figure.subplots(1, 2)
    panels = ((left, "loss", "InfoNCE loss", "#c44e52"), (right, "top1", "contrastive top-1", "#2f6fb0"))
    for axes, name, label, color in panels:
        steps, values = _series(Path(log), name)
        if name == "loss" and not len(steps):
            raise ValueError(f"{log}: no line holds both 'step' and 'loss'")
        axes.plot(steps, values, color=color, alpha=0.3, linewidth=1, label="logged")
        axes.plot(steps, smooth(values), color=color, linewidth=2, label="smoothed")
        axes.set_xlabel("step")
        axes.set_ylabel(label)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
    right.set_ylim(bottom=0)
    right.yaxis.set_major_formatter(PercentFormatter(1.0))
    return save_figure(figure, path)


def _series(log: Path, name: str) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Steps and finite values of one field, by step."""
    found: dict[float, float] = {}
    for line in log.read_text(encoding="utf-8").splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue  # the last line of a run that was killed may be cut off
        if not isinstance(entry, dict):
            continue
        step, value = entry.get("step"), entry.get(name)
        if isinstance(step, int) and isinstance(value, int | float) and math.isfinite(value):
            found[step] = value
    steps = sorted(found)
    return np.array(steps, np.float64), np.array([found[step] for step in steps], np.float64)


def smooth(values: npt.NDArray[np.float64], share: float = 0.05) -> npt.NDArray[np.float64]:
    """Gaussian average whose standard deviation is a share of the length; weights are renormalised at the ends."""
    if len(values) < 3:
        return values
    sigma = max(share * len(values), 1.0)
    radius = min(round(3 * sigma), len(values) - 1)
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    middle = slice(radius, radius + len(values))
    weights = np.convolve(np.ones_like(values), kernel)[middle]
    average: npt.NDArray[np.float64] = np.convolve(values, kernel)[middle] / weights
    return average
