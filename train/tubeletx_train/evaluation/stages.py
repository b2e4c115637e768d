"""Any video encoder as what a report asks of it: its features after every stage."""

from __future__ import annotations

import inspect
import json
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from tubeletx_train.common.errors import UsageError
from tubeletx_train.common.seeding import seed_everything
from tubeletx_train.config.data import IMAGENET, Normalization
from tubeletx_train.data import normalize
from tubeletx_train.evaluation.embed import calibrate_batch_norm, evaluating
from tubeletx_train.models import VideoEncoder
from tubeletx_train.models.weights import build_from_settings, load_encoder_weights, pretrained_settings

# Clips of this size are what a network takes whose own is not known.
_FRAMES, _SIDE = 16, 112


class StagedEncoder(ABC):
    """An encoder whose stages can be looked into.

    Attributes:
        net: The network.
        kind: What it is, in a few words.
        num_frames: Frames of the clips that it takes.
        side: Their height and width, pixels.
        any_size: Whether it takes clips of other sizes too.
        normalization: Of colours.
    """

    net: nn.Module
    kind: str
    num_frames: int = _FRAMES
    side: int = _SIDE
    any_size: bool = True
    normalization: Normalization = IMAGENET

    @abstractmethod
    def stages(self, clips: Tensor) -> dict[str, Tensor]:
        """Features (B, D) after every stage, the last last, of normalised clips (B, 3, T, H, W)."""

    @abstractmethod
    def untrained(self, clips: Tensor, seed: int) -> StagedEncoder | None:
        """The same network with weights drawn anew, where that can be had.

        Args:
            clips: (N, 3, T, H, W) uint8, which batch norm's running statistics are taken from.
            seed: Of the weights.
        """

    def embed(self, clips: Tensor, batch_size: int = 16) -> dict[str, Tensor]:
        """Features (N, D) of uint8 clips (N, 3, T, H, W) after every stage, on the CPU."""
        device = next((parameter.device for parameter in self.net.parameters()), torch.device("cpu"))
        found: dict[str, list[Tensor]] = {}
        starts = range(0, len(clips), batch_size)
        with evaluating(self.net):
            for start in tqdm(starts, "running the network", unit="batch", leave=False, disable=None):
                batch = clips[start : start + batch_size].to(device)
                for name, values in self.stages(normalize(batch, normalization=self.normalization)).items():
                    found.setdefault(name, []).append(values.float().cpu())
        return {name: torch.cat(values) for name, values in found.items()}


class OurEncoder(StagedEncoder):
    """An encoder of this package: a chain of stages, each pooled over space and time."""

    net: VideoEncoder

    def __init__(self, encoder: VideoEncoder, kind: str, build: Callable[[], VideoEncoder]) -> None:
        """Args: `build` makes the same network with fresh weights."""
        self.net, self.kind, self._build = encoder, kind, build

    def stages(self, clips: Tensor) -> dict[str, Tensor]:
        """After each child of the network."""
        found, x = {}, clips
        for name, child in self.net.named_children():
            x = child(x)
            found[name] = x.mean((2, 3, 4))
        return found

    def untrained(self, clips: Tensor, seed: int) -> OurEncoder:
        """With running statistics of batch norm as these clips have them."""
        seed_everything(seed)
        twin = self._build().to(next(self.net.parameters()).device)
        calibrate_batch_norm(twin, clips, batch_size=16)
        return OurEncoder(twin, f"{self.kind}, untrained", self._build)


class HuggingFaceEncoder(StagedEncoder):
    """A model of Hugging Face's transformers: its hidden states, averaged over the tokens (and over single frames)."""

    any_size = False

    def __init__(self, model: Any, folder: Path | None) -> None:
        """Args: `folder` may say how colours are normalised."""
        self.net = model
        config = model.config
        parameters = inspect.signature(model.forward).parameters
        self._input = "pixel_values_videos" if "pixel_values_videos" in parameters else "pixel_values"
        self._options = {name: True for name in ("output_hidden_states", "skip_predictor") if name in parameters}
        self._options.setdefault("output_hidden_states", True)
        frames = getattr(config, "num_frames", None) or getattr(config, "frames_per_clip", None)
        self._of_video = frames is not None
        size = getattr(config, "image_size", None) or getattr(config, "crop_size", None) or 224
        self.num_frames = frames or _FRAMES
        self.side = size if isinstance(size, int) else size[0]
        single = "" if self._of_video else ", frame by frame"
        self.kind = f"{type(model).__name__} of transformers{single}"
        self.normalization = _colours(folder)

    def stages(self, clips: Tensor) -> dict[str, Tensor]:
        """The embedding, and after each block."""
        batch, frames = clips.shape[0], clips.shape[2]
        pixels = clips.transpose(1, 2).contiguous()  # (B, T, 3, H, W)
        if not self._of_video:
            pixels = pixels.flatten(0, 1)
        states = self.net(**{self._input: pixels}, **self._options).hidden_states
        found = {}
        for index, state in enumerate(states):
            pooled = state.mean(1) if state.dim() == 3 else state.flatten(2).mean(2)
            # Models that put frames into the batch give one state a frame.
            pooled = pooled.unflatten(0, (batch, -1)).mean(1) if len(pooled) != batch else pooled
            found["embedding" if index == 0 else f"block {index}"] = pooled
        assert self._of_video or frames > 0
        return found

    def untrained(self, clips: Tensor, seed: int) -> StagedEncoder:  # noqa: ARG002
        """From the same configuration."""
        seed_everything(seed)
        twin = HuggingFaceEncoder(type(self.net)(self.net.config).to(next(self.net.parameters()).device), None)
        twin.normalization, twin.kind = self.normalization, f"{self.kind}, untrained"
        return twin


