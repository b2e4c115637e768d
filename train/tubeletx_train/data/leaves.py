"""Pairs of drawn clips, for training without a video."""

from __future__ import annotations

import torch
from torch import Tensor

from tubeletx.ops import draw_leaves
from tubeletx_train.config.data import DataConfig
from tubeletx_train.data.drawn import DrawnDataset
from tubeletx_train.data.pairs import PairSample

# Of the middle of all clips.
_MIDDLE = 118.0


def level_out(clips: Tensor, spread: float) -> Tensor:
    """Bring the mean colours of clips closer to each other.

    A few large shapes decide the mean of a drawn clip, which then tells it from others before anything in it does.

    Args:
        clips: (B, 3, T, H, W) uint8.
        spread: Share of the distance from the middle that each clip's mean colour keeps.

    Returns:
        As `clips`, in the same memory order.
    """
    if spread == 1:
        return clips
    means = clips.float().mean((2, 3, 4), keepdim=True)
    return (clips - (1 - spread) * (means - _MIDDLE)).round_().clamp_(0, 255).to(torch.uint8)


class LeafPairs(DrawnDataset[PairSample]):
    """Pairs of clips of dead leaves, each a pure function of (seed, epoch, sample_id): two scenes, drawn as needed.

    Indexed by `(epoch, sample_id)`, as EpochSampler yields them; a plain integer means epoch 0. Another epoch has other
    scenes, so that no clip comes twice.

    Attributes:
        config: Data settings.
    """

    config: DataConfig

    def __init__(self, config: DataConfig, *, seed: int = 0) -> None:
        """Make a data set.

        Args:
            config: Data settings; `leaves`, `num_frames` and `crop_size` say how clips are drawn.
            seed: Seed of every draw, 0 or more.
        """
        if seed < 0:
            raise ValueError(f"seed: got {seed}, needs 0 or more")
        super().__init__(config, seed=seed, origin=None)

    def path(self, place: int) -> str:
        """Nothing is read."""
        raise IndexError(f"no video is read for pair {place}")

    @property
    def sample_bytes(self) -> int:
        """Of two clips."""
        return 2 * 3 * self.config.num_frames * self.config.crop_size**2

    def __len__(self) -> int:
        """Pairs in an epoch."""
        return self.config.leaves.pairs * self.config.samples_per_video

    def __getitem__(self, key: tuple[int, int] | int) -> PairSample:
        epoch, sample_id = key if isinstance(key, tuple) else (0, key)
        if not 0 <= sample_id < len(self):
            raise IndexError(f"sample_id: got {sample_id}, needs one in [0, {len(self)})")
        config, law = self.config, self.config.leaves
        scenes = (2 * sample_id, 2 * sample_id + 1)
        clips = draw_leaves(
            torch.tensor(scenes),
            num_frames=config.num_frames,
            height=config.crop_size,
            width=config.crop_size,
            seed=self._seed,
            epoch=epoch,
            num_leaves=law.num_leaves,
            radius=law.radius,
            motion=law.motion,
            camera=law.camera,
            turn=law.turn,
            growth=law.growth,
        )
        clip_1, clip_2 = level_out(clips, law.spread).permute(0, 2, 3, 4, 1)
        return PairSample(clip_1, clip_2, sample_id, epoch, scenes, [])
