"""The networks that measurements compare: of a checkpoint of pretraining, trained and as its run began."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from torch import nn

from tubeletx_train.common.checkpoint import CheckpointError, checkpoint_file, load_checkpoint, save_checkpoint
from tubeletx_train.common.errors import UsageError
from tubeletx_train.common.seeding import seed_everything
from tubeletx_train.config.data import DataConfig
from tubeletx_train.config.parse import config_from_checkpoint
from tubeletx_train.config.pretrain import PretrainConfig
from tubeletx_train.config.tree import default_settings, to_tree
from tubeletx_train.evaluation.embed import calibrate_batch_norm
from tubeletx_train.models import EmbeddingNet
from tubeletx_train.models.weights import build_from_settings

_KIND = "a checkpoint of `pretrain`"
_QUERY_NET = "query_net."


def load_pretraining(path: str | Path) -> tuple[PretrainConfig, dict[str, torch.Tensor]]:
    """Configuration and weights of a checkpoint, of a run's folder those of the newest.

    Raises:
        CheckpointError: It cannot be read, or is of something other than a pretraining.
    """
    path = checkpoint_file(path)
    state = load_checkpoint(path, ("config", "model"), _KIND)
    if "contrast" not in state["config"]:
        raise CheckpointError(f"{path}: not {_KIND}")
    return config_from_checkpoint(PretrainConfig, state, str(path)), state["model"]


def save_pretraining(config: PretrainConfig, net: nn.Module, path: Path) -> None:
    """Write the query network of a pretraining as `load_pretraining` and all that reads encoders take it.

    Args:
        config: Of the run.
        net: The run's networks; training cannot go on from what is written.
        path: The checkpoint.
    """
    weights = {name: value.cpu() for name, value in net.state_dict().items() if name.startswith(_QUERY_NET)}
    content = {"config": to_tree(config), "defaults": default_settings(config), "model": weights}
    save_checkpoint(content, path)


def held_out_data(trained: DataConfig, videos: str | None, split: str | None, num_workers: int) -> DataConfig:
    """How clips that were not trained on are drawn: as in training, from other videos, or other drawn ones for null.

    Raises:
        UsageError: Null, after training on videos.
    """
    if videos is not None:
        return dataclasses.replace(trained, source="videos", videos=videos, split=split, num_workers=num_workers)
    if trained.source == "videos":
        raise UsageError("videos: got null, needs a manifest or a folder of videos that were not trained on")
    return dataclasses.replace(trained, num_workers=num_workers)


def untrained_net(config: PretrainConfig, clips: torch.Tensor, device: torch.device | None = None) -> EmbeddingNet:
    """The query network as a run with this configuration begins, a fair baseline of what training brings.

    Args:
        config: Of the run; its seed draws the weights.
        clips: (N, 3, T, H, W) uint8, which batch norm's running statistics are taken from.
        device: Where the network shall live; None is the CPU.
    """
    seed_everything(config.run.seed)
    net = _net(config).to(device or torch.device("cpu"))
    calibrate_batch_norm(net, clips)
    return net


def trained_net(
    config: PretrainConfig, weights: dict[str, torch.Tensor], device: torch.device | None = None
) -> EmbeddingNet:
    """The query network of a checkpoint, see `load_pretraining`."""
    net = _net(config)
    own = {name[len(_QUERY_NET) :]: value for name, value in weights.items() if name.startswith(_QUERY_NET)}
    net.load_state_dict(own)
    return net.to(device or torch.device("cpu"))


def _net(config: PretrainConfig) -> EmbeddingNet:
    return EmbeddingNet(build_from_settings(config.model), config.model.dim)