class FunctionEncoder(StagedEncoder):
    """What a function of the user's makes: a module whose output is the features, or a mapping of them by stage."""

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        """Args: `function` takes nothing, or `pretrained`, which is False for an untrained twin."""
        self._name, self._function = name, function
        self._takes_pretrained = "pretrained" in inspect.signature(function).parameters
        self.net = function()
        self.kind = name
        if not isinstance(self.net, nn.Module):
            raise UsageError(f"{name}: got {type(self.net).__name__}, needs a function that returns a torch module")

    def stages(self, clips: Tensor) -> dict[str, Tensor]:
        """Outputs, pooled to (B, D) where they have more axes."""
        output = self.net(clips)
        named = output if isinstance(output, Mapping) else {"output": output}
        for name, value in named.items():
            if not isinstance(value, Tensor) or value.dim() < 2 or len(value) != len(clips):
                raise UsageError(f"{self._name}: its output {name!r} is not a tensor of (B, D) or (B, D, ...)")
        return {name: value.flatten(2).mean(2) if value.dim() > 2 else value for name, value in named.items()}

    def untrained(self, clips: Tensor, seed: int) -> StagedEncoder | None:
        """By `pretrained=False`, where the function takes it."""
        if not self._takes_pretrained:
            return None
        seed_everything(seed)
        function = self._function
        twin = FunctionEncoder(self._name, lambda: function(pretrained=False))
        twin.net.to(next(self.net.parameters()).device)
        twin.kind = f"{self.kind}, untrained"
        calibrate_batch_norm(twin.net, clips, batch_size=16)
        return twin


def _colours(folder: Path | None) -> Normalization:
    for name in ("video_preprocessor_config.json", "preprocessor_config.json"):
        if folder is not None and (folder / name).is_file():
            settings = json.loads((folder / name).read_text(encoding="utf-8"))
            if "image_mean" in settings and "image_std" in settings:
                return Normalization(tuple(settings["image_mean"]), tuple(settings["image_std"]))
    return IMAGENET


def load_stages(source: str, device: torch.device) -> StagedEncoder:
    """An encoder by what the user wrote.

    Args:
        source: A checkpoint of ours, an export, another method's file or the folder of a run; the folder of a model of
            transformers (with its config.json); or "module:function".
        device: Where it shall live.

    Raises:
        UsageError: There is nothing of the kind; one line says why.
    """
    path = Path(source)
    encoder: StagedEncoder
    if (path / "config.json").is_file():
        encoder = _from_transformers(path)
    elif not path.exists() and ":" in source:
        encoder = FunctionEncoder(source, _resolve(source))
    else:
        settings = pretrained_settings(source)
        network = build_from_settings(settings)
        load_encoder_weights(network, source)
        encoder = OurEncoder(network, settings.encoder, lambda: build_from_settings(settings))
    encoder.net.to(device)
    return encoder


def _resolve(source: str) -> Callable[..., Any]:
    try:
        function = pkgutil.resolve_name(source)
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(f"{source}: no such file, and no function of a module: {error}") from error
    if not callable(function):
        raise UsageError(f"{source}: got {type(function).__name__}, needs a function")
    return function  # type: ignore[no-any-return]


def _from_transformers(folder: Path) -> StagedEncoder:
    try:
        from transformers import AutoModel
    except ImportError as error:
        raise UsageError(f"{folder}: reading this model needs transformers; pip install transformers") from error
    try:
        model = AutoModel.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise UsageError(f"{folder}: {' '.join(str(error).split())}") from error
    return HuggingFaceEncoder(model, folder)
