"""Reads files of tensors that anybody may have made."""

from __future__ import annotations

import argparse
import json
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from tubeletx_train.common.checkpoint import CheckpointError, checkpoint_file, first_line, read_torch_file

# Where exports keep the encoder's settings, in a state dict's `_metadata` or a safetensors header.
SETTINGS_KEY = "tubeletx"

# What torch.compile puts into the names of tensors, at any level.
_COMPILED = "_orig_mod."
# How deep in a file a state dict is looked for.
_LEVELS = 3

# What training scripts put beside the weights: their arguments, and metrics as NumPy numbers. Neither runs code.
_numpy_scalar = np.float64(0).__reduce__()[0]
_HARMLESS: list[Any] = [
    argparse.Namespace,
    (_numpy_scalar, "numpy.core.multiarray.scalar"),  # up to NumPy 1
    (_numpy_scalar, "numpy._core.multiarray.scalar"),
    np.dtype,
    np.dtypes.Float32DType,
    np.dtypes.Float64DType,
    np.dtypes.Int64DType,
]


@dataclass(frozen=True)
class WeightFile:
    """What a file holds.

    Attributes:
        tensors: By the file's own names, on the CPU.
        settings: The encoder's settings, where one of our checkpoints or exports holds them.
    """

    tensors: dict[str, Tensor]
    settings: dict[str, Any] | None


def read_weight_file(path: str | Path) -> WeightFile:
    """Read tensors and settings; nothing in the file is executed.

    A torch file may hold a state dict as it is, or up to three levels down ("state_dict", "model", "state_dict_ema"
    ...): the one with the most tensors, the first of several. Which file of a run's folder is read: `checkpoint_file`.

    Raises:
        CheckpointError: It is missing, damaged, holds no tensors by name, or objects that only running code could read.
    """
    path = checkpoint_file(path)
    file = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    if not file.tensors:
        raise CheckpointError(f"{path}: holds no tensors by name; a state dict, or a checkpoint with one, is needed")
    return file


def _read_safetensors(path: Path) -> WeightFile:
    try:
        with safe_open(path, framework="pt") as file:
            settings = (file.metadata() or {}).get(SETTINGS_KEY)
            names = file.keys()  # not a mapping
            tensors = {name.replace(_COMPILED, ""): file.get_tensor(name) for name in names}
            return WeightFile(tensors, _as_settings(None if settings is None else json.loads(settings)))
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path}: not a readable safetensors file ({first_line(error)})") from error


def _read_torch(path: Path) -> WeightFile:
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Detected pickle protocol")  # it either reads or fails below
            content = read_torch_file(path, _HARMLESS)
    except CheckpointError:
        raise
    except Exception as error:
        # A file that anybody made can fail in any of the layers that read it.
        if match := re.search(r"GLOBAL (\S+)", str(error)):
            raise CheckpointError(
                f"{path}: holds a Python object ({match[1]}), which could run code; save the state dict alone"
            ) from error
        raise CheckpointError(f"{path}: not a readable torch file ({first_line(error)})") from error
    if not isinstance(content, Mapping):
        return WeightFile({}, None)
    state = max(_states(content, _LEVELS), key=lambda candidate: len(_tensors(candidate)))
    return WeightFile(_tensors(state), _own_settings(content, state))


def _states(content: Mapping[Any, Any], levels: int) -> Iterator[Mapping[Any, Any]]:
    """A mapping and those within it."""
    yield content
    for value in content.values():
        if levels and isinstance(value, Mapping):
            yield from _states(value, levels - 1)


def _tensors(state: Mapping[Any, Any]) -> dict[str, Tensor]:
    return {
        name.replace(_COMPILED, ""): value
        for name, value in state.items()
        if isinstance(name, str) and isinstance(value, Tensor) and value.layout == torch.strided
    }


def _own_settings(content: Mapping[Any, Any], state: Mapping[Any, Any]) -> dict[str, Any] | None:
    config = content.get("config")
    if "classifier" in content or "counter" in content:  # what runs with labels leave
        return _as_settings(content.get("encoder"))
    if SETTINGS_KEY in content and isinstance(config, Mapping):
        # A checkpoint of fine-tuning states only what its network was to have other than the one that it began with.
        return None if "checkpoint" in config else _as_settings(config.get("model"))
    metadata = getattr(state, "_metadata", None)
    root = metadata.get("") if isinstance(metadata, Mapping) else None
    return _as_settings(root.get(SETTINGS_KEY)) if isinstance(root, Mapping) else None


def _as_settings(value: object) -> dict[str, Any] | None:
    return dict(value) if isinstance(value, Mapping) else None
