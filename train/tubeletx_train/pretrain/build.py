"""Makes the parts of a run from its configuration."""

from __future__ import annotations

import torch

from tubeletx_train.config.pretrain import PretrainConfig
from tubeletx_train.engine.device import resolve_device
from tubeletx_train.models import build_encoder
from tubeletx_train.pretrain.moco import MoCo

__all__ = ["build_moco", "channels_last", "resolve_device"]


def build_moco(config: PretrainConfig) -> MoCo:
    """Networks and queue, on the CPU."""
    return MoCo(
        build_encoder(
            config.model.encoder, config.model.width, config.model.temporal_strides, config.model.batch_norm_eps
        ),
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
