"""Epochs and sizes that change do not compile a caller again and again, and sizes can be left open in an export."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch._dynamo.testing
from torch import Tensor, nn

from tubeletx import ObjectPatches, PasteTubelets, TubeletConfig, TubeletPair, Tubelets, TubeletSampler

IDS = torch.tensor([4, 9])
# More than torch compiles a function anew before it gives up, and what may vary before sizes and epochs are open.
MANY, FEW = 12, 6


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def clips(frames: int = 4, height: int = 20, width: int = 24) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(frames)
    shape = (2, 3, frames, height, width)
    first, second = (torch.randint(256, shape, dtype=torch.uint8, generator=generator) for _ in range(2))
    return first, second


def whole(function: Callable[..., Any], backend: str = "aot_eager", **options: Any) -> tuple[Callable[..., Any], Any]:
    """The function compiled without breaks, and what counts how often that happened."""
    counter = torch._dynamo.testing.CompileCounterWithBackend(backend)
    return torch.compile(function, fullgraph=True, backend=counter, **options), counter


def pasted(pair: TubeletPair, *arguments: Any) -> list[Tensor]:
    return list(pair(*arguments)[:2])


def test_a_pair_at_twelve_epochs() -> None:
    pair = TubeletPair()
    compiled, counter = whole(lambda *arguments: pasted(pair, *arguments))
    for epoch in range(MANY):
        arguments = (*clips(), IDS, epoch)
        assert all(map(torch.equal, compiled(*arguments), pasted(pair, *arguments)))
    assert counter.frame_count <= FEW
    for epoch in range(MANY):
        arguments = (*clips(), IDS, torch.tensor(epoch))
        assert all(map(torch.equal, compiled(*arguments), pasted(pair, *arguments)))
    assert counter.frame_count <= FEW


def test_tubelets_leave_a_compiled_caller_whole() -> None:
    """Those whose fields the caller looked at, and those that it handed on."""
    sampler = TubeletSampler()

    def draw(ids: Tensor) -> tuple[Tubelets, Tensor]:
        tubelets = sampler(ids, num_frames=4, height=20, width=24)
        return tubelets, tubelets.centers + tubelets.order[..., None, None]

    compiled, _ = whole(draw)
    for (got, looked), (expected, looked_at) in ((compiled(IDS), draw(IDS)), (compiled(IDS + 1), draw(IDS + 1))):
        assert torch.equal(looked, looked_at)
        assert all(torch.equal(tensor, expected.tensors()[name]) for name, tensor in got.tensors().items())
        assert got.reversed().max_patch_size == expected.max_patch_size


@pytest.mark.parametrize("dynamic", [None, True], ids=["automatic", "dynamic"])
def test_a_pair_of_twelve_sizes(dynamic: bool | None) -> None:
    pair = TubeletPair(TubeletConfig.preset("released"))
    compiled, counter = whole(lambda *arguments: pasted(pair, *arguments), dynamic=dynamic)
    for extra in range(MANY):
        arguments = (*clips(2 + extra, 20 + extra, 24 + 2 * extra), IDS)
        assert all(map(torch.equal, compiled(*arguments), pasted(pair, *arguments)))
    assert counter.frame_count <= FEW


def test_a_pair_of_twelve_lengths_and_epochs_in_inductor() -> None:
    pair = TubeletPair()

    def networks_input(*arguments: Any) -> list[Tensor]:
        return [clip.float() / 255 for clip in pasted(pair, *arguments)]

    compiled, counter = whole(networks_input, backend="inductor")
    for epoch in range(MANY):
        arguments = (*clips(2 + epoch), IDS, epoch)
        for one, other in zip(compiled(*arguments), networks_input(*arguments), strict=True):
            torch.testing.assert_close(one, other)
    assert counter.frame_count <= FEW


@pytest.mark.parametrize("with_objects", [False, True], ids=["patches", "objects"])
def test_a_step_of_a_pipeline_at_twelve_epochs_and_lengths(with_objects: bool) -> None:
    generator = np.random.default_rng(0)
    images = [generator.integers(1, 256, (20, 30, 4), dtype=np.uint8) for _ in range(5)]
    objects = ObjectPatches.from_images(images, size=32) if with_objects else None
    paste = PasteTubelets(TubeletConfig.preset("smile"), patches=objects)
    compiled, counter = whole(paste)

    def check(*arguments: Any, **sizes: int) -> None:
        clip = clips(**sizes)[0]
        assert torch.equal(compiled(clip.clone(), *arguments), paste(clip.clone(), *arguments))

    for epoch in range(MANY):
        paste.set_epoch(epoch)
        check(IDS)
    assert counter.frame_count == 1
    for epoch in range(MANY):
        check(IDS, epoch)
    assert counter.frame_count <= FEW
    for extra in range(MANY):
        check(IDS, frames=2 + extra, height=20 + extra)
    assert counter.frame_count <= FEW


def test_named_samples_inside_a_compiled_function() -> None:
    paste = PasteTubelets(TubeletConfig.preset("smile"))

    def step(clip: Tensor, sample_ids: Tensor) -> Tensor:
        with paste.samples(sample_ids):
            return paste(clip)

    compiled, _ = whole(step)
    clip = clips()[0]
    assert torch.equal(compiled(clip.clone(), IDS), step(clip.clone(), IDS))


def test_export_leaves_length_and_size_open() -> None:
    class Pasted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pair = TubeletPair()

        def forward(self, clip_1: Tensor, clip_2: Tensor, sample_ids: Tensor, epoch: Tensor) -> list[Tensor]:
            return pasted(self.pair, clip_1, clip_2, sample_ids, epoch)

    module = Pasted()
    sizes = dict.fromkeys((2, 3, 4), torch.export.Dim.DYNAMIC)
    exported = torch.export.export(
        module, (*clips(), IDS, torch.tensor(0)), dynamic_shapes=(sizes, sizes, None, None)
    ).module()
    for frames, height, width, epoch in ((4, 20, 24, 0), (7, 33, 50, 1), (2, 64, 31, 2**32 - 1)):
        arguments = (*clips(frames, height, width), IDS, torch.tensor(epoch))
        assert all(map(torch.equal, exported(*arguments), module(*arguments)))
