"""From a data set's list files and its videos to a manifest."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm

from tubeletx_train.common.files import replaced_file
from tubeletx_train.common.limits import require_at_least, require_positive, require_positive_share, require_seed
from tubeletx_train.config.data import ReaderName
from tubeletx_train.data.check import check_videos
from tubeletx_train.data.datasets import DATASETS, read_folder
from tubeletx_train.data.errors import DataError
from tubeletx_train.data.find import VideoIndex, find_videos
from tubeletx_train.data.manifest import write_manifest
from tubeletx_train.data.readers import tells_rate
from tubeletx_train.data.record import VideoRecord
from tubeletx_train.data.subsets import draw_per_class, draw_share

FOLDER = "folder"


@dataclass(frozen=True)
class ManifestConfig:
    """What a manifest is made of.

    Attributes:
        dataset: A data set's name, or "folder" for any folder of videos.
        root: Folder of the videos, searched to any depth: a listed video is found by its name, whatever its extension,
            as a file, as a zip of frames or as a folder of frames.
        output: Manifest to write (CSV).
        annotations: Folder of the data set's list files; by default `root`.
        splits: The splits to write; by default all that the data set has.
        fold: Which of the data set's divisions into train and test (UCF101 and HMDB51 have three).
        subset: Keep this share of the training videos of each class, rounded up (Figure 5).
        per_class: Keep this many training videos of each class (the low-shot sets: 10 for UCF101, 11 for Gym-99).
        subset_seed: Seed of that draw.
        group_pattern: For "folder": regular expression whose first parentheses match a video's group in its path.
        fps: Frames per second of folders and zips of frames, which do not tell it (25 is assumed otherwise).
        check: Decode the first and the last frame of every video, and write down frame counts, rates and sizes.
        reader: What decodes video files in the check.
        num_workers: Processes that check.
        check_timeout: Seconds that the check waits for one video.
        allow_missing: Write the manifest although listed videos are missing or unreadable.
    """

    dataset: str
    root: str
    output: str
    annotations: str | None = None
    splits: tuple[str, ...] = ()
    fold: int = 1
    subset: float | None = None
    per_class: int | None = None
    subset_seed: int = 0
    group_pattern: str | None = None
    fps: float | None = None
    check: bool = False
    reader: ReaderName = "decord"
    num_workers: int = 2
    check_timeout: float = 60.0
    allow_missing: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "dataset", self.dataset.replace("-", "_"))
        if self.dataset != FOLDER and self.dataset not in DATASETS:
            raise ValueError(f"dataset: got {self.dataset!r}, needs one of {', '.join([*DATASETS, FOLDER])}")
        if self.subset is not None and self.per_class is not None:
            raise ValueError("subset and per_class exclude each other")
        require_positive(self, "fps")
        require_positive_share(self, "subset")
        require_at_least(self, 1, "per_class", "num_workers")
        require_positive(self, "check_timeout")
        require_seed(self, "subset_seed")
        if self.dataset == FOLDER:
            if self.annotations is not None:
                raise ValueError("annotations is for data sets with list files, not for a folder")
            return
        if self.group_pattern is not None:
            raise ValueError('group_pattern is for "folder"')
        dataset = DATASETS[self.dataset]
        if not 1 <= self.fold <= dataset.folds:
            raise ValueError(f"fold: got {self.fold}, needs one in 1..{dataset.folds} for {dataset.title}")
        unknown = [split for split in self.splits if split not in dataset.published]
        if unknown:
            raise ValueError(f"{dataset.title} has the splits {', '.join(dataset.published)}, not {unknown[0]!r}")


@dataclass(frozen=True)
class MissingVideo:
    """A listed video that is not there or cannot be read.

    Attributes:
        record: As listed.
        reason: Why it is left out.
    """

    record: VideoRecord
    reason: str


@dataclass(frozen=True)
class SplitCounts:
    """What became of one split.

    Attributes:
        split: Its name, "all" where there are no splits.
        published: Videos as published; None where the data set or the fold has no published count.
        listed: Videos in the list.
        drawn: Videos left by `subset` or `per_class`.
        missing: Of these, videos missing or unreadable.
    """

    split: str
    published: int | None
    listed: int
    drawn: int
    missing: int


@dataclass(frozen=True)
class ManifestReport:
    """What a manifest holds.

    Attributes:
        records: The videos found, those of a split together, in the order of the lists.
        missing: The listed videos that are left out.
        counts: One entry a split.
    """

    records: list[VideoRecord]
    missing: list[MissingVideo]
    counts: list[SplitCounts]


def build_manifest(config: ManifestConfig, *, progress: bool = True) -> ManifestReport:
    """Read the lists, draw the subset, find the videos. Writes nothing.

    Args:
        config: What to read.
        progress: Show progress bars (on a terminal).

    Raises:
        ManifestError: A list file is missing or malformed.
        DataError: No such folder, an ambiguous file, a class too small.
    """
    root = Path(config.root)
    if config.dataset == FOLDER:
        listed = _folder_splits(config, root)
        published: dict[str, int | None] = {}
    else:
        dataset = DATASETS[config.dataset]
        annotations = Path(config.annotations if config.annotations is not None else config.root)
        if not annotations.is_dir():
            raise DataError(f"{annotations}: is not a folder")
        published = dataset.published if config.fold == 1 else {}
        splits = config.splits or (dataset.present and dataset.present(annotations)) or tuple(dataset.published)
        listed = {split: dataset.read(annotations, split, config.fold) for split in splits}
    if (config.subset or config.per_class) and not any(map(_is_drawn_from, listed)):
        raise DataError(
            "subset and per_class draw from the training videos, the splits are "
            + ", ".join(name or "none" for name in listed)
        )
    # Drawn before the files are looked for: which videos a subset holds must not depend on those that are missing.
    drawn = {split: _draw(config, split, records) for split, records in listed.items()}
    records = [record for part in drawn.values() for record in part]
    if not records:
        raise DataError(f"{config.root}: lists no video")
    found, missing = (records, []) if config.dataset == FOLDER else _locate(records, root, progress)
    if config.fps is not None:
        found = [record if tells_rate(record.path) else replace(record, fps=config.fps) for record in found]
    if config.check and found:
        found, unreadable = _check(config, found, progress)
        missing += unreadable
    counts = [
        SplitCounts(
            split or "all",
            published.get(split or ""),
            len(listed[split]),
            len(drawn[split]),
            sum(item.record.split == split for item in missing),
        )
        for split in listed
    ]
    return ManifestReport(found, missing, counts)


def _folder_splits(config: ManifestConfig, root: Path) -> dict[str | None, list[VideoRecord]]:
    parts: dict[str | None, list[VideoRecord]] = {split: [] for split in config.splits}
    for record in read_folder(root, config.group_pattern):
        if not config.splits or record.split in config.splits:
            parts.setdefault(record.split, []).append(record)
    empty = [split for split, records in parts.items() if not records]
    if empty:
        raise DataError(f"{root}: holds no video of split {empty[0]!r} (a folder of that name directly below it)")
    return parts


def _is_drawn_from(split: str | None) -> bool:
    return split in (None, "train")


def _draw(config: ManifestConfig, split: str | None, records: list[VideoRecord]) -> list[VideoRecord]:
    if not _is_drawn_from(split):
        return records
    if config.subset is not None:
        return draw_share(records, config.subset, config.subset_seed)
    if config.per_class is not None:
        return draw_per_class(records, config.per_class, config.subset_seed)
    return records


def _locate(records: Sequence[VideoRecord], root: Path, progress: bool) -> tuple[list[VideoRecord], list[MissingVideo]]:
    paths = tqdm(find_videos(root), "looking for videos", unit="video", disable=None if progress else True)
    index = VideoIndex(paths)
    found, missing = [], []
    for record in records:
        path = index.find(record.path)
        if path is None:
            missing.append(MissingVideo(record, "no such file"))
        else:
            found.append(replace(record, path=path))
    return found, missing


def _check(
    config: ManifestConfig, records: Sequence[VideoRecord], progress: bool
) -> tuple[list[VideoRecord], list[MissingVideo]]:
    good, bad = check_videos(
        records, reader=config.reader, workers=config.num_workers, timeout=config.check_timeout, progress=progress
    )
    reasons = {video.path: video.reason for video in bad}
    return list(good), [MissingVideo(record, reasons[record.path]) for record in records if record.path in reasons]


def missing_path(output: str | Path) -> Path:
    """Where the list of missing videos of a manifest stands."""
    output = Path(output)
    return output.with_name(f"{output.stem}_missing.csv")


def write_manifest_files(config: ManifestConfig, report: ManifestReport) -> None:
    """Write the manifest, and beside it the list of what is missing (`NAME_missing.csv`: path, split, label, reason).

    Raises:
        DataError: Videos are missing and `allow_missing` is off, or nothing is left; the manifest is then not written.
    """
    output = Path(config.output)
    list_path = missing_path(output)
    if report.missing:
        with replaced_file(list_path) as file:
            writer = csv.writer(file)
            writer.writerow(["path", "split", "label", "reason"])
            writer.writerows([m.record.path, m.record.split, m.record.label, m.reason] for m in report.missing)
    if report.missing and (not config.allow_missing or not report.records):
        total = len(report.missing) + len(report.records)
        raise DataError(
            f"{len(report.missing)} of {total} videos are missing or unreadable below {config.root} "
            f"(listed in {list_path}); no manifest was written"
            + ("" if not report.records else ", --allow_missing true writes it without them")
        )
    write_manifest(output, report.records)
    if not report.missing:
        list_path.unlink(missing_ok=True)  # an earlier call's


def format_counts(report: ManifestReport) -> str:
    """The counts of each split as a table."""
    header = ("split", "published", "listed", "drawn", "missing", "written")
    rows = [
        (
            count.split,
            "-" if count.published is None else f"{count.published:,}",
            *(f"{number:,}" for number in (count.listed, count.drawn, count.missing, count.drawn - count.missing)),
        )
        for count in report.counts
    ]
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    lines = []
    for row in (header, *rows):
        first, *others = (
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join([first, *others]))
    return "\n".join(lines)
