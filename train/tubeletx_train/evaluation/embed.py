"""Batches of videos that were not trained on, and their embeddings."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from tqdm import tqdm

from tubeletx_train.data import (
    DataConfig,
    EpochSampler,
    NoUsableVideos,
    PairBatch,
    PairDataset,
    VideoRecord,
    build_loader,
    normalize,
)


def held_out_batches(
    videos: Sequence[VideoRecord], config: DataConfig, *, count: int, batch_size: int = 64, seed: int = 0
) -> Iterator[PairBatch]:
    """At least `count` tubelet pairs in batches, every one a function of the seed and its place.

    Args:
        videos: Checked videos, as `prepare_videos` returns them.
        config: How clips are drawn from them.
        count: Pairs needed; the last batch may bring more.
        batch_size: Pairs a batch.
        seed: Seed of the draws.
    """
    if not videos:
        raise NoUsableVideos("there are no held-out videos to evaluate on")
    # Each video is visited often enough that no epoch is smaller than a batch.
    visits = max(config.samples_per_video, -(-batch_size // len(videos)))
    dataset = PairDataset(videos, dataclasses.replace(config, samples_per_video=visits), seed=seed)
    sampler = EpochSampler(len(dataset), batch_size, seed=seed, stop=-(-count // batch_size))
    batches = -(-count // batch_size)
    yield from tqdm(build_loader(dataset, sampler), "reading clips", batches, unit="batch", leave=False, disable=None)


@torch.no_grad()
def embed(net: nn.Module, clips: Tensor, batch_size: int = 64) -> Tensor:
    """Outputs of a network in evaluation mode, on the CPU.

    Args:
        net: (B, 3, T, H, W) normalised floats to (B, D); left in the mode it was in.
        clips: uint8 (N, 3, T, H, W), on any device.
        batch_size: Clips a pass.
    """
    was_training = net.training
    net.eval()
    try:
        return torch.cat([net(batch).float().cpu() for batch in _normalized(net, clips, batch_size)])
    finally:
        net.train(was_training)


def _normalized(net: nn.Module, clips: Tensor, batch_size: int) -> Iterator[Tensor]:
    device = next(net.parameters()).device
    starts = range(0, len(clips), batch_size)
    for start in tqdm(starts, "running the network", unit="batch", leave=False, disable=None):
        yield normalize(clips[start : start + batch_size].to(device))


def mean_and_spread(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample standard deviation (0 of a single value)."""
    tensor = torch.tensor(values, dtype=torch.float64)
    return tensor.mean().item(), tensor.std().item() if len(values) > 1 else 0.0


@torch.no_grad()
def calibrate_batch_norm(net: nn.Module, clips: Tensor, batch_size: int = 64) -> None:
    """Replace running statistics of batch norm by averages over uint8 clips (N, 3, T, H, W).

    An untrained network has none worth the name; with these it is a fair baseline.
    """
    norms = [module for module in net.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    was_training = net.training
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a cumulative average
    net.train()
    for batch in _normalized(net, clips, batch_size):
        net(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    net.train(was_training)
