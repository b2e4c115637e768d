"""Counts the repetitions of many marked videos, and compares with the marks."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from torch import Tensor
from tqdm import tqdm

from tubeletx_train.common.distributed import Ranks
from tubeletx_train.config.labelled import TestedDataConfig
from tubeletx_train.data import BadVideo, NoUsableVideos, VideoError, VideoRecord
from tubeletx_train.data.labelled_videos import refuse_unreadable
from tubeletx_train.repetition.count import count_repetitions
from tubeletx_train.repetition.frames import read_letterboxed
from tubeletx_train.repetition.metrics import counting_metrics
from tubeletx_train.repetition.model import CycleNet, NetworkEstimator


@dataclass(frozen=True)
class CountedVideo:
    """A video, or marked part of one.

    Attributes:
        path: As in the list.
        marked: Repetitions that are marked.
        counted: Repetitions that were found.
    """

    path: str
    marked: int
    counted: int


@dataclass(frozen=True)
class CountedVideos:
    """What was counted.

    Attributes:
        counts: One for each of the list that could be read, in its order.
        unreadable: Videos left out.
    """

    counts: list[CountedVideo]
    unreadable: list[BadVideo]

    @property
    def metrics(self) -> dict[str, float]:
        """See `counting_metrics`."""
        return counting_metrics([video.counted for video in self.counts], [video.marked for video in self.counts])


def count_records(
    net: CycleNet,
    records: Sequence[VideoRecord],
    config: TestedDataConfig,
    *,
    frame_size: int,
    videos_per_pass: int,
    clips_per_pass: int,
    unit_refinement: bool,
    autocast: AbstractContextManager[object] | None = None,
    ranks: Ranks | None = None,
    progress: str | None = None,
) -> CountedVideos:
    """Count the repetitions between the first and the last mark of each video.

    Args:
        net: The network, on its device.
        records: Marked videos.
        config: How videos are read.
        frame_size: Side of a frame, pixels.
        videos_per_pass: Videos counted at the same time.
        clips_per_pass: The most clips of a forward pass.
        unit_refinement: See `count_repetitions`.
        autocast: Context of the forward passes.
        ranks: Processes that share the work; all get the result.
        progress: What a progress bar says; None shows none.

    Raises:
        DataError: A video cannot be read, unless that is allowed.
    """
    ranks = ranks or Ranks()
    mine = range(ranks.rank, len(records), ranks.world_size)
    counts: dict[int, CountedVideo] = {}
    bad: list[BadVideo] = []
    device = next(net.parameters()).device
    hidden = True if progress is None or not ranks.is_main else None
    with tqdm(total=len(mine), desc=progress, unit="video", disable=hidden) as bar:
        for start in range(0, len(mine), videos_per_pass):
            group: list[tuple[int, Tensor]] = []
            for place in mine[start : start + videos_per_pass]:
                record = records[place]
                try:
                    first, last = record.boundaries[0], record.boundaries[-1]
                    frames = read_letterboxed(record, frame_size, config.reader, first, last + 1)
                    group.append((place, frames.to(device)))
                except VideoError as error:
                    bad.append(BadVideo(error.path, error.reason))
                bar.update()
            estimator = NetworkEstimator(
                net, [frames for _, frames in group], clips_per_pass=clips_per_pass, autocast=autocast
            )
            found = count_repetitions(estimator, [len(frames) for _, frames in group], unit_refinement)
            for (place, _), count in zip(group, found, strict=True):
                record = records[place]
                counts[place] = CountedVideo(record.path, len(record.boundaries) - 1, count.count)
    parts = ranks.broadcast(ranks.gather((counts, bad)))
    counts = {place: video for part, _ in parts for place, video in part.items()}
    bad = [video for _, part in parts for video in part]
    refuse_unreadable(bad, config)
    if not counts:
        raise NoUsableVideos(f"not one of {len(records)} test videos could be read")
    # In the order of the list, whatever process counted what.
    return CountedVideos([counts[place] for place in sorted(counts)], bad)
