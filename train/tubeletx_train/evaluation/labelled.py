"""Labelled videos, and their classes read out of frozen features."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from tubeletx_train.config.labelled import LabelledDataConfig
from tubeletx_train.data import (
    BadVideo,
    DataConfig,
    DataError,
    NoUsableVideos,
    VideoRecord,
    build_clip_loader,
    check_videos,
    load_videos,
    scan_folder,
)
from tubeletx_train.data.labelled import VideoViews, ViewDataset
from tubeletx_train.evaluation.embed import embed_videos
from tubeletx_train.evaluation.readout import Readout, read_out, read_out_by_group


@dataclass(frozen=True)
class LabelledClips:
    """Clips of labelled videos.

    Attributes:
        origin: The manifest or folder they are of, for messages.
        clips: (N, V, 3, T, S, S) uint8, V clips of each of N videos; one where no video is longer than a clip.
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
    path: str,
    data: DataConfig,
    *,
    clips: int,
    group_pattern: str | None = None,
    most: Mapping[str | None, int] | None = None,
) -> tuple[LabelledClips, list[BadVideo]]:
    """Linearly spaced clips of every labelled video, a central window of each, as `evaluate` cuts them.

    Args:
        path: A manifest with labels, or a folder whose subfolders are the classes.
        data: Frames, strides (the middle one is taken), size and reader of a clip.
        clips: Clips V of a video.
        group_pattern: Regular expression whose first group, found in a file's name, names the video's group; where
            None, the manifest's column `group` does, unless a column `split` says what is judged by what.
        most: By split, how many videos of each class are taken, the first of the list; others are left out. None takes
            all.

    Returns:
        The clips, and the videos that could not be read.

    Raises:
        DataError: No videos, videos without labels, fewer than two classes, or a name without group.
    """
    listed = scan_folder(path, label_from_folder=True) if Path(path).is_dir() else load_videos(path)
    if not listed:
        raise DataError(f"{path}: holds no video")
    if most is not None:
        listed = _first(listed, most)
    unlabelled = [record.path for record in listed if record.label is None]
    if unlabelled:
        raise DataError(f"{path}: {len(unlabelled)} videos have no label, the first is {unlabelled[0]}")
    records, bad = check_videos(listed, reader=data.reader, timeout=data.check_timeout)
    names = sorted({str(record.label) for record in records})
    if len(names) < 2:
        raise DataError(f"{path}: needs videos of two classes or more, has {', '.join(names) or 'none'}")
    dataset = ViewDataset(records, _views(data, clips))
    read: list[VideoViews] = []
    loader = build_clip_loader(dataset, [[place] for place in range(len(records))], list)
    for views in tqdm(loader, "reading clips", len(records), unit="video", leave=False, disable=None):
        read += [item for item in views if item.bad is None]
        bad += [item.bad for item in views if item.bad is not None]
    if not read:
        raise NoUsableVideos(f"{path}: not one of its {len(records)} videos can be read (the first: {bad[0]})")
    kept = [records[item.place] for item in read]
    views_of_a_video = max(len(item.views) for item in read)
    labelled = LabelledClips(
        origin=path,
        # A video no longer than a clip gives one, which then stands for all.
        clips=torch.stack([item.views.expand(views_of_a_video, -1, -1, -1, -1) for item in read]).permute(
            0, 1, 5, 2, 3, 4
        ),
        labels=torch.tensor([names.index(str(record.label)) for record in kept]),
        groups=_groups(path, kept, group_pattern),
        splits=[record.split for record in kept],
        names=names,
    )
    return labelled, bad


def _first(records: Iterable[VideoRecord], most: Mapping[str | None, int]) -> list[VideoRecord]:
    counts: Counter[tuple[str | None, str | None]] = Counter()
    kept = []
    for record in records:
        kind = (record.split, record.label)
        counts[kind] += 1
        if counts[kind] <= most.get(record.split, 0):
            kept.append(record)
    return kept


def _views(data: DataConfig, clips: int) -> LabelledDataConfig:
    """The views of a pretraining's clips."""
    return LabelledDataConfig(
        num_frames=data.num_frames,
        fps=None,
        stride=data.middle_stride,
        short="hold",
        crop_size=data.crop_size,
        decode_size=data.decode_size,
        test_clips=clips,
        reader=data.reader,
        num_workers=data.num_workers,
        timeout=data.timeout,
    )


def _groups(path: str, records: Sequence[VideoRecord], pattern: str | None) -> list[str] | None:
    if pattern is None:
        groups = [record.group for record in records]
        split = any(record.split is not None for record in records)
        return None if split or None in groups else [str(group) for group in groups]
    found = [(record.path, re.search(pattern, Path(record.path).name)) for record in records]
    for file, match in found:
        if match is None or not match.groups():
            raise DataError(f"{path}: group pattern {pattern!r} finds no group in the name of {file}")
    return [match.group(1) for _, match in found if match is not None]


def read_out_labels(
    encoder: nn.Module, videos: LabelledClips, fit_split: str = "train", split: str = "test"
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
    features, labels = embed_videos(encoder, videos.clips), videos.labels
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
