"""A picture of what was counted in a video."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
from torch import Tensor

from tubeletx_train.figures.sheet import new_figure, save_figure
from tubeletx_train.repetition.count import Count, cycle_marks

# Numbers of thumbnails to choose from.
_THUMBNAILS = range(9, 15)
_COLORS = ("#2f6fb0", "#e08a1e")


def count_picture(path: str | Path, frames: Tensor, count: Count, *, title: str, stride: int = 1) -> Path:
    """Write a PNG: the video as a film strip, its repetitions marked off below, and their lengths over time.

    Args:
        path: Where to; parent folders are made.
        frames: (N, S, S, 3) uint8.
        count: Of these frames.
        title: The video's name.
        stride: Frames of the file from one of `frames` to the next.

    Returns:
        `path`.
    """
    figure = new_figure(11, 4)
    figure.suptitle(f"{title}: {count.count} repetition{'' if count.count == 1 else 's'}", fontsize=14)
    strip, cycles, lengths = figure.subplots(3, 1, height_ratios=(3, 0.8, 3), sharex=True)
    end = count.num_frames * stride
    thumbnails = _num_thumbnails(count.count)
    shown = ((np.arange(thumbnails) + 0.5) / thumbnails * count.num_frames).astype(int)
    film = np.concatenate([frames[index].cpu().numpy() for index in shown.tolist()], axis=1)
    strip.imshow(film, extent=(0, end, 0, 1), aspect="auto", interpolation="bilinear")
    strip.set_axis_off()
    edges = [mark * stride for mark in cycle_marks(count)]
    edges = [0.0, *(edge for edge in edges if 0 < edge < end), float(end)]
    for index, (left, right) in enumerate(itertools.pairwise(edges)):
        cycles.axvspan(left, right, color=_COLORS[index % 2], alpha=0.55, linewidth=0)
    cycles.set_yticks([])
    cycles.set_ylabel("cycles", rotation=0, ha="right", va="center")
    cycles.spines[:].set_visible(False)
    middles, values, inside = (x.cpu().numpy() for x in (count.middles, count.lengths, count.inside))
    for side, name in enumerate(("before", "after")):
        used = inside[:, side]
        lengths.plot(
            middles[used] * stride, values[used, side] * stride, "o-", ms=4, color=_COLORS[side], label=f"cycle {name}"
        )
    lengths.set_ylim(0, 1.2 * stride * max(values[inside].max(initial=0), 1))
    lengths.set_xlim(0, end)
    lengths.set_xlabel("frame")
    lengths.set_ylabel("frames a cycle")
    lengths.grid(alpha=0.25)
    lengths.spines[["top", "right"]].set_visible(False)
    lengths.legend(frameon=False, ncols=2, loc="lower right")
    return save_figure(figure, path, dpi=110)


def _num_thumbnails(repetitions: int) -> int:
    """One that shows all phases: thumbnails a whole number of repetitions apart would all look the same."""
    return max(_THUMBNAILS, key=lambda number: abs(repetitions / number - round(repetitions / number)))
