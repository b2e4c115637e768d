"""Class-agnostic activation maps: where an encoder's last features are strong, without fine-tuning.

Figures 6 and 7 of the paper, after PsyNet: mean over the channels of the last feature map, min-max normalised,
up-sampled to the clip. The paper leaves open over what a clip's map is normalised; here over all of its frames, so that
frames of one clip can be compared.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from tubeletx_train.common.device import resolve_device
from tubeletx_train.common.errors import UsageError
from tubeletx_train.common.files import writable_folder
from tubeletx_train.common.limits import require_at_least, require_seed
from tubeletx_train.common.seeding import seed_everything
from tubeletx_train.config.data import ReaderName
from tubeletx_train.config.labelled import EncoderConfig, LabelledDataConfig
from tubeletx_train.data import DataError, check_videos, load_videos, normalize
from tubeletx_train.data.labelled import ViewDataset
from tubeletx_train.evaluation.embed import evaluating
from tubeletx_train.figures.attention import attention_animation, attention_strip
from tubeletx_train.models.classifier import SCRATCH, load_pretrained
from tubeletx_train.models.weights import build_from_settings

_logger = logging.getLogger(__name__)

_UNTRAINED = "untrained"


@dataclass(frozen=True)
class AttentionConfig:
    """Settings of the pictures.

    Attributes:
        checkpoints: Weights to look through: checkpoints of `pretrain`, exports, or other methods' files.
        videos: A video, a folder of videos or a manifest.
        names: What the pictures call the checkpoints, in their order; the files' names by default.
        split: Keep only the manifest's rows of this split.
        output: Folder for the pictures.
        untrained: Whether an untrained network stands beside the checkpoints.
        max_videos: Videos shown, spread over those there are.
        num_frames: Frames of a clip, taken from the middle of the video.
        stride: Frame stride of a clip.
        input_size: Side of the square clip that the networks see, pixels.
        picture_size: Side of a frame in the pictures, pixels.
        encoder: Name of an encoder; null: as in the checkpoint, or r2plus1d_18.
        reader: Which decoder reads the videos.
        seed: Seed of the untrained network.
        device: "auto", "cpu", "cuda" or "cuda:N".
    """

    checkpoints: tuple[str, ...]
    videos: str
    names: tuple[str, ...] = ()
    split: str | None = None
    output: str = "attention"
    untrained: bool = True
    max_videos: int = 6
    num_frames: int = 16
    stride: int = 2
    input_size: int = 112
    picture_size: int = 144
    encoder: str | None = None
    reader: ReaderName = "decord"
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        require_at_least(self, 1, "max_videos", "num_frames", "stride", "input_size", "picture_size")
        require_seed(self)
        if self.names and len(self.names) != len(self.checkpoints):
            raise ValueError(f"names: got {len(self.names)}, needs one for each of {len(self.checkpoints)} checkpoints")
        if not self.checkpoints and not self.untrained:
            raise ValueError("there is no network to show: give checkpoints, or leave untrained on")


def activation_maps(encoder: nn.Module, clips: Tensor, *, input_size: int | None = None) -> Tensor:
    """Class-agnostic activation maps of clips.

    Args:
        encoder: As `build_encoder` makes them, with a method `feature_map`.
        clips: (B, 3, T, H, W) uint8, on any device.
        input_size: Side that the encoder sees clips at; their own by default.

    Returns:
        (B, T, H, W) float32 in [0, 1] on the encoder's device. A clip with the same activation everywhere gets zeros.
    """
    device = next(encoder.parameters()).device
    with evaluating(encoder):
        maps = [_activation_map(encoder, clip[None].to(device), input_size) for clip in clips]
    if not maps:
        return torch.zeros(0, *clips.shape[2:], device=device)
    return torch.cat(maps)


def _activation_map(encoder: nn.Module, clip: Tensor, input_size: int | None) -> Tensor:
    seen = normalize(clip)
    if input_size is not None:
        seen = interpolate(seen, (clip.shape[2], input_size, input_size), mode="trilinear", align_corners=False)
    strength = encoder.feature_map(seen).float().mean(1, keepdim=True)  # type: ignore[operator]
    low, high = strength.amin(), strength.amax()
    strength = (strength - low) / (high - low) if high > low else torch.zeros_like(strength)
    return interpolate(strength, clip.shape[2:], mode="trilinear", align_corners=False)[:, 0].clamp(0, 1)


def motion_gain(clips: Tensor, maps: Tensor) -> float:
    """How much more a network's maps weigh moving pixels than a flat map does.

    The mean absolute difference of successive frames, weighted by the map, over its plain mean, averaged over the
    clips that have any motion: 1 is a network that does not care where things move.

    Args:
        clips: (B, 3, T, H, W) uint8.
        maps: (B, T, H, W).

    Returns:
        The ratio; NaN where nothing moves or all maps are zero.
    """
    motion = clips.float().diff(dim=2).abs().mean(1)
    weights = maps[:, 1:].to(motion.device)
    weighted = (motion * weights).sum((1, 2, 3)) / weights.sum((1, 2, 3))
    return float((weighted / motion.mean((1, 2, 3))).nanmean())


def attention(config: AttentionConfig) -> tuple[list[Path], dict[str, float]]:
    """Draw what networks look at in the same clips.

    Returns:
        The strip (PNG) and the animation (GIF), and each network's `motion_gain`.

    Raises:
        UsageError: A checkpoint or the videos cannot be used.
    """
    output = writable_folder(config.output)
    titles, clips, maps = look(config)
    pictures = [
        attention_strip(output / "attention.png", clips, maps, titles=titles),
        attention_animation(output / "attention.gif", clips, maps),
    ]
    return pictures, {name: motion_gain(clips, values) for name, values in maps.items()}


def look(config: AttentionConfig) -> tuple[tuple[str, ...], Tensor, dict[str, Tensor]]:
    """Titles of the clips, the clips, and each network's maps of them; `config.output` does not matter.

    Raises:
        UsageError: A checkpoint or the videos cannot be used.
    """
    encoders = load_encoders(config)
    titles, clips = read_clips(config)
    maps = {
        name: activation_maps(encoder, clips, input_size=config.input_size).cpu() for name, encoder in encoders.items()
    }
    return titles, clips, maps


def load_encoders(config: AttentionConfig) -> dict[str, nn.Module]:
    """The networks of a configuration by the names they are shown under, on its device."""
    device = resolve_device(config.device)
    names = config.names or _short_names(config.checkpoints)
    shown = [*names, _UNTRAINED] if config.untrained else [*names]
    if len(set(shown)) < len(shown):
        raise UsageError(f"names: got {', '.join(shown)}, needs names that differ from one another")
    choice = EncoderConfig(config.encoder)
    pretrained = [load_pretrained(path, choice) for path in config.checkpoints]
    encoders: dict[str, nn.Module] = {
        name: item.encoder.to(device) for name, item in zip(names, pretrained, strict=True)
    }
    if config.untrained:
        seed_everything(config.seed)
        like = pretrained[0] if pretrained else load_pretrained(SCRATCH, choice)
        encoders[_UNTRAINED] = build_from_settings(like.settings).to(device)
    return encoders


def _short_names(paths: tuple[str, ...]) -> list[str]:
    """File names less extension; where two are alike, as checkpoints of two runs are, the paths that tell them."""
    stems = [Path(path).stem for path in paths]
    return stems if len(set(stems)) == len(stems) else [*paths]


def read_clips(config: AttentionConfig) -> tuple[tuple[str, ...], Tensor]:
    """One clip from the middle of each video shown.

    Returns:
        The videos' names, and (B, 3, T, S, S) uint8 clips, the frames' central squares.

    Raises:
        DataError: Not one video can be read.
    """
    listed = load_videos(config.videos, config.split)
    chosen = np.unique(np.linspace(0, len(listed) - 1, config.max_videos).round().astype(int))
    records, bad = check_videos([listed[index] for index in chosen], reader=config.reader)
    middle = ViewDataset(
        records,
        LabelledDataConfig(
            num_frames=config.num_frames,
            fps=None,
            stride=config.stride,
            short="hold",
            crop_size=config.picture_size,
            decode_size=config.picture_size,
            test_clips=1,
            test_crop_share=1.0,
            reader=config.reader,
        ),
    )
    views = [middle[place] for place in range(len(records))]
    bad += [view.bad for view in views if view.bad is not None]
    for video in bad:
        _logger.warning("left out %s", video)
    if len(bad) == len(chosen):
        raise DataError(f"{config.videos}: not one of {len(bad)} videos can be read (the first: {bad[0]})")
    titles = tuple(Path(records[view.place].path).name for view in views if view.bad is None)
    return titles, torch.cat([view.views for view in views]).permute(0, 4, 1, 2, 3)
