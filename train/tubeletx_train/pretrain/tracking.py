"""Tracks as a task beside contrast: where each cell of the query clip's first frame goes, and when it is seen."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tubeletx.tubelets import Tubelets
from tubeletx_train.models import VideoEncoder


class TrackHead(nn.Module):
    """Predicts tracks from the features that an encoder has before it pools them.

    A cell of the grid takes the features of all time steps at its place, between places their bilinear mean; a
    perceptron of two layers, the first of which knows the cell, makes the cell's displacement and visibility in every
    frame of them.
    """

    across: Tensor
    down: Tensor

    def __init__(self, encoder: VideoEncoder, grid: tuple[int, int], *, num_frames: int, side: int) -> None:
        """Draws the weights.

        Args:
            encoder: Whose features it takes.
            grid: Rows and columns of cells that divide the frame evenly.
            num_frames: Frames T of a clip.
            side: Height and width of a clip, pixels.
        """
        super().__init__()
        self.grid, self.num_frames, self.side = grid, num_frames, side
        channels, steps, *places = _map_shape(encoder, num_frames, side)
        for name, cells, count in zip(("down", "across"), grid, places, strict=True):
            self.register_buffer(name, _between_places(cells, count), persistent=False)
        self.features = nn.Conv2d(channels * steps, channels, 1)
        self.cells = nn.Parameter(0.1 * torch.randn(channels, *grid))
        self.tracks = nn.Conv2d(channels, 3 * num_frames, 1)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Tracks by a feature map (B, F, T', h, w).

        Returns:
            Displacement from the cell's centre, [dx, dy] in cells, (B, rows, columns, T, 2), and the logit of being
            seen, (B, rows, columns, T); float32.
        """
        # Products of matrices, whose gradients a GPU sums in one order, as it does not those of `interpolate`.
        at_cells = self.down.to(features) @ features.flatten(1, 2) @ self.across.to(features).T
        hidden = (self.features(at_cells) + self.cells).relu()
        tracks = self.tracks(hidden).float().permute(0, 2, 3, 1).unflatten(3, (self.num_frames, 3))
        return tracks[..., :2], tracks[..., 2]

    def loss(self, features: Tensor, tubelets: Tubelets) -> tuple[Tensor, dict[str, Tensor]]:
        """Compare what is predicted with what the tubelets did.

        The displacement is asked for where a cell shows a tubelet, in the frames in which that is seen: how the video
        behind them moves is not known. Visibility is asked for everywhere, of the background's cells whether a tubelet
        covers their place.

        Args:
            features: (B, F, T', h, w), of the clips that the tubelets were pasted on.
            tubelets: B of them, of T frames.

        Returns:
            (B,) float32, the Huber loss of the distance in cells, averaged over what is asked for, and the mean binary
            cross-entropy of visibility; and detached scalars: "track_error", the mean distance as a share of that by
            which the same points moved, so that 1 is what predicting rest comes to.
        """
        displacement, seen = self(features)
        places, visibility, owner = tubelets.tracks(self.grid)
        rows, columns = self.grid
        moved = places - places[..., :1, :]
        moved = torch.stack((moved[..., 0] * (columns / self.side), moved[..., 1] * (rows / self.side)), dim=-1)
        weight = visibility * (owner >= 0)[..., None]
        off = F.huber_loss(displacement, moved, reduction="none").sum(-1)
        by_distance = (off * weight).flatten(1).sum(1) / weight.flatten(1).sum(1).clamp(min=1)
        by_sight = F.binary_cross_entropy_with_logits(seen, visibility, reduction="none").flatten(1).mean(1)
        with torch.no_grad():
            error = ((displacement - moved).norm(dim=-1) * weight).sum()
            rest = (moved.norm(dim=-1) * weight).sum().clamp(min=1e-6)
        return by_distance + by_sight, {"track_error": error / rest}


@torch.no_grad()
def _map_shape(encoder: VideoEncoder, num_frames: int, side: int) -> torch.Size:
    """Channels, time steps, height and width of an encoder's feature map, without running it."""
    without_values = copy.deepcopy(encoder).to("meta").eval()
    return without_values.feature_map(torch.empty(1, 3, num_frames, side, side, device="meta")).shape[1:]


def _between_places(cells: int, places: int) -> Tensor:
    """The bilinear weights (cells, places) of places that divide a side evenly at the centres of cells that do."""
    return F.interpolate(torch.eye(places)[None], size=cells, mode="linear", align_corners=False)[0].T.contiguous()
