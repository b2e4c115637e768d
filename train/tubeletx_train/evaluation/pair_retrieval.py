"""Retrieval of held-out pairs: among N clips find the one of another video that carries the same tubelets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tubeletx.pair import TubeletPair
from tubeletx_train.data import PairBatch
from tubeletx_train.data.augment import freeze
from tubeletx_train.evaluation.embed import embed, mean_and_spread


@dataclass(frozen=True)
class PairSet:
    """Held-out pairs: row b of both carries the same tubelets.

    Attributes:
        query: (N, 3, T, H, W) uint8.
        key: Likewise, of other videos.
    """

    query: Tensor
    key: Tensor


@dataclass(frozen=True)
class Retrieval:
    """Recall over several sets, as shares.

    Attributes:
        size: Clips N searched.
        recall_at_1: One value a set.
        recall_at_5: One value a set.
    """

    size: int
    recall_at_1: tuple[float, ...]
    recall_at_5: tuple[float, ...]

    def summary(self) -> dict[str, float]:
        """Means, standard deviations and chance, by name."""
        result: dict[str, float] = {}
        for k, values in ((1, self.recall_at_1), (5, self.recall_at_5)):
            result[f"r@{k}"], result[f"r@{k}_std"] = mean_and_spread(values)
            result[f"r@{k}_chance"] = min(k / self.size, 1.0)
        return result


def draw_pair_set(
    batches: Iterable[PairBatch], pair: TubeletPair, count: int = 256, *, still_background: bool = False
) -> PairSet:
    """Paste tubelets on held-out batches until `count` pairs are there; no colour augmentation.

    Args:
        batches: At least `count` pairs of clips of different videos; an iterator is left where the set was complete.
        pair: Draws and pastes the tubelets; give it a seed that training did not use.
        count: Pairs N.
        still_background: Freeze the clips first, so that only the tubelets move.
    """
    queries: list[Tensor] = []
    keys: list[Tensor] = []
    for batch in batches:
        clip_1, clip_2 = batch.clip_1, batch.clip_2
        if still_background:
            clip_1, clip_2 = freeze(clip_1), freeze(clip_2)
        clip_1, clip_2, _ = pair(clip_1, clip_2, batch.sample_ids, epoch=batch.epoch)
        queries.append(clip_1)
        keys.append(clip_2)
        if sum(map(len, queries)) >= count:
            break
    query, key = torch.cat(queries)[:count], torch.cat(keys)[:count]
    if len(query) < count:
        raise ValueError(f"batches hold {len(query)} pairs, count={count} are needed")
    return PairSet(query, key)


def recall(query: Tensor, key: Tensor, k: int) -> float:
    """Share of queries (N, D) whose own key is among the k of all keys (N, D) that score highest.

    Ties count as if broken at random, so that a constant embedding gets k / N.
    """
    scores = query @ key.T
    own = scores.diagonal()[:, None]
    above = (scores > own).sum(1)
    tied = (scores == own).sum(1) - 1
    return ((k - above).clamp(min=0) / (tied + 1)).clamp(max=1).mean().item()


def held_out_retrieval(net: nn.Module, sets: Sequence[PairSet], batch_size: int = 64) -> Retrieval:
    """Recall of a network (clips to unit rows) on each set."""
    at_1, at_5 = [], []
    for pairs in sets:
        query, key = embed(net, pairs.query, batch_size), embed(net, pairs.key, batch_size)
        at_1.append(recall(query, key, 1))
        at_5.append(recall(query, key, 5))
    return Retrieval(len(sets[0].query), tuple(at_1), tuple(at_5))
