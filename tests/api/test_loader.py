"""Kept memory gives what torch's loader gives, whatever is held, dropped or left."""

from __future__ import annotations

import dataclasses
import gc
import time
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tubeletx import AugmentClips, KeptMemoryLoader

# A batch of these is larger than the first memory that a worker takes.
SHAPE = (40, 70, 80)


class Numbers(Dataset):
    """Samples that are known by their index, of several kinds of things."""

    def __len__(self) -> int:
        return 24

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {
            "values": torch.full(SHAPE, float(index)),
            "bytes": np.full((3, 5), index, np.uint8),
            "id": index,
            "name": f"sample {index}",
        }


@dataclasses.dataclass
class Batch:
    clips: Tensor
    cut: Tensor
    expanded: Tensor
    none: Tensor
    sizes: list[Tensor]
    names: list[str]


def as_dataclass(samples: list[dict[str, Any]]) -> Batch:
    clips = KeptMemoryLoader.empty((len(samples), 2, 3, 4), torch.uint8)
    for row, sample in zip(clips, samples, strict=True):
        row.fill_(sample["id"])
    whole = torch.stack([sample["values"] for sample in samples])
    return Batch(
        clips=clips.permute(0, 3, 1, 2),
        cut=whole[:, 3:7, ::2],
        expanded=whole[:1, :1].expand(4, 3, -1, -1),
        none=torch.empty(0, 3),
        sizes=[torch.arange(sample["id"], dtype=torch.int16) for sample in samples],
        names=[sample["name"] for sample in samples],
    )


def flat(batch: Any) -> list[Any]:
    if dataclasses.is_dataclass(batch):
        batch = vars(batch)
    if isinstance(batch, dict):
        batch = list(batch.values())
    return [part for value in batch for part in flat(value)] if isinstance(batch, list | tuple) else [batch]


def same(one: Any, other: Any) -> bool:
    pairs = zip(flat(one), flat(other), strict=True)
    return all(a.dtype == b.dtype and torch.equal(a, b) if isinstance(a, Tensor) else a == b for a, b in pairs)


@pytest.mark.parametrize(
    ("workers", "context", "collate_fn"),
    [
        (0, None, None),
        (0, None, as_dataclass),
        (1, "fork", None),
        (2, "fork", as_dataclass),
        (1, "forkserver", as_dataclass),
    ],
)
def test_batches_are_those_of_torch(workers: int, context: str | None, collate_fn: Any) -> None:
    common: dict[str, Any] = {"batch_size": 5, "collate_fn": collate_fn}
    expected = list(DataLoader(Numbers(), **common))
    loader = KeptMemoryLoader(Numbers(), **common, num_workers=workers, multiprocessing_context=context)
    assert len(loader) == len(iter(loader)) == len(expected)
    for batch, wanted in zip(loader, expected, strict=True):
        assert same(batch, wanted)
        if collate_fn is not None:
            assert batch.clips.stride() == wanted.clips.stride()


def test_memory_is_used_again_once_it_is_let_go() -> None:
    loader = KeptMemoryLoader(Numbers(), batch_size=1, num_workers=1, prefetch_factor=2, persistent_workers=True)
    for _ in range(3):
        seen = [batch["values"].data_ptr() for batch in loader]
    assert len(seen) == 24
    assert len(set(seen)) <= 4  # two ahead, one in use, one that is written


def test_batches_that_are_held_stay_as_they_are() -> None:
    loader = KeptMemoryLoader(Numbers(), batch_size=2, num_workers=2, persistent_workers=True)
    for _ in range(2):
        parts = [batch["values"][1, 3:5] for batch in loader]
        for place, part in enumerate(parts):
            assert (part == 2 * place + 1).all()
    del parts
    gc.collect()
    assert [batch["id"].tolist() for batch in loader] == [[2 * place, 2 * place + 1] for place in range(12)]


