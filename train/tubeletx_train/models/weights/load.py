"""Puts the weights of a file into an encoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from tubeletx_train.common.checkpoint import CheckpointError
from tubeletx_train.common.errors import UsageError
from tubeletx_train.config.parse import config_from_tree
from tubeletx_train.config.pretrain import ModelConfig
from tubeletx_train.models.build import TCLR_ENCODER, build_encoder
from tubeletx_train.models.encoder import VideoEncoder
from tubeletx_train.models.weights.files import read_weight_file
from tubeletx_train.models.weights.sources import detect_source, is_tclr_network, not_built

_MOST_NAMED = 4
_BATCH_COUNTER = "num_batches_tracked"  # old files lack it, and it has no effect


@dataclass(frozen=True)
class WeightReport:
    """What became of the tensors of a file.

    Attributes:
        source: The method that the file's names belong to.
        matched: Tensors of the encoder that the file filled.
        missing: Tensors of the encoder that it did not hold; they keep their values.
        unexpected: Tensors of the file that have no place in the encoder, such as heads, by the file's names.
    """

    source: str
    matched: int
    missing: list[str]
    unexpected: list[str]

    def __str__(self) -> str:
        text = f"{self.matched} of the encoder's {self.matched + len(self.missing)} tensors ({self.source})"
        if self.missing:
            text += f"; missing: {_some(self.missing)}"
        if self.unexpected:
            text += f"; {len(self.unexpected)} tensors of the file have no place in it, such as {self.unexpected[0]}"
        return text


def load_encoder_weights(encoder: nn.Module, path: str | Path, allow_missing: Sequence[str] = ()) -> WeightReport:
    """Fill an encoder from a file, whatever names the file uses.

    Known are our pretraining checkpoints (the query encoder), our fine-tuned networks, our exports, torchvision's and
    the released code's names, and the checkpoints of the methods in `WEIGHT_SOURCES`; which of them it is follows from
    the names. Those may stand behind any prefix, such as "backbone.".

    Args:
        encoder: Filled in place.
        path: File, or folder of a run.
        allow_missing: Names of the encoder's tensors, or what they begin with ("layer4."), that the file need not hold.
            The counters of batch norms, which old files lack and which have no effect, never need to be there.

    Raises:
        CheckpointError: The file cannot be read, lacks a tensor of the encoder that is not in `allow_missing`, or has
            one of another shape. The encoder is then as it was.
    """
    file = read_weight_file(path)
    state = encoder.state_dict()
    source = detect_source(state, file.tensors)
    keys = source.keys(state)
    found = {name: file.tensors[key] for name, key in keys.items() if key in file.tensors}
    report = WeightReport(
        source.name,
        len(found),
        [name for name in state if name not in found],
        [key for key in file.tensors if key not in set(keys.values())],
    )
    wrong = [
        f"{keys[name]} {_shape(tensor.shape)} for {_shape(state[name].shape)}"
        for name, tensor in found.items()
        if tensor.shape != state[name].shape
    ]
    if wrong:
        raise CheckpointError(
            f"{path}: made for another encoder than this one, or another width ({source.name}): {_some(wrong)}"
        )
    lacking = [name for name in report.missing if _BATCH_COUNTER not in name]
    needed = [name for name in lacking if not name.startswith(tuple(allow_missing))]
    if needed:
        raise CheckpointError(f"{path}: {_lack(needed, report, not_built(file.tensors))}")
    try:
        encoder.load_state_dict(found, strict=False)
    except RuntimeError as error:
        raise CheckpointError(f"{path}: {' '.join(str(error).split())}") from error
    return report


def _lack(needed: Sequence[str], report: WeightReport, other: str | None) -> str:
    if other is not None:
        return f"holds {other}; that network is not built here, and its weights fit no other"
    return (
        f"does not hold {len(needed)} tensors of the encoder, which would stay random ({_some(needed)}); name those "
        f"that may be missing (model.allow_missing), or choose the encoder it was made for (model.encoder). It fills "
        f"{report}"
    )


def encoder_settings(path: str | Path) -> ModelConfig | None:
    """The network that one of our checkpoints or exports was made with; None for a file of other origin.

    Raises:
        CheckpointError: The file cannot be read.
        UsageError: Its settings are not those of a network.
    """
    settings = read_weight_file(path).settings
    return None if settings is None else config_from_tree(ModelConfig, settings, f"{path}: the encoder's settings")


def pretrained_settings(path: str | Path) -> ModelConfig:
    """The network that a file was made with: by its own settings, else by its names, else the standard one.

    Raises:
        CheckpointError: The file cannot be read.
        UsageError: Its settings are not those of a network.
    """
    settings = encoder_settings(path)
    if settings is not None:
        return settings
    return ModelConfig(TCLR_ENCODER) if is_tclr_network(read_weight_file(path).tensors) else ModelConfig()


def build_from_settings(settings: ModelConfig) -> VideoEncoder:
    """The encoder of a configuration, untrained. Raises UsageError where there is no such encoder."""
    try:
        return build_encoder(
            settings.encoder,
            settings.width,
            settings.temporal_strides,
            settings.batch_norm_eps,
            settings.initialisation,
        )
    except ValueError as error:
        raise UsageError(f"model.{error}") from error


def load_encoder(path: str | Path) -> VideoEncoder:
    """The encoder in one of our checkpoints or exports, built as it was and with its weights.

    Raises:
        CheckpointError: The file cannot be read, is not ours, or does not hold what its settings say.
    """
    settings = encoder_settings(path)
    if settings is None:
        raise CheckpointError(f"{path}: does not say which encoder it holds; a checkpoint or export of ours is needed")
    try:
        encoder = build_from_settings(settings)
    except UsageError as error:
        raise CheckpointError(f"{path}: {error}") from error
    load_encoder_weights(encoder, path)
    return encoder


def _some(names: Sequence[str]) -> str:
    rest = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "scalar"
