"""Makes the parts of a run from its configuration."""

from __future__ import annotations

from contextlib import suppress

import torch
from torch import Tensor

from tubeletx_train.common.checkpoint import CheckpointError, checkpoint_file, load_checkpoint
from tubeletx_train.config.pretrain import PretrainConfig
from tubeletx_train.models.weights import build_from_settings, load_encoder_weights
from tubeletx_train.pretrain.moco import MoCo
from tubeletx_train.pretrain.tracking import TrackHead


def build_moco(config: PretrainConfig) -> MoCo:
    """Networks and queue, on the CPU. Raises UsageError where the settings name no encoder."""
    encoder = build_from_settings(config.model)
    moco = MoCo(
        encoder,
        dim=config.model.dim,
        queue_size=config.contrast.queue_size,
        momentum=config.contrast.momentum,
        temperature=config.contrast.temperature,
        batch_negatives=config.contrast.batch_negatives,
        shuffle_keys=config.model.batch_norm == "shuffle",
    )
    if config.tracks.weight:
        # Drawn last: with and without it the networks begin with the same weights.
        size = {"num_frames": config.data.num_frames, "side": config.data.crop_size}
        moco.predict_tracks(TrackHead(encoder, config.tracks.grid, **size), config.tracks.weight)
    return moco


def start_from(moco: MoCo, checkpoint: str) -> None:
    """Put weights into both networks: of a pretraining encoder and head, of another checkpoint the encoder alone.

    Raises:
        CheckpointError: The file cannot be read, or does not fit.
    """
    try:
        path = checkpoint_file(checkpoint)
    except CheckpointError as error:
        raise CheckpointError(f"model.init_from {error}") from error
    ours: dict[str, Tensor] = {}
    with suppress(CheckpointError):  # another method's file, which the loader of encoders reads or refuses
        ours = load_checkpoint(path).get("model", {})
    prefix = "query_net."
    weights = {name.removeprefix(prefix): value for name, value in ours.items() if name.startswith(prefix)}
    if weights:
        try:
            moco.query_net.load_state_dict(weights)
        except RuntimeError as error:
            raise CheckpointError(f"model.init_from {path}: {' '.join(str(error).split())}") from error
    else:
        load_encoder_weights(moco.query_net.encoder, path)
    moco.key_net.load_state_dict(moco.query_net.state_dict())


def channels_last(moco: MoCo) -> MoCo:
    """Lay the convolutions' weights out as the clips are, channels last; in place."""
    for parameter in moco.parameters():
        if parameter.dim() == 5:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last_3d)
    return moco
