"""From decoded pairs to what the networks see: still backgrounds, tubelets, own negatives, colour."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tubeletx.config import TubeletConfig
from tubeletx.pair import TubeletPair
from tubeletx.sampler import TubeletSampler
from tubeletx.tubelets import Tubelets
from tubeletx_train.config.pretrain import ContrastConfig
from tubeletx_train.data import ColorConfig, ColorJitterNormalize, PairBatch

# Tubelets drawn for own negatives must differ from those of the pairs, whatever the run's seed.
_RESAMPLING_SEED = 0x5EED


@dataclass
class Views:
    """The clips of one step.

    Attributes:
        query: (B, 3, T, H, W) normalised floats.
        key: Likewise, the positives.
        own_negative: Likewise, one more negative for each row, or None.
        clip_1: The query clips as uint8, before colour.
        clip_2: The key clips likewise.
        tubelets: What was pasted; None in mode "temporal".
    """

    query: Tensor
    key: Tensor
    own_negative: Tensor | None
    clip_1: Tensor
    clip_2: Tensor
    tubelets: Tubelets | None


class PairViews(nn.Module):
    """Makes the views of a batch on its device; every draw depends on (seed, epoch, sample id) alone."""

    def __init__(self, contrast: ContrastConfig, tubelets: TubeletConfig, color: ColorConfig, *, seed: int = 0) -> None:
        super().__init__()
        self.config = contrast
        self.pair = TubeletPair(tubelets, seed=seed)
        self.other_paths = TubeletSampler(tubelets, seed=seed ^ _RESAMPLING_SEED)
        self.color = ColorJitterNormalize(color, seed=seed)

    @torch.no_grad()
    def forward(self, batch: PairBatch) -> Views:
        """Views of a batch whose tensors lie on the device of choice."""
        clip_1, clip_2 = batch.clip_1, batch.clip_2
        if self.config.still_background:
            clip_1, clip_2 = freeze(clip_1), freeze(clip_2)
        tubelets: Tubelets | None = None
        own: Tensor | None = None
        if self.config.mode == "tubelet":
            plain_1, plain_2 = clip_1, clip_2
            clip_1, clip_2, tubelets = self.pair(plain_1, plain_2, batch.sample_ids, epoch=batch.epoch)
            if self.config.own_negatives != "none":
                moved = self._moved(tubelets, batch, plain_1)
                (own,) = moved.paste([plain_2], moved.crop(plain_1))
        elif self.config.own_negatives == "reversed":
            own = clip_2.flip(2)

        def colored(clip: Tensor, which: int) -> Tensor:
            jittered: Tensor = self.color(clip, batch.sample_ids, epoch=batch.epoch, which=which)
            return jittered

        return Views(
            query=colored(clip_1, 0),
            key=colored(clip_2, 1),
            # Its colours are the key's, so that they give nothing away.
            own_negative=None if own is None else colored(own, 1),
            clip_1=clip_1,
            clip_2=clip_2,
            tubelets=tubelets,
        )

    def _moved(self, tubelets: Tubelets, batch: PairBatch, clip: Tensor) -> Tubelets:
        """The same patches in another motion."""
        if self.config.own_negatives == "reversed":
            return tubelets.reversed()
        num_frames, height, width = clip.shape[2:]
        other = self.other_paths(batch.sample_ids, num_frames=num_frames, height=height, width=width, epoch=batch.epoch)
        return dataclasses.replace(tubelets, centers=other.centers, linear=other.linear)


def freeze(clip: Tensor) -> Tensor:
    """A clip (B, C, T, H, W) whose every frame is its first, channels_last_3d."""
    return clip[:, :, :1].expand_as(clip).contiguous(memory_format=torch.channels_last_3d)
