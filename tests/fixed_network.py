"""A network whose features a test chooses, and pairs of noise for it."""

from __future__ import annotations

import torch
from torch import nn

from tubeletx_train.data import PairBatch


class Fixed(nn.Module):
    """A network that returns given features of a clip."""

    def __init__(self, feature):
        super().__init__()
        self.feature = feature
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, clip):
        return self.feature(clip)


def noise_batches(count, size=5, seed=0):
    """Batches of pairs of 8 x 32 x 32 noise."""
    generator = torch.Generator().manual_seed(seed)
    for number in range(count):
        clips = torch.randint(256, (2, size, 3, 8, 32, 32), dtype=torch.uint8, generator=generator)
        ids = torch.arange(size) + number * size
        yield PairBatch(clips[0], clips[1], ids, 0, torch.zeros(size, 2, dtype=torch.int64), [])
