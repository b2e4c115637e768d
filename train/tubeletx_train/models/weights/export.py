"""Writes an encoder's weights for other code to read."""

from __future__ import annotations

import json
from collections import OrderedDict
from pathlib import Path
from typing import Literal

import safetensors.torch
from torch import Tensor

from tubeletx_train.common.checkpoint import save_checkpoint
from tubeletx_train.common.errors import UsageError
from tubeletx_train.common.files import replaced_file
from tubeletx_train.config.pretrain import ModelConfig
from tubeletx_train.config.tree import to_tree
from tubeletx_train.models.encoder import VideoEncoder
from tubeletx_train.models.i3d import I3D
from tubeletx_train.models.weights.files import SETTINGS_KEY
from tubeletx_train.models.weights.sources import RELEASED_2PLUS1D, RELEASED_3D, TORCHVISION, WeightSource

ExportFormat = Literal["torchvision", "released", "safetensors"]

SUFFIXES: dict[ExportFormat, str] = {"torchvision": ".pt", "released": ".pth", "safetensors": ".safetensors"}


def export_encoder(encoder: VideoEncoder, settings: ModelConfig, path: Path, format: ExportFormat) -> None:  # noqa: A002
    """Write an encoder's state; the file is whole or not there.

    Args:
        encoder: Its weights are written.
        settings: What it was built with; kept in the file, where `encoder_settings` finds it and others pass over it.
        path: File to write.
        format: "torchvision" is a state dict under torchvision's names, "released" a checkpoint as the released code
            reads it, and "safetensors" holds torchvision's names (for I3D, the released code's).

    Raises:
        UsageError: The format does not know this encoder.
    """
    if format == "torchvision" and isinstance(encoder, I3D):
        raise UsageError("torchvision has no I3D; use --format released or safetensors")
    state = encoder.state_dict()
    source = _released(state) if format == "released" else TORCHVISION
    tensors = {key: state[name].detach().contiguous() for name, key in source.keys(state).items()}
    tree = to_tree(settings)
    if format == "safetensors":
        with replaced_file(path, binary=True) as file:
            file.write(safetensors.torch.save(tensors, {"format": "pt", SETTINGS_KEY: json.dumps(tree)}))
        return
    named = OrderedDict(tensors)
    # A state dict's own place for notes of its modules; whoever loads the tensors passes over what it does not know.
    named._metadata = OrderedDict({"": {"version": 1, SETTINGS_KEY: tree}})  # type: ignore[attr-defined]
    save_checkpoint({"state_dict": named} if format == "released" else named, path)


def _released(state: dict[str, Tensor]) -> WeightSource:
    return RELEASED_2PLUS1D if "stem.3.weight" in state else RELEASED_3D
