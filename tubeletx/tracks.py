"""Exact motion of what a clip with tubelets shows, on a grid of cells."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from tubeletx.ops._arguments import require_integers

__all__ = ["Flow", "Tracks", "cell_centers", "check_grid"]


class Tracks(NamedTuple):
    """Points through all frames of a clip; ... stands for the axes of the points.

    Attributes:
        places: [x, y] in each frame, continuous pixels; (B, ..., T, 2) float32.
        visibility: Share of the colour there that is the point's surface's: 1 in full sight, 0 hidden or outside of the
            image; (B, ..., T) float32.
        owner: Tubelet that the point belongs to, -1 for the background; (B, ...) int32.
    """

    places: Tensor
    visibility: Tensor
    owner: Tensor


class Flow(NamedTuple):
    """Motion of each cell of a grid from each frame to another one.

    Attributes:
        displacement: [dx, dy] from the cell's centre, pixels; (B, T, rows, columns, 2) float32.
        visibility: How much of it shows in the other frame, as in `Tracks`; (B, T, rows, columns) float32.
        owner: Tubelet that the cell's centre shows, -1 for the background; (B, T, rows, columns) int32.
    """

    displacement: Tensor
    visibility: Tensor
    owner: Tensor


def check_grid(grid: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of cells, in integers."""
    counts = require_integers(grid, "grid")
    if len(counts) != 2 or min(counts) < 1:
        raise ValueError(f"grid: got {counts}, needs (rows, columns), each at least 1")
    return counts[0], counts[1]


def cell_centers(grid: tuple[int, int], height: int, width: int, device: torch.device) -> Tensor:
    """Centres of `grid`, rows and columns of cells that divide a frame evenly; (rows * columns, 2), [x, y]."""
    rows, columns = (
        (torch.arange(count, device=device, dtype=torch.float32) + 0.5) * (size / count)
        for count, size in zip(grid, (height, width), strict=True)
    )
    return torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1).flatten(0, 1)