def test_labels_hold_no_memory_of_clips() -> None:
    loader = KeptMemoryLoader(Numbers(), batch_size=1, num_workers=1, persistent_workers=True)
    places, labels = zip(*((batch["values"].data_ptr(), batch["id"]) for batch in loader), strict=True)
    assert torch.cat(labels).tolist() == list(range(24))
    assert len(set(places)) <= 4


def test_a_loop_that_is_left_loses_no_memory() -> None:
    loader = KeptMemoryLoader(Numbers(), batch_size=1, num_workers=1, prefetch_factor=3, persistent_workers=True)
    seen = set()
    for _ in range(12):
        for place, batch in enumerate(loader):
            seen.add(batch["values"].data_ptr())
            assert (batch["values"] == place).all()
            if place == 1:
                break
    assert len(seen) <= 8


def test_batches_outlive_loader_and_workers() -> None:
    loader = KeptMemoryLoader(Numbers(), batch_size=3, num_workers=1)
    first = next(iter(loader))
    del loader
    gc.collect()
    assert (first["values"] == torch.arange(3.0).view(3, 1, 1, 1)).all()
    assert first["name"] == ["sample 0", "sample 1", "sample 2"]


class Growing(Dataset):
    """The later, the larger."""

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> Tensor:
        return torch.full((index + 1, 200, 1000), index, dtype=torch.int32)


def test_memory_grows_with_the_batches() -> None:
    loader = KeptMemoryLoader(Growing(), batch_size=None, num_workers=1, persistent_workers=True)
    for _ in range(2):
        for index, clip in enumerate(loader):
            assert clip.shape == (index + 1, 200, 1000)
            assert (clip == index).all()


class Failing(Numbers):
    def __getitem__(self, index: int) -> dict[str, Any]:
        if index == 7:
            raise LookupError("no such sample")
        return super().__getitem__(index)


def test_errors_arrive() -> None:
    with pytest.raises(LookupError, match="no such sample"):
        list(KeptMemoryLoader(Failing(), batch_size=2, num_workers=1))


class Slow(Numbers):
    def __getitem__(self, index: int) -> dict[str, Any]:
        if index == 0:
            time.sleep(1.5)
        return super().__getitem__(index)


def test_a_loop_may_go_on_after_a_timeout() -> None:
    batches = iter(KeptMemoryLoader(Slow(), batch_size=6, num_workers=1, timeout=1))
    with pytest.raises(RuntimeError, match="timed out"):
        next(batches)
    assert [batch["id"][0].item() for batch in batches] == [0, 6, 12, 18]


def test_a_loader_made_of_another_packs_once() -> None:
    first = KeptMemoryLoader(Numbers(), batch_size=2, num_workers=1)
    again = KeptMemoryLoader(Numbers(), batch_size=2, num_workers=1, collate_fn=first.collate_fn)
    assert next(iter(again))["id"].tolist() == [0, 1]


class Clips(Dataset):
    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> tuple[int, Tensor]:
        generator = torch.Generator().manual_seed(index)
        return index, torch.randint(256, (2, 20 + index % 3, 30, 3), dtype=torch.uint8, generator=generator)


class Augmenting:
    def __init__(self) -> None:
        self.augment = AugmentClips(16, seed=3)

    def __call__(self, samples: list[tuple[int, Tensor]]) -> tuple[Tensor, Tensor]:
        ids, clips = zip(*samples, strict=True)
        out = KeptMemoryLoader.empty((len(ids), 2, 16, 16, 3)).permute(0, 4, 1, 2, 3)
        self.augment([clips], torch.tensor(ids), out=[out])
        return torch.tensor(ids), out


def test_workers_augment_as_the_main_process_does() -> None:
    alone, helped = (list(KeptMemoryLoader(Clips(), 3, num_workers=n, collate_fn=Augmenting())) for n in (0, 2))
    for (ids, clips), (same_ids, same_clips) in zip(alone, helped, strict=True):
        assert torch.equal(ids, same_ids)
        assert torch.equal(clips, same_clips)
        assert same_clips.is_contiguous(memory_format=torch.channels_last_3d)
