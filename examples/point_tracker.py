"""A point tracker trained on clips whose motion is known exactly: tubelets over noise, with their own tracks as labels.

The network is the core of today's trackers: features of every frame, the correlation of a point's feature with each
place of each frame, and from it the place and whether the point is seen. Run: python examples/point_tracker.py [toy]
"""

import sys

import torch
from torch import Tensor, nn
from torch.nn import functional

from tubeletx import TubeletConfig, TubeletSampler


class Tracker(nn.Module):
    """Follows points of the first frame by what they look like."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv3d(3, width, (1, 5, 5), stride=(1, 2, 2), padding=(0, 2, 2)),
            nn.ReLU(),
            nn.Conv3d(width, width, (1, 3, 3), padding=(0, 1, 1)),
        )
        self.sharpness = nn.Parameter(torch.tensor(40.0))
        self.seen = nn.Linear(1, 1)

    def forward(self, clips: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        """Places (B, N, T, 2) in pixels and logits of visibility (B, N, T) of points (B, N, 2) of the first frame."""
        size = torch.tensor([clips.shape[-1], clips.shape[-2]])
        features = functional.normalize(self.features(clips), dim=1)  # (B, D, T, h, w)
        at_points = functional.grid_sample(features[:, :, 0], (2 * points / size - 1)[:, :, None], align_corners=False)
        scores = torch.einsum("bdn,bdthw->bnthw", functional.normalize(at_points[..., 0], dim=1), features)
        weights = (self.sharpness * scores).flatten(3).softmax(-1).unflatten(3, scores.shape[3:])
        rows, columns = ((torch.arange(count) + 0.5) / count for count in scores.shape[3:])
        share = torch.stack(((weights.sum(3) * columns).sum(-1), (weights.sum(4) * rows).sum(-1)), dim=-1)
        return share * size, self.seen(scores.flatten(3).amax(-1, keepdim=True))[..., 0]


def main(toy: bool) -> list[float]:
    """Trains on new clips at every step; returns the mean error of visible points of tubelets, pixels, at each."""
    torch.manual_seed(0)
    batch, frames, side, steps = (4, 4, 32, 40) if toy else (8, 16, 96, 300)
    sampler = TubeletSampler(TubeletConfig.preset("paper", transforms=()), seed=0)
    tracker = Tracker(16 if toy else 64)
    optimizer = torch.optim.AdamW(tracker.parameters(), lr=5e-3)
    errors = []
    for step in range(steps):
        ids = torch.arange(batch) + step * batch
        tubelets = sampler(ids, num_frames=frames, height=side, width=side)
        still = functional.interpolate(torch.rand(batch, 3, side // 4, side // 4), size=(side, side))
        clips = still[:, :, None].repeat(1, 1, frames, 1, 1)
        noise = torch.rand(batch, tubelets.num_tubelets, 3, *tubelets.max_patch_size)
        tubelets.paste([clips], noise, inplace=True)

        places, visibility, owner = (part.flatten(1, 2) for part in tubelets.tracks((8, 8)))
        found, seen = tracker(clips, places[:, :, 0])
        distance = functional.huber_loss(found, places, delta=4.0, reduction="none").sum(-1)
        place_loss = (distance * visibility).sum() / visibility.sum()
        loss = 0.1 * place_loss + functional.binary_cross_entropy_with_logits(seen, visibility)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

        moving = visibility * (owner >= 0)[..., None]
        errors.append((((found - places).norm(dim=-1) * moving).sum() / moving.sum()).item())
        if step % 10 == 9:
            print(f"step {step + 1}: {sum(errors[-10:]) / 10:.2f} pixels off on moving points")
    return errors


if __name__ == "__main__":
    main(toy="toy" in sys.argv[1:])
