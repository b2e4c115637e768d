"""Exports the encoder of a checkpoint, with a model card beside it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tubeletx_train.common.checkpoint import MODEL_FILE, CheckpointError, checkpoint_file, load_checkpoint
from tubeletx_train.common.errors import UsageError
from tubeletx_train.common.files import writable_file, write_text
from tubeletx_train.config.labelled import FinetuneConfig
from tubeletx_train.config.parse import config_from_checkpoint, config_from_tree
from tubeletx_train.config.pretrain import ModelConfig, PretrainConfig
from tubeletx_train.models.weights.card import FineTuning, Training, model_card
from tubeletx_train.models.weights.export import SUFFIXES, ExportFormat, export_encoder
from tubeletx_train.models.weights.load import load_encoder


@dataclass(frozen=True)
class ExportConfig:
    """What is exported.

    Attributes:
        checkpoint: A pretraining checkpoint, the model.pt of a fine-tuning run, or a run's folder, whose model.pt or
            newest checkpoint it then is.
        format: "torchvision": a state dict under torchvision's names; "released": a checkpoint as the released code
            reads it; "safetensors": torchvision's names (I3D: the released code's) in a safetensors file.
        output: File to write; by default in the working directory, named after encoder and format. The model card
            stands beside it, under the file's name and .md.
    """

    checkpoint: str
    format: ExportFormat = "torchvision"
    output: str | None = None


def export_checkpoint(config: ExportConfig) -> tuple[Path, Path]:
    """Write the (query) encoder of a checkpoint for other code, and its card; returns both files.

    Raises:
        CheckpointError: It cannot be read, or is not one of ours.
        UsageError: The format does not know the encoder, or is not read under that name.
    """
    checkpoint = checkpoint_file(config.checkpoint)
    training = _training(checkpoint)
    model = training.model
    suffix = SUFFIXES[config.format]
    output = Path(config.output or f"{model.encoder}-{config.format}{suffix}")
    if config.format == "safetensors" and output.suffix != suffix:
        raise UsageError(f"--output {output}: a safetensors file is read by its suffix; call it {output.stem}{suffix}")
    if config.format != "safetensors" and output.suffix == SUFFIXES["safetensors"]:
        raise UsageError(f"--output {output}: the format {config.format} is a torch file; choose another suffix")
    writable_file(output)
    export_encoder(load_encoder(checkpoint), model, output, config.format)
    card = output.with_name(f"{output.name}.md")
    write_text(card, model_card(output, config.format, training))
    return output, card


def _training(path: Path) -> Training | FineTuning:
    state: dict[str, Any] = load_checkpoint(path)
    known = {"tubeletx", "config", "step", "total_steps"}
    if isinstance(state, dict) and {"classifier", "encoder", "config", "source", "num_classes"} <= state.keys():
        tree = config_from_checkpoint(FinetuneConfig, state, str(path))
        model = config_from_tree(ModelConfig, state["encoder"], str(path))
        made = dict(state.get("made", {}))
        return FineTuning(tree, model, str(state["source"]), int(state["num_classes"]), made)
    if not isinstance(state, dict) or not known <= state.keys() or "contrast" not in state["config"]:
        raise CheckpointError(
            f"{path}: not a pretraining checkpoint of ours, nor the {MODEL_FILE} of a fine-tuning run"
        )
    config = config_from_checkpoint(PretrainConfig, state, str(path))
    return Training(
        config, int(state["step"]), int(state["total_steps"]), str(state["tubeletx"]), dict(state.get("precision", {}))
    )
