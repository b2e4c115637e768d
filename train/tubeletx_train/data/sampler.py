"""The order in which samples are visited."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from torch.utils.data import Sampler


class EpochSampler(Sampler[list[tuple[int, int]]]):
    """Batches of (epoch, sample_id) for one rank: an own permutation each epoch, resumable at any batch.

    One iteration runs across epochs, from batch `start` to batch `stop`, so that workers never drain between epochs:
    batch number n is batch `n % batches_per_epoch` of epoch `n // batches_per_epoch`. To resume after `step` steps
    pass `start=step`; nothing else needs saving. The ranks' n-th batches put together are what one rank with
    `batch_size * world_size` would get. The last incomplete batch of an epoch is dropped; a data set smaller than one
    global batch is repeated to fill it.
    """

    def __init__(
        self,
        num_samples: int,
        batch_size: int,
        *,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        start: int = 0,
        stop: int | None = None,
    ) -> None:
        """Make a sampler.

        Args:
            num_samples: Samples of the data set.
            batch_size: Samples of a batch on each rank.
            seed: Seed of the permutations.
            rank: This process, in [0, world_size).
            world_size: Processes.
            start: Batches already taken.
            stop: Batch number to end before; None never ends.
        """
        for name, value, least in (
            ("num_samples", num_samples, 1),
            ("batch_size", batch_size, 1),
            ("seed", seed, 0),
            ("world_size", world_size, 1),
            ("start", start, 0),
        ):
            if value < least:
                raise ValueError(f"{name}: got {value}, needs {least} or more")
        if not 0 <= rank < world_size:
            raise ValueError(f"rank: got {rank}, needs one in [0, world_size={world_size})")
        self.num_samples = num_samples
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.start = start
        self.stop = stop
        self._order: npt.NDArray[np.int64] = np.empty(0, np.int64)
        self._order_epoch = -1

    @property
    def batches_per_epoch(self) -> int:
        """Batches each rank takes in one epoch, at least 1."""
        return max(self.num_samples // (self.batch_size * self.world_size), 1)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        numbers = itertools.count(self.start) if self.stop is None else range(self.start, self.stop)
        return map(self.batch, numbers)

    def batch(self, number: int) -> list[tuple[int, int]]:
        """Batch `number`, wherever the iteration stands."""
        epoch, batch = divmod(number, self.batches_per_epoch)
        if epoch != self._order_epoch:
            self._order, self._order_epoch = self._permutation(epoch), epoch
        first = (batch * self.world_size + self.rank) * self.batch_size
        return [(epoch, sample_id) for sample_id in self._order[first : first + self.batch_size].tolist()]

    def _permutation(self, epoch: int) -> npt.NDArray[np.int64]:
        generator = np.random.Generator(np.random.Philox(key=np.array([self.seed, epoch], np.uint64)))
        order = generator.permutation(self.num_samples)
        needed = self.batch_size * self.world_size
        return order if needed <= self.num_samples else np.resize(order, needed)
