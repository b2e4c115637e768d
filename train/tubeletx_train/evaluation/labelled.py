"""Labelled videos, and their classes read out of frozen features."""

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
    open_record,
    scan_folder,
)
from tubeletx_train.data.pairs import resize_frames
from tubeletx_train.evaluation.readout import Readout, read_out, read_out_by_group


@dataclass(frozen=True)
class LabelledVideos:
    """Clips of labelled videos.

    Attributes:
        origin: The manifest or folder they are of, for messages.
        clips: (N, V, 3, T, S, S) uint8, V clips of each of N videos.
        labels: (N,) int64, indices into `names`.
        groups: N names of who or what a video shows, or None.
        splits: N names of splits, None where unknown.
        names: Classes, sorted.
    """

    origin: str
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
        origin=path,
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
    frames = open_record(record, data.decode_size, data.reader).read(indices.ravel())
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


def read_out_labels(
    encoder: nn.Module, videos: LabelledVideos, fit_split: str = "train", split: str = "test"
) -> Readout:
    """Classes of labelled videos: by group where there are groups, else by split, else leaving one video out.

    Args:
        encoder: Normalised clips (B, 3, T, S, S) to (B, D).
        videos: What is read, and judged by.
        fit_split: Split that the classifiers are fitted on.
        split: Split that they are judged by.

    Raises:
        DataError: A split lacks videos, or there is one class only to fit on.
    """
    features, labels = video_features(encoder, videos.clips), videos.labels
    if videos.groups is None and any(videos.splits):
        fit, judge = (torch.tensor([own == name for own in videos.splits]) for name in (fit_split, split))
        for name, rows in ((fit_split, fit), (split, judge)):
            if not rows.any():
                raise DataError(f"{videos.origin}: has no labelled video of split {name!r}")
        if len(set(labels[fit].tolist())) < 2:
            raise DataError(f"{videos.origin}: split {fit_split!r} holds one class only, two are needed to fit")
        return read_out((features[fit], labels[fit]), (features[judge], labels[judge]), videos.names)
    groups = videos.groups or [str(number) for number in range(len(labels))]
    try:
        return read_out_by_group(features, labels, groups, videos.names)
    except ValueError as error:
        raise DataError(f"{videos.origin}: {error}") from error
