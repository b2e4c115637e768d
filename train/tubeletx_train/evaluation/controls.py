"""What tells the labels of videos without their motion: controls that stand beside every result on labelled videos."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from tubeletx_train.evaluation.labelled import LabelledClips
from tubeletx_train.evaluation.readout import Readout, read_out

_FRAME_SIDE = 16  # pixels that a single frame is read at
_CLIP_SIDE = 8  # pixels that each of many frames is read at

IN_ORDER = "frames in order"


def control_features(clips: Tensor, seed: int = 0) -> dict[str, Tensor]:
    """Pixels that hold no motion, and for comparison the same with it.

    Args:
        clips: (N, 3, T, S, S) uint8.
        seed: Of the frames and orders drawn.

    Returns:
        By name, grey levels in [0, 1], float32: "one frame" (N, 256), drawn from each clip; "middle frame" (N, 256);
        "mean frame" (N, 256); "shuffled frames" (N, 64 T), in an order drawn for each clip; "frames in order"
        (N, 64 T).
    """
    number, _, frames = clips.shape[:3]
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(frames, (number,), generator=generator)
    order = torch.rand(number, frames, generator=generator).argsort(1)
    # Frame by frame, as floats of all clips would be a large multiple of the bytes.
    fine = torch.stack([_grey(clips[:, :, frame], _FRAME_SIDE) for frame in range(frames)], dim=1)
    coarse = F.adaptive_avg_pool2d(fine, _CLIP_SIDE)
    rows = torch.arange(number)
    return {
        "one frame": fine[rows, drawn].flatten(1),
        "middle frame": fine[:, frames // 2].flatten(1),
        "mean frame": fine.mean(1).flatten(1),
        "shuffled frames": coarse[rows[:, None], order].flatten(1),
        IN_ORDER: coarse.flatten(1),
    }


def _grey(frames: Tensor, side: int) -> Tensor:
    """(N, 3, S, S) uint8 to (N, side, side) in [0, 1]."""
    return F.adaptive_avg_pool2d(frames.float().mean(1) / 255, side)


def read_out_controls(
    videos: LabelledClips,
    pairs: Sequence[tuple[str, str]] = (),
    fit_split: str = "train",
    split: str = "test",
    seed: int = 0,
) -> dict[str, Readout]:
    """Read the classes out of each of the `control_features` of the first clip of each video.

    Args:
        videos: Labelled videos with splits.
        pairs: Classes to tell apart by twos.
        fit_split: Split that the classifiers are fitted on.
        split: Split that they are judged by.
        seed: Of the frames and orders drawn.
    """
    fit, judge = (torch.tensor([own == name for own in videos.splits]) for name in (fit_split, split))
    return {
        name: read_out(
            (features[fit], videos.labels[fit]), (features[judge], videos.labels[judge]), videos.names, pairs
        )
        for name, features in control_features(videos.clips[:, 0], seed).items()
    }
