"""Makes the parts of a run from its configuration."""

from __future__ import annotations

import torch

from tubeletx_train.config.pretrain import OptimConfig, PretrainConfig
from tubeletx_train.engine.errors import UsageError
from tubeletx_train.models import build_encoder
from tubeletx_train.pretrain.moco import MoCo


def resolve_device(name: str) -> torch.device:
    """The device of a name; "auto" is CUDA where there is one. Raises UsageError for one that is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"device {name!r} cannot be used: {str(error).splitlines()[0]}") from error
    return device


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
    )


def build_optimizer(moco: MoCo, config: OptimConfig) -> torch.optim.Optimizer:
    """The optimiser of the query network."""
    parameters = moco.query_net.parameters()
    if config.optimizer == "adamw":
        return torch.optim.AdamW(
            parameters,
            lr=config.lr,
            betas=(config.momentum, 0.999),
            weight_decay=config.weight_decay,
            foreach=True,
        )
    return torch.optim.SGD(
        parameters, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay, foreach=True
    )


def channels_last(moco: MoCo) -> MoCo:
    """Lay the convolutions' weights out as the clips are, channels last; in place."""
    for parameter in moco.parameters():
        if parameter.dim() == 5:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last_3d)
    return moco
