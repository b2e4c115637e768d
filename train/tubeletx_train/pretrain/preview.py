"""Pictures of what a configuration makes of a folder of videos."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

from tubeletx.config import TubeletConfig
from tubeletx.pair import TubeletPair
from tubeletx_train.data import DataConfig, EpochSampler, PairDataset, build_loader, prepare_videos
from tubeletx_train.engine.limits import require_at_least
from tubeletx_train.engine.output import writable_folder
from tubeletx_train.figures import animation, contact_sheet


@dataclass(frozen=True)
class PreviewConfig:
    """Settings of a preview.

    Attributes:
        data: What is read and how clips are drawn.
        tubelets: How tubelets look and move.
        output: Folder for the pictures.
        pairs: Pairs shown.
        seed: Seed of everything drawn.
    """

    data: DataConfig
    tubelets: TubeletConfig = field(default_factory=TubeletConfig)
    output: str = "preview"
    pairs: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        require_at_least(self, 1, "pairs")


def preview(config: PreviewConfig) -> list[Path]:
    """Write `contact_sheet.png` and `animation.gif`; returns their paths."""
    output = writable_folder(config.output)
    data = dataclasses.replace(config.data, num_workers=0)
    videos, _ = prepare_videos(data)
    dataset = PairDataset(videos, data, seed=config.seed)
    sampler = EpochSampler(len(dataset), config.pairs, seed=config.seed, stop=1)
    (batch,) = build_loader(dataset, sampler)
    pair = TubeletPair(config.tubelets, seed=config.seed)
    clips = pair(batch.clip_1, batch.clip_2, batch.sample_ids, epoch=batch.epoch)
    return [
        contact_sheet(output / "contact_sheet.png", *clips, max_pairs=config.pairs),
        animation(output / "animation.gif", *clips, max_pairs=config.pairs),
    ]
