"""What networks say about clips, in memory or as views of videos: one pass in evaluation mode, and its cache."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from tubeletx_train.common.checkpoint import checkpoint_file, load_checkpoint, save_checkpoint
from tubeletx_train.common.distributed import Ranks
from tubeletx_train.common.files import file_digest
from tubeletx_train.config.labelled import EvaluateConfig, LabelledDataConfig
from tubeletx_train.config.tree import to_tree
from tubeletx_train.data import BadVideo, VideoRecord, build_clip_loader, normalize
from tubeletx_train.data.labelled import ViewDataset, collate_views
from tubeletx_train.data.table import fingerprint
from tubeletx_train.models.classifier import SCRATCH, PretrainedEncoder

_logger = logging.getLogger(__name__)

# What decides which pixels a view shows.
_VIEW_SETTINGS = (
    "num_frames",
    "fps",
    "stride",
    "short",
    "crop_size",
    "decode_size",
    "test_clips",
    "test_crops",
    "test_crop_share",
    "mean",
    "std",
    "reader",
)


@contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """While a network is in evaluation mode and takes no gradient; it is left in the mode it was in."""
    was_training = net.training
    net.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        net.train(was_training)


def embed(net: nn.Module, clips: Tensor, batch_size: int = 64) -> Tensor:
    """Outputs of a network in evaluation mode, on the CPU.

    Args:
        net: (B, 3, T, H, W) normalised floats to (B, D); left in the mode it was in.
        clips: uint8 (N, 3, T, H, W), on any device.
        batch_size: Clips a pass.
    """
    with evaluating(net):
        return torch.cat([net(batch).float().cpu() for batch in _normalized(net, clips, batch_size)])


def embed_videos(net: nn.Module, clips: Tensor) -> Tensor:
    """Mean output of each video's clips, uint8 (N, V, 3, T, H, W) to (N, D), as `embed`; a video is a pass."""
    device = next(net.parameters()).device
    with evaluating(net):
        return torch.stack([net(normalize(video.to(device))).float().mean(0).cpu() for video in clips])


def _normalized(net: nn.Module, clips: Tensor, batch_size: int) -> Iterator[Tensor]:
    device = next(net.parameters()).device
    starts = range(0, len(clips), batch_size)
    for start in tqdm(starts, "running the network", unit="batch", leave=False, disable=None):
        yield normalize(clips[start : start + batch_size].to(device))


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


@dataclass(frozen=True)
class ViewOutputs:
    """Outputs of a network.

    Attributes:
        values: (N, D) float32 on the CPU, a row for each view.
        places: (N,) int64, the record that each view is of.
        unreadable: Videos without a view.
    """

    values: Tensor
    places: Tensor
    unreadable: list[BadVideo]


def embed_views(
    net: nn.Module,
    records: Sequence[VideoRecord],
    config: LabelledDataConfig,
    *,
    device: torch.device,
    batch_size: int,
    precision: str = "float32",
    ranks: Ranks | None = None,
    progress: str | None = None,
) -> ViewOutputs | None:
    """Put all views of all videos through a network in evaluation mode.

    Args:
        net: Normalised clips to (B, D); left in the mode it was in.
        records: Checked videos.
        config: Which views they give.
        device: Of the network.
        batch_size: Views at a time.
        precision: "float32", "bfloat16" or "float16".
        ranks: Processes that share the videos; None is this one alone.
        progress: Title of a progress bar.

    Returns:
        The outputs, on the main process; elsewhere None.
    """
    ranks = ranks or Ranks()
    dataset = ViewDataset(records, config)
    own = range(ranks.rank, len(records), ranks.world_size)
    at_once = max(batch_size // config.views, 1)
    batches = [list(own[start : start + at_once]) for start in range(0, len(own), at_once)]
    loader = build_clip_loader(dataset, batches, collate_views, pin_memory=device.type == "cuda")
    autocast = nullcontext() if precision == "float32" else torch.autocast(device.type, getattr(torch, precision))
    values: list[Tensor] = []
    places: list[Tensor] = []
    bad: list[BadVideo] = []
    hidden = True if progress is None or not ranks.is_main else None
    with evaluating(net):
        for batch in tqdm(loader, progress, len(batches), unit="batch", disable=hidden, leave=False):
            for clip in torch.split(batch.clip, batch_size):
                with autocast:
                    seen = normalize(clip.to(device, non_blocking=True), normalization=config.normalization)
                    values.append(net(seen).float().cpu())
            places.append(batch.places)
            bad += batch.bad
    parts = ranks.gather((torch.cat(values) if values else None, torch.cat(places) if places else None, bad))
    if not ranks.is_main:
        return None
    return ViewOutputs(
        torch.cat([part[0] for part in parts if part[0] is not None]),
        torch.cat([part[1] for part in parts if part[1] is not None]),
        [video for part in parts for video in part[2]],
    )


def by_video(values: Tensor, places: Tensor, reduce: str) -> tuple[Tensor, Tensor]:
    """Bring the views of each video together.

    Args:
        values: (N, D).
        places: (N,), the video of each row.
        reduce: "mean" or "amax".

    Returns:
        (V, D) values and (V,) places of those videos that have a view.
    """
    videos, row = torch.unique(places, return_inverse=True)
    empty = values.new_zeros(len(videos), values.shape[1])
    index = row[:, None].expand_as(values)
    return empty.scatter_reduce(0, index, values, reduce, include_self=False), videos


def cached_features(
    pretrained: PretrainedEncoder,
    records: Sequence[VideoRecord],
    config: EvaluateConfig,
    device: torch.device,
    title: str,
) -> ViewOutputs:
    """Pooled features of every view, from `config.features` where they are there already.

    The encoder is in evaluation mode: batch norms use their running statistics, and keep them.

    Args:
        pretrained: Encoder, on the device.
        records: Checked videos.
        config: Settings.
        device: Of the encoder.
        title: Of the progress bar.
    """
    path = Path(config.features) / f"{_key(pretrained, records, config)}.pt"
    if path.is_file():
        _logger.info("features of %d %s: %s", len(records), title, path)
        kept = load_checkpoint(path)
        return ViewOutputs(kept["values"], kept["places"], [BadVideo(*video) for video in kept["unreadable"]])
    outputs = embed_views(
        pretrained.encoder,
        records,
        config.data,
        device=device,
        batch_size=config.batch_size,
        precision=config.precision,
        progress=f"features of {title}",
    )
    assert outputs is not None
    if not outputs.unreadable:  # a file may read better next time
        save_checkpoint({"values": outputs.values, "places": outputs.places, "unreadable": []}, path)
    return outputs


def _key(pretrained: PretrainedEncoder, records: Sequence[VideoRecord], config: EvaluateConfig) -> str:
    """A name for the features of these weights on these views."""
    weights = (
        f"{SCRATCH} {config.seed}" if config.checkpoint == SCRATCH else file_digest(checkpoint_file(config.checkpoint))
    )
    views = {name: getattr(config.data, name) for name in _VIEW_SETTINGS}
    parts = [weights, fingerprint(records), views, to_tree(pretrained.settings), config.precision]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:20]
