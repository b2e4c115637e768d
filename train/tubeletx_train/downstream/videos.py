"""The labelled videos of a run: read from manifests, drawn from, checked."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tubeletx_train.config.downstream import LabelledDataConfig, TestedDataConfig
from tubeletx_train.data import (
    BadVideo,
    BadVideoTracker,
    DataError,
    NoUsableVideos,
    ReadingConfig,
    VideoRecord,
    check_videos,
    load_videos,
    write_manifest,
)
from tubeletx_train.data.bad_videos import name_some
from tubeletx_train.data.subsets import draw_per_class, draw_share

_logger = logging.getLogger(__name__)
_LABELS_SHOWN = 5


@dataclass(frozen=True)
class TestVideos:
    """Videos to test on.

    Attributes:
        records: Those that can be read.
        unreadable: The others, allowed by `data.allow_unreadable`.
    """

    records: list[VideoRecord]
    unreadable: list[BadVideo]


def listed_training_videos(config: LabelledDataConfig, seed: int, output: Path | None = None) -> list[VideoRecord]:
    """The training split, or the part of it that the settings ask for.

    Args:
        config: Settings.
        seed: Seed of the draw.
        output: Folder in which a drawn part is written out as `train.csv`.
    """
    if config.train is None:
        raise DataError("data.train is missing: give the manifest of the training videos")
    records = load_videos(config.train, config.train_split)
    if config.per_class is not None:
        records = draw_per_class(records, config.per_class, seed)
    elif config.share is not None:
        records = draw_share(records, config.share, seed)
    else:
        return records
    if output is not None:
        write_manifest(output / "train.csv", records)
    return records


def listed_test_videos(config: LabelledDataConfig) -> list[VideoRecord]:
    """The test split."""
    path = config.test if config.test is not None else config.train
    if path is None:
        raise DataError("data.test is missing: give the manifest of the test videos")
    return load_videos(path, config.test_split)


def require_common_labels(train: Sequence[VideoRecord], test: Sequence[VideoRecord]) -> None:
    """Log the labels of test videos that no training video has. Raises DataError where none of them is trained on."""

    def labels(records: Sequence[VideoRecord]) -> set[str]:
        several = {item.label for record in records for item in record.labels}
        return several | {record.label for record in records if record.label is not None}

    tested = labels(test)
    unknown = tested - labels(train)
    if not unknown:
        return
    names = [repr(label) for label in sorted(unknown)]
    some = ", ".join(names[:_LABELS_SHOWN]) + (" ..." if len(names) > _LABELS_SHOWN else "")
    if unknown == tested:
        raise DataError(f"no training video has any of the test videos' labels ({some}); are they spelled alike?")
    _logger.warning(
        "%d of the %d labels of the test videos are of no training video, and so never right: %s",
        len(unknown),
        len(tested),
        some,
    )


def check_training_videos(
    records: Sequence[VideoRecord], config: ReadingConfig, index: Path
) -> tuple[list[VideoRecord], BadVideoTracker]:
    """The readable ones, and what counts those that turn out bad later.

    Raises:
        TooManyBadVideos: Past `config.max_bad_share`.
        NoUsableVideos: There are none.
    """
    good, bad = _check(records, config, index)
    tracker = BadVideoTracker(len({record.path for record in records}), config.max_bad_share)
    tracker.update(bad)
    if not good:
        raise NoUsableVideos(f"not one of the {len(records)} training videos can be read (the first: {bad[0]})")
    return good, tracker


def check_test_videos(records: Sequence[VideoRecord], config: TestedDataConfig, index: Path) -> TestVideos:
    """The readable ones. Raises DataError, naming the others, unless `config.allow_unreadable`."""
    good, bad = _check(records, config, index)
    refuse_unreadable(bad, config)
    if not good:
        raise NoUsableVideos(f"not one of the {len(records)} test videos can be read (the first: {bad[0]})")
    return TestVideos(good, bad)


def refuse_unreadable(bad: Sequence[BadVideo], config: TestedDataConfig) -> None:
    """Log test videos that cannot be read. Raises DataError, naming them, unless `config.allow_unreadable`."""
    for video in bad:
        _logger.warning("unreadable test video %s", video)
    if bad and not config.allow_unreadable:
        raise DataError(
            f"{len(bad)} test videos cannot be read; mend them, or leave them out with --data.allow_unreadable true "
            f"(results.json then lists them):\n{name_some(bad)}"
        )


def _check(
    records: Sequence[VideoRecord], config: ReadingConfig, index: Path
) -> tuple[list[VideoRecord], list[BadVideo]]:
    return check_videos(
        records,
        reader=config.reader,
        workers=max(config.num_workers, 1),
        timeout=config.check_timeout,
        index=index,
    )


def fingerprint(records: Sequence[VideoRecord]) -> str:
    """A digest of which videos, which parts of them and which labels; the folder they lie in does not matter."""
    names = [
        (
            Path(record.path).name,
            record.start,
            record.end,
            record.num_frames,
            record.label,
            record.labels,
            record.boundaries,
        )
        for record in records
    ]
    return hashlib.sha256(repr(names).encode()).hexdigest()
