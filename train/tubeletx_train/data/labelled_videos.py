"""The labelled videos of a run: read from manifests, drawn from, checked."""

from __future__ import annotations

import itertools
import logging
import math
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from tubeletx_train.config.labelled import LabelledDataConfig, TestedDataConfig
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
from tubeletx_train.data.manifest import are_numbers, labels_of
from tubeletx_train.data.subsets import draw_per_class, draw_share

_logger = logging.getLogger(__name__)
_NAMES_SHOWN = 5


@dataclass(frozen=True)
class TestVideos:
    """Videos to test on.

    Attributes:
        records: Those that can be read.
        unreadable: The others, allowed by `data.allow_unreadable`.
    """

    records: Sequence[VideoRecord]
    unreadable: list[BadVideo]


def listed_training_videos(config: LabelledDataConfig, seed: int, output: Path | None = None) -> Sequence[VideoRecord]:
    """The training split, or the part of it that the settings ask for.

    Args:
        config: Settings.
        seed: Seed of the draw.
        output: Folder in which a drawn part is written out as `train.csv`.
    """
    if config.train is None:
        raise DataError("data.train is missing: give the manifest of the training videos")
    records: Sequence[VideoRecord] = load_videos(config.train, config.train_split)
    if config.per_class is not None:
        records = draw_per_class(records, config.per_class, seed)
    elif config.share is not None:
        records = draw_share(records, config.share, seed)
    else:
        return records
    if output is not None:
        write_manifest(output / "train.csv", records)
    return records


def listed_test_videos(config: LabelledDataConfig) -> Sequence[VideoRecord]:
    """The test split."""
    path = config.test if config.test is not None else config.train
    if path is None:
        raise DataError("data.test is missing: give the manifest of the test videos")
    return load_videos(path, config.test_split)


def review_splits(train: Sequence[VideoRecord], test: Sequence[VideoRecord], num_classes: int | None) -> None:
    """Log what is trained and tested on, and a warning for what is seldom meant.

    That is: labels that no training video has, classes that no video has, a single class, labels that differ in case
    only, -1, videos in both splits, and videos listed twice.

    Raises:
        DataError: None of the test videos' labels is trained on.
    """
    written = labels_of(train) | labels_of(test)
    numbers = are_numbers(written)

    def classes(records: Sequence[VideoRecord]) -> set[str]:
        return {str(int(label)) if numbers else label for label in labels_of(records)}

    trained, tested = classes(train), classes(test)
    for title, records, known in (("training", train, trained), ("test", test, tested)):
        sizes = sorted(Counter(record.label for record in records if record.label is not None).values())
        span = "" if not sizes else f"{sizes[0]}" if sizes[0] == sizes[-1] else f"{sizes[0]} to {sizes[-1]}"
        each = f", {span} of each" if span else ""
        _logger.info("%s: %d videos of %d classes%s", title, len(records), len(known), each)
    unknown = tested - trained
    if unknown and unknown == tested:
        raise DataError(
            f"no training video has any of the test videos' labels ({_some(unknown)}); are they spelled alike?"
        )
    if unknown:
        _logger.warning(
            "%d of the %d labels of the test videos are of no training video, and so never right: %s",
            len(unknown),
            len(tested),
            _some(unknown),
        )
    if num_classes is not None and len(trained | tested) < num_classes:
        _logger.warning("data.num_classes is %d, but the videos are of %d classes", num_classes, len(trained | tested))
    elif numbers and written:
        _review_numbers({int(label) for label in trained | tested})
    if len(trained | tested) == 1 and (num_classes or 1) == 1:
        _logger.warning("all videos are of one class: there is nothing to tell apart, and every answer is right")
    alike: dict[str, list[str]] = {}
    for label in sorted(trained | tested):
        alike.setdefault(label.casefold(), []).append(label)
    for labels in alike.values():
        if len(labels) > 1:
            _logger.warning("%s are classes of their own, though they differ in case only", _some(labels))
    if "-1" in written:
        _logger.warning("the label -1, which often stands for none, is a class of its own here")
    for title, records in (("training", train), ("test", test)):
        _review_repeats(title, records)
    both = sorted(_in_both(train, test))
    if both:
        _logger.warning("trained and tested on alike: %s (%d in all)", _some(both), len(both))


def _review_numbers(classes: Collection[int]) -> None:
    """Log a warning where a class has no video below the largest, as of a list that is numbered from 1."""
    highest = max(classes)
    empty = highest + 1 - len(classes)
    if not empty:
        return
    first = itertools.islice((number for number in range(highest) if number not in classes), _NAMES_SHOWN)
    _logger.warning(
        "labels that are numbers are the indices of classes, from 0 to %d here: %d of those have no video (%s)",
        highest,
        empty,
        ", ".join(map(str, first)) + (" ..." if empty > _NAMES_SHOWN else ""),
    )


def _review_repeats(title: str, records: Sequence[VideoRecord]) -> None:
    """Log a warning for videos, or stretches of them, that a list holds more than once."""
    known: dict[tuple[str, float | None, float | None], list[VideoRecord]] = {}
    for record in records:
        known.setdefault((record.path, record.start, record.end), []).append(record)
    repeated = {path: rows for (path, *_), rows in known.items() if len(rows) > 1}
    unsure = [path for path, rows in repeated.items() if len({(row.label, row.labels) for row in rows}) > 1]
    if unsure:
        _logger.warning("%s videos listed with different labels: %s (%d in all)", title, _some(unsure), len(unsure))
    if len(repeated) > len(unsure):
        alike = repeated.keys() - set(unsure)
        _logger.warning("%s videos listed more than once: %s (%d in all)", title, _some(alike), len(alike))


def _in_both(train: Sequence[VideoRecord], test: Sequence[VideoRecord]) -> set[str]:
    """Files of which both splits hold the same stretch, or a part of it."""
    stretches: dict[str, list[VideoRecord]] = {}
    for record in train:
        stretches.setdefault(record.path, []).append(record)
    return {
        record.path
        for record in test
        for other in stretches.get(record.path, ())
        if (record.start or 0.0) < (math.inf if other.end is None else other.end)
        and (other.start or 0.0) < (math.inf if record.end is None else record.end)
    }


def _some(names: Collection[str]) -> str:
    """The first of many names."""
    shown = [repr(name) for name in sorted(names)[:_NAMES_SHOWN]]
    return ", ".join(shown) + (" ..." if len(names) > _NAMES_SHOWN else "")


def check_training_videos(
    records: Sequence[VideoRecord], config: ReadingConfig, index: Path
) -> tuple[Sequence[VideoRecord], BadVideoTracker]:
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
) -> tuple[Sequence[VideoRecord], list[BadVideo]]:
    return check_videos(
        records,
        reader=config.reader,
        workers=max(config.num_workers, 1),
        timeout=config.check_timeout,
        index=index,
    )
