"""Pictures of the pairs that a configuration trains on."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

from tubeletx.config import TubeletConfig
from tubeletx_train.common.files import explain_full_disk, writable_folder
from tubeletx_train.common.limits import require_at_least
from tubeletx_train.config.pretrain import ContrastConfig
from tubeletx_train.data import ColorConfig, DataConfig, EpochSampler, build_loader, pair_dataset, prepare_videos
from tubeletx_train.figures import animation, contact_sheet
from tubeletx_train.pretrain.views import PairViews, Views


@dataclass(frozen=True)
class PreviewConfig:
    """Settings of a preview: those of a pretraining, whose first pairs are shown.

    Attributes:
        data: What is read and how clips are drawn.
        tubelets: How tubelets look and move.
        contrast: What is contrasted with what: backgrounds, patches and places of the pairs follow from it.
        output: Folder for the pictures.
        pairs: Pairs shown.
        seed: Seed of everything drawn.
    """

    data: DataConfig
    tubelets: TubeletConfig = field(default_factory=TubeletConfig)
    contrast: ContrastConfig = field(default_factory=ContrastConfig)
    output: str = "preview"
    pairs: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        require_at_least(self, 1, "pairs")
        require_at_least(self, 0, "seed")


def preview(config: PreviewConfig) -> list[Path]:
    """Write `contact_sheet.png` and `animation.gif`; returns their paths.

    Raises:
        UsageError: The videos cannot be read, or the pictures not written.
    """
    output = writable_folder(config.output)
    data = dataclasses.replace(config.data, num_workers=0)
    videos, _ = prepare_videos(data)
    dataset = pair_dataset(videos, data, seed=config.seed, mode=config.contrast.mode)
    sampler = EpochSampler(len(dataset), config.pairs, seed=config.seed, stop=1)
    (batch,) = build_loader(dataset, sampler)
    # Colours come later in training, and would hide what the pictures are for.
    views = PairViews(config.contrast, config.tubelets, ColorConfig(probability=0), seed=config.seed)(batch)
    sheet, film = output / "contact_sheet.png", output / "animation.gif"
    with explain_full_disk(output):
        return [draw_pairs(views, sheet, config.pairs), animate_pairs(views, film, config.pairs)]


def draw_pairs(views: Views, path: Path, max_pairs: int = 4) -> Path:
    """A contact sheet of pairs as they are trained on, before colour; returns its path."""
    return contact_sheet(
        path, views.clip_1, views.clip_2, views.tubelets, key_tubelets=views.key_tubelets, max_pairs=max_pairs
    )


def animate_pairs(views: Views, path: Path, max_pairs: int = 4) -> Path:
    """The same as an animation."""
    return animation(
        path, views.clip_1, views.clip_2, views.tubelets, key_tubelets=views.key_tubelets, max_pairs=max_pairs
    )
