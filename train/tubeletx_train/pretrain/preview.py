"""Pictures of the pairs that a configuration trains on."""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass, field
from pathlib import Path

import torch

from tubeletx.config import TubeletConfig
from tubeletx_train.common.distributed import Ranks
from tubeletx_train.common.files import explain_full_disk, writable_folder
from tubeletx_train.common.limits import require_at_least, require_seed
from tubeletx_train.config.pretrain import ContrastConfig
from tubeletx_train.data import (
    ColorConfig,
    DataConfig,
    EpochSampler,
    PairBatch,
    build_loader,
    pair_dataset,
    prepare_videos,
)
from tubeletx_train.data.bank import BankBatch
from tubeletx_train.figures import animation, contact_sheet
from tubeletx_train.pretrain.batches import bank_loader
from tubeletx_train.pretrain.views import PairViews

_log = logging.getLogger(__name__)


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
        require_seed(self)


def preview(config: PreviewConfig) -> list[Path]:
    """Write `contact_sheet.png` and `animation.gif`; returns their paths.

    Raises:
        UsageError: The videos cannot be read, or the pictures not written.
    """
    output = writable_folder(config.output)
    # Colours come later in training, and would hide what the pictures are for.
    views = PairViews(config.contrast, config.tubelets, ColorConfig(probability=0), seed=config.seed)(_pairs(config))
    sheet, film = output / "contact_sheet.png", output / "animation.gif"
    with explain_full_disk(output):
        return [contact_sheet(sheet, views, max_pairs=config.pairs), animation(film, views, max_pairs=config.pairs)]


def _pairs(config: PreviewConfig) -> PairBatch | BankBatch:
    """The first pairs of a run of this seed; where clips are used again, the first out of as small a bank as can be."""
    data = dataclasses.replace(config.data, num_workers=0, bank_clips=2 * config.pairs)
    videos, bad_videos = prepare_videos(data)
    mode = config.contrast.mode
    if data.reuse > 1:
        _log.info("data.reuse %d: pairs as a bank gives them, of %d clips alone", data.reuse, data.bank_clips)
        bank = bank_loader(data, mode, videos, bad_videos, config.pairs, config.seed, Ranks(), torch.device("cpu"))
        return next(bank.batches(0, 1))
    dataset = pair_dataset(videos, data, seed=config.seed, mode=mode)
    (batch,) = build_loader(dataset, EpochSampler(len(dataset), config.pairs, seed=config.seed, stop=1))
    return batch
