"""The model card beside exported weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from tubeletx_train.config.data import IMAGENET_MEAN, IMAGENET_STD, DataConfig
from tubeletx_train.config.labelled import FinetuneConfig
from tubeletx_train.config.origin import nearest_recipe
from tubeletx_train.config.pretrain import ModelConfig, PretrainConfig
from tubeletx_train.config.tree import to_tree
from tubeletx_train.models.weights.export import ExportFormat

_STANDARD = ModelConfig()
# A recipe that more settings differ from says nothing about a run.
_MOST_CHANGES = 12


@dataclass(frozen=True)
class Training:
    """What a checkpoint says of the run it is from.

    Attributes:
        config: Settings.
        step: Steps done.
        total_steps: Length of the run.
        version: Of this package.
        precision: What `Optimization.state_dict` says of the precision: "precision", and on what it was checked.
    """

    config: PretrainConfig
    step: int
    total_steps: int
    version: str
    precision: Mapping[str, str] = field(default_factory=dict)

    @property
    def model(self) -> ModelConfig:
        """The encoder's settings."""
        return self.config.model


@dataclass(frozen=True)
class FineTuning:
    """What a fine-tuned network says of the run it is from.

    Attributes:
        config: Settings.
        model: The encoder's.
        source: Kind of the checkpoint that it began with.
        num_classes: Classes it was trained to tell apart.
        made: What `machine.made_on` says of the run; empty where an older version wrote the file.
    """

    config: FinetuneConfig
    model: ModelConfig
    source: str
    num_classes: int
    made: Mapping[str, str] = field(default_factory=dict)


def model_card(file: Path, format: ExportFormat, training: Training | FineTuning) -> str:  # noqa: A002
    """Markdown: what the weights are, how they were trained, and how to load them."""
    model = training.model
    rows = {
        "encoder": f"`{model.encoder}`, width {model.width}, {_feature_dim(model)} features, "
        f"temporal strides {list(model.temporal_strides)}, batch-norm eps {model.batch_norm_eps:g}",
        **(_pretraining(training) if isinstance(training, Training) else _fine_tuning(training)),
        "format": f"`{format}`, without the {'projection head' if isinstance(training, Training) else 'classifier'}",
    }
    table = "\n".join(f"| {name} | {text} |" for name, text in rows.items())
    settings = yaml.safe_dump(to_tree(training.config), sort_keys=False, allow_unicode=True)
    return f"""# {file.name}

| | |
|---|---|
{table}

## Load
{_loading(file, format, model)}
## Settings
```yaml
{settings}```
"""


def _fine_tuning(training: FineTuning) -> dict[str, str]:
    config, data = training.config, training.config.data
    rate = "the video's own rate" if data.fps is None else f"{data.fps:g} frames a second"
    return {
        "trained by": f"fine-tuning with labels ({config.task}, {training.num_classes} classes), from "
        f"{training.source} weights, `{config.checkpoint}`",
        "videos": f"`{data.train}`" + ("" if data.train_split is None else f", split {data.train_split}"),
        "input": f"RGB clips (B, 3, {data.num_frames}, {data.crop_size}, {data.crop_size}), every {data.stride}. frame "
        f"at {rate}, values / 255, normalised by mean {list(data.mean)} and std {list(data.std)}",
        "made in": _made_in(training.made, config.optim.precision),
    }


def _pretraining(training: Training) -> dict[str, str]:
    config = training.config
    data, optim = config.data, config.optim
    strides = f", every n-th frame for n in {list(data.strides)}" if data.source == "videos" else ""
    source = "tubelet contrast" if config.contrast.mode == "tubelet" else "temporal contrast"
    share = "" if training.step == training.total_steps else f" of {training.total_steps:,}: the run was not finished"
    return {
        "trained by": f"{source}, without labels (Thoker, Doughty, Snoek, ICCV 2023), tubeletx {training.version}",
        "settings": _recipe(config),
        "videos": _videos(data),
        "steps": f"{training.step:,}{share}, {optim.batch_size} pairs each",
        "input": f"RGB clips (B, 3, {data.num_frames}, {data.crop_size}, {data.crop_size}){strides}, values / 255, "
        f"normalised by mean {list(IMAGENET_MEAN)} and std {list(IMAGENET_STD)}",
        "made in": _made_in(training.precision, optim.precision),
    }


def _videos(data: DataConfig) -> str:
    if data.source == "leaves":
        return f"none: clips of {data.leaves.num_leaves} dead leaves were drawn, new ones in every epoch"
    return f"`{data.videos}`" + ("" if data.split is None else f", split {data.split}")


def _made_in(made: Mapping[str, str], asked: str) -> str:
    """Precision and processor, as far as they are known; what was asked for may be "auto"."""
    text = made.get("precision", asked)
    return text + (f", on {made['processor']}, torch {made['torch']}" if "processor" in made else "")


def _feature_dim(model: ModelConfig) -> int:
    return (16 if model.encoder == "i3d" else 8) * model.width


def _recipe(config: PretrainConfig) -> str:
    """Which recipe has the same settings, or nearly; what was run, a file does not say."""
    origin = nearest_recipe(config)
    text = " with ".join(f"`{name}`" for name in origin.recipes)
    if not origin.changes:
        return f"those of {text}"
    if len(origin.changes) > _MOST_CHANGES:
        return "its own, below"
    changes = (f"`{name}` {new} (there {old})" for name, (old, new) in origin.changes.items())
    return f"nearly those of {text}; here {', '.join(changes)}"


def _loading(file: Path, format: ExportFormat, model: ModelConfig) -> str:  # noqa: A002
    text = f"""```python
from tubeletx_train.models.weights import load_encoder

encoder = load_encoder("{file.name}")
```
"""
    if format == "torchvision" and model.encoder in ("r2plus1d_18", "r3d_18") and _is_standard(model):
        text += f"""
```python
import torch
from torchvision.models.video import {model.encoder}

model = {model.encoder}()
model.load_state_dict(torch.load("{file.name}", weights_only=True), strict=False)  # all but the classifier, `fc`
```
"""
        if model.batch_norm_eps != _STANDARD.batch_norm_eps:
            text += f"""
torchvision's batch norms have eps 1e-5; these weights were trained with {model.batch_norm_eps:g}.
"""
    if format == "released":
        text += """
The released code reads it as it reads its own checkpoints: the tensors are under `state_dict`, as `backbone.*`.
"""
    if format == "safetensors":
        names = "the released code's names" if model.encoder == "i3d" else "torchvision's names"
        text += f"""
```python
from safetensors.torch import load_file

state_dict = load_file("{file.name}")  # {names}
```
"""
    return text


def _is_standard(model: ModelConfig) -> bool:
    return (model.width, tuple(model.temporal_strides)) == (_STANDARD.width, _STANDARD.temporal_strides)
