"""Features of labelled videos, for reading out their classes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from tubeletx_train.data import (
    BadVideo,
    DataConfig,
    DataError,
    NoUsableVideos,
    VideoError,
    VideoRecord,
    check_videos,
    load_videos,
    normalize,
    open_video,
    scan_folder,
)
from tubeletx_train.data.dataset import resize_frames


@dataclass(frozen=True)
class LabelledVideos:
    """Clips of labelled videos.

    Attributes:
        clips: (N, V, 3, T, S, S) uint8, V clips of each of N videos.
        labels: (N,) int64, indices into `names`.
        groups: N names of who or what a video shows, or None.
        splits: N names of splits, None where unknown.
        names: Classes, sorted.
    """

    clips: Tensor
    labels: Tensor
    groups: list[str] | None
    splits: list[str | None]
    names: list[str]


def read_labelled(
    path: str, data: DataConfig, *, clips: int, group_pattern: str | None = None
) -> tuple[LabelledVideos, list[BadVideo]]:
    """Evenly spaced clips of every labelled video, the whole frame squeezed to a square.

    Args:
        path: A manifest with labels, or a folder whose subfolders are the classes.
        data: Frames, strides (the middle one is taken), size and reader of a clip.
        clips: Clips V of a video.
        group_pattern: Regular expression whose first group, found in a file's name, names the video's group; where
            None, the manifest's column `group` does, if it has one.

    Returns:
        The clips, and the videos that could not be read.

    Raises:
        DataError: No videos, videos without labels, fewer than two classes, or a name without group.
    """
    listed = scan_folder(path, label_from_folder=True) if Path(path).is_dir() else load_videos(path)
    if not listed:
        raise DataError(f"{path}: holds no video")
    records, bad = check_videos(listed, reader=data.reader, timeout=data.check_timeout)
    unlabelled = [record.path for record in records if record.label is None]
    if unlabelled:
        raise DataError(f"{path}: {len(unlabelled)} videos have no label, the first is {unlabelled[0]}")
    names = sorted({str(record.label) for record in records})
    if len(names) < 2:
        raise DataError(f"{path}: needs videos of two classes or more, has {', '.join(names) or 'none'}")
    read: list[Tensor] = []
    kept: list[VideoRecord] = []
    for record in records:
        try:
            read.append(_clips(record, data, clips))
            kept.append(record)
        except VideoError as error:
            bad.append(BadVideo(error.path, error.reason))
    if not kept:
        raise NoUsableVideos(f"{path}: not one of its {len(records)} videos can be read (the first: {bad[0]})")
    labelled = LabelledVideos(
        clips=torch.stack(read),
        labels=torch.tensor([names.index(str(record.label)) for record in kept]),
        groups=_groups(path, kept, group_pattern),
        splits=[record.split for record in kept],
        names=names,
    )
    return labelled, bad


def _groups(path: str, records: Sequence[VideoRecord], pattern: str | None) -> list[str] | None:
    if pattern is None:
        groups = [getattr(record, "group", None) for record in records]
        return None if None in groups else [str(group) for group in groups]
    found = [(record.path, re.search(pattern, Path(record.path).name)) for record in records]
    for file, match in found:
        if match is None or not match.groups():
            raise DataError(f"{path}: group pattern {pattern!r} finds no group in the name of {file}")
    return [match.group(1) for _, match in found if match is not None]


def _clips(record: VideoRecord, data: DataConfig, count: int) -> Tensor:
    first, stop = record.frame_range
    stride = sorted(data.strides)[len(data.strides) // 2]
    span = (data.num_frames - 1) * stride + 1
    starts = np.linspace(first, max(stop - span, first), count).round().astype(int)
    indices = np.minimum(starts[:, None] + stride * np.arange(data.num_frames), stop - 1)
    frames = open_video(record.path, data.decode_size, data.reader).read(indices.ravel())
    clips = resize_frames(frames, data.crop_size).view(count, data.num_frames, data.crop_size, data.crop_size, 3)
    return clips.permute(0, 4, 1, 2, 3)


@torch.no_grad()
def video_features(encoder: nn.Module, clips: Tensor) -> Tensor:
    """Mean feature of each video's clips: uint8 (N, V, 3, T, S, S) to (N, D), on the CPU; evaluation mode."""
    device = next(encoder.parameters()).device
    was_training = encoder.training
    encoder.eval()
    try:
        return torch.stack([encoder(normalize(video.to(device))).float().mean(0).cpu() for video in clips])
    finally:
        encoder.train(was_training)
