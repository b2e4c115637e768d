"""What the workers of a data set are reading, for messages about a worker that died or hung."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.utils.data import get_worker_info


class NowReading:
    """The place in its data set of the video that each worker reads, in memory shared with the training process."""

    def __init__(self, num_workers: int) -> None:
        self._places = torch.full((max(num_workers, 1),), -1, dtype=torch.int64)
        self._places.share_memory_()  # type: ignore[no-untyped-call]

    @contextmanager
    def video(self, place: int) -> Iterator[None]:
        """While this worker reads the video at `place`."""
        worker = get_worker_info()
        slot = worker.id if worker is not None else 0
        self._places[slot] = place
        try:
            yield
        finally:
            self._places[slot] = -1

    def places(self) -> list[int]:
        """Those that are being read."""
        return [place for place in self._places.tolist() if place >= 0]
