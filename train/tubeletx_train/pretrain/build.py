"""Makes the parts of a run from its configuration."""

from __future__ import annotations

import torch

from tubeletx_train.config.pretrain import PretrainConfig
from tubeletx_train.engine.device import resolve_device
from tubeletx_train.models.weights import build_from_settings
from tubeletx_train.pretrain.moco import MoCo

__all__ = ["build_moco", "channels_last", "resolve_device"]


def build_moco(config: PretrainConfig) -> MoCo:
    """Networks and queue, on the CPU. Raises UsageError where the settings name no encoder."""
    return MoCo(
        build_from_settings(config.model),
        dim=config.model.dim,
        queue_size=config.contrast.queue_size,
        momentum=config.contrast.momentum,
        temperature=config.contrast.temperature,
        batch_negatives=config.contrast.batch_negatives,
        shuffle_keys=config.model.batch_norm == "shuffle",
    )


def channels_last(moco: MoCo) -> MoCo:
    """Lay the convolutions' weights out as the clips are, channels last; in place."""
    for parameter in moco.parameters():
        if parameter.dim() == 5:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last_3d)
    return moco
