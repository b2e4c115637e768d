"""Retrieval of held-out pairs: among N clips find the one of another video that carries the same tubelets."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tubeletx.pair import TubeletPair
from tubeletx_train.common.device import resolve_device
from tubeletx_train.common.files import writable_file, write_json
from tubeletx_train.common.limits import require_at_least, require_seed
from tubeletx_train.common.machine import made_on
from tubeletx_train.data import PairBatch, prepare_videos
from tubeletx_train.data.augment import freeze
from tubeletx_train.data.loader import held_out_batches
from tubeletx_train.evaluation.embed import embed
from tubeletx_train.evaluation.pretrained import held_out_data, load_pretraining, trained_net, untrained_net


@dataclass(frozen=True)
class RetrievalConfig:
    """Settings of a retrieval measurement; clips and tubelets are drawn as the checkpoint's run drew them.

    Attributes:
        checkpoint: A checkpoint of `pretrain`, or the folder of a run, whose newest it then is.
        videos: A manifest or folder of videos that were not trained on; null, where clips were drawn in training:
            others of their kind.
        split: Keep only the manifest's rows of this split.
        pairs: Clips N searched.
        sets: Sets drawn; their spread is reported.
        seed: Seed of the draws.
        device: "auto", "cpu", "cuda" or "cuda:N".
        num_workers: Decoding processes.
        output: JSON file to write; null writes none.
    """

    checkpoint: str
    videos: str | None = None
    split: str | None = None
    pairs: int = 256
    sets: int = 3
    seed: int = 1
    device: str = "auto"
    num_workers: int = 2
    output: str | None = None

    def __post_init__(self) -> None:
        require_at_least(self, 2, "pairs")
        require_at_least(self, 1, "sets")
        require_at_least(self, 0, "num_workers")
        require_seed(self)


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


def mean_and_spread(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample standard deviation (0 of a single value)."""
    tensor = torch.tensor(values, dtype=torch.float64)
    return tensor.mean().item(), tensor.std().item() if len(values) > 1 else 0.0


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
        raise ValueError(f"batches: got {len(query)} pairs, needs count={count}")
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


def evaluate_retrieval(config: RetrievalConfig) -> dict[str, Retrieval]:
    """Retrieval of the "trained" and an "untrained" network on the same sets."""
    trained, weights = load_pretraining(config.checkpoint)
    device = resolve_device(config.device)
    if config.output is not None:
        writable_file(config.output)
    data = held_out_data(trained.data, config.videos, config.split, config.num_workers)
    videos, _ = prepare_videos(data)
    batch_size = min(64, config.pairs)
    batches = held_out_batches(
        videos,
        data,
        count=config.sets * -(-config.pairs // batch_size) * batch_size,
        batch_size=batch_size,
        seed=config.seed,
    )
    pair = TubeletPair(trained.tubelets, seed=config.seed)
    still = trained.contrast.still_background
    sets = [draw_pair_set(batches, pair, config.pairs, still_background=still) for _ in range(config.sets)]
    results = {
        "trained": held_out_retrieval(trained_net(trained, weights, device), sets),
        "untrained": held_out_retrieval(untrained_net(trained, sets[0].query, device), sets),
    }
    if config.output is not None:
        report: dict[str, Any] = {name: dataclasses.asdict(item) | item.summary() for name, item in results.items()}
        write_json(config.output, report | {"checkpoint": config.checkpoint, **made_on(device, "float32")})
    return results


def format_report(results: dict[str, Retrieval]) -> str:
    """A small table of `evaluate_retrieval`'s results."""
    size, sets = next((result.size, len(result.recall_at_1)) for result in results.values())
    lines = [f"retrieval among {size} held-out clips, {sets} sets (mean +- standard deviation)"]
    for name, result in results.items():
        values = result.summary()
        lines.append(
            f"  {name:10} " + "  ".join(f"R@{k} {values[f'r@{k}']:6.1%} +- {values[f'r@{k}_std']:.1%}" for k in (1, 5))
        )
    chance = next(iter(results.values())).summary()
    lines.append(f"  {'chance':10} R@1 {chance['r@1_chance']:6.1%}          R@5 {chance['r@5_chance']:6.1%}")
    return "\n".join(lines)
