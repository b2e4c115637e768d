"""Where the pairs of a pretraining come from: decoded for each step, or out of a bank of decoded clips."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from tubeletx_train.common.distributed import Ranks
from tubeletx_train.common.errors import UsageError
from tubeletx_train.config.pretrain import PretrainConfig
from tubeletx_train.data import BadVideoTracker, DataConfig, PairBatch, VideoRecord, pair_dataset
from tubeletx_train.data.bank import BankLoader, DecodedClipDataset
from tubeletx_train.data.loader import EpochLoader, collate_pairs
from tubeletx_train.data.pairs import Mode
from tubeletx_train.engine.run import RunContext


def pair_batches(
    config: PretrainConfig, videos: Sequence[VideoRecord], run: RunContext, bad_videos: BadVideoTracker
) -> EpochLoader[PairBatch] | BankLoader:
    """The batches of a run.

    Raises:
        UsageError: The batch does not divide among the processes, or pairs of one video are to come from a bank.
    """
    seed, size, mode = config.run.seed, config.optim.batch_size, config.contrast.mode
    if config.data.reuse > 1:
        return bank_loader(config.data, mode, videos, bad_videos, size, seed, run.ranks, run.device)
    return EpochLoader(pair_dataset(videos, config.data, seed=seed, mode=mode), collate_pairs, bad_videos, size, run)


def bank_loader(
    config: DataConfig,
    mode: Mode,
    videos: Sequence[VideoRecord],
    bad_videos: BadVideoTracker,
    batch_size: int,
    seed: int,
    ranks: Ranks,
    device: torch.device,
) -> BankLoader:
    """Batches out of a bank.

    Raises:
        UsageError: The batch does not divide among the processes, or pairs are of one video.
    """
    if mode == "temporal":
        raise UsageError(
            f'data.reuse: got {config.reuse}, needs 1 in contrast.mode "temporal", whose pairs are of one video'
        )
    return BankLoader(
        DecodedClipDataset(videos, config, seed=seed),
        bad_videos,
        batch_size=batch_size,
        seed=seed,
        ranks=ranks,
        device=device,
    )
