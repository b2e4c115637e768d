"""From bytes to network input on CUDA: the bits of the CPU, and no foreign memory whatever the values say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from ops.test_augment_clips import FLOATS, IMAGENET, drawn_clip, empty, window_of
from ops.test_sample_augmentation import CONFIGS
from tubeletx import AugmentClips, AugmentConfig, TubeletConfig, TubeletSampler

cpu = torch.ops.tubeletx
Kernel = Callable[[str], Callable[..., Any]]


def drawn_arguments(seed: int, batch: int, clips: int, sizes: list[tuple[int, int]]) -> tuple[Tensor, Tensor, Tensor]:
    sides = [side for size in sizes for side in size]
    settings = AugmentConfig(area=(0.05, 1), grayscale=0.2).settings()
    return cpu.sample_augmentation(torch.arange(batch) + seed, 7, 0, sides[: 2 * clips], settings)


@pytest.mark.parametrize("name", CONFIGS)
def test_sample_augmentation(kernel: Kernel, name: str) -> None:
    for ids in (torch.tensor([0, 1, -5, 2**40, 77]), torch.arange(0)):
        arguments = (ids, 2**35 + 9, 3, [128, 171, 340, 256, 1, 9], CONFIGS[name].settings())
        got, expected = (operator(*arguments) for operator in (kernel("sample_augmentation"), cpu.sample_augmentation))
        assert all(map(torch.equal, got, expected))
        given = kernel("sample_augmentation")(*arguments[:2], 0, *arguments[3:], torch.tensor(3))
        assert all(map(torch.equal, given, expected))


@pytest.mark.parametrize("dtype", [torch.uint8, *FLOATS], ids=str)
@pytest.mark.parametrize("laid", ["channels_last", "contiguous"])
def test_equals_the_cpu(kernel_in_place: Kernel, dtype: torch.dtype, laid: str) -> None:
    sizes = [(30, 171), (41, 23), (1, 300)]
    for count, (height, width) in enumerate([(17, 140), (32, 20), (9, 7)], start=1):
        clips = [drawn_clip(count + v, 2, 3, *sizes[v]) for v in range(count)]
        windows, flips, color = drawn_arguments(count, 2, count, sizes)
        if laid == "contiguous":
            clips = [clip.contiguous() for clip in clips]
        rest = (clips, windows, flips, None if dtype == torch.uint8 else color, IMAGENET, [], [])
        got, expected = ([empty(2, 3, height, width, dtype) for _ in clips] for _ in range(2))
        kernel_in_place("augment_clips_")(got, *rest)
        cpu.augment_clips_(expected, *rest)
        assert all(map(torch.equal, got, expected))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32], ids=str)
def test_tubelets_equal_the_cpu(kernel_in_place: Kernel, dtype: torch.dtype) -> None:
    clips = [drawn_clip(1, 2, 3, 40, 50), drawn_clip(2, 2, 3, 30, 30)]
    tubelets = TubeletSampler(TubeletConfig.preset("released"), seed=1)(
        torch.arange(2), num_frames=3, height=32, width=28
    )
    color = None if dtype == torch.uint8 else torch.rand(2, 2, 4, generator=torch.Generator().manual_seed(0))
    rest = (clips, None, None, color, IMAGENET, list(tubelets.tensors().values()), list(tubelets.max_patch_size))
    got, expected = ([empty(2, 3, 32, 28, dtype) for _ in clips] for _ in range(2))
    kernel_in_place("augment_clips_")(got, *rest)
    cpu.augment_clips_(expected, *rest)
    assert all(map(torch.equal, got, expected))


@pytest.mark.parametrize("batch", [2, 35])
def test_clips_of_sizes_of_their_own_equal_the_cpu(kernel_in_place: Kernel, batch: int) -> None:
    """Of so many that they take several launches, too."""
    sizes = [(3 + 5 * place % 17, 4 + 7 * place % 23) for place in range(2 * batch)]
    clips = [drawn_clip(place, 1, 2, *size) for place, size in enumerate(sizes)]
    flips = torch.rand(batch, 2, generator=torch.Generator().manual_seed(0)) < 0.5
    windows = torch.tensor([[1, 2, width, height] for height, width in sizes], dtype=torch.int32).view(batch, 2, 4)
    tubelets = TubeletSampler(seed=1)(torch.arange(batch), num_frames=2, height=12, width=8)
    fields = list(tubelets.tensors().values())
    for rest in ((windows, flips, None, IMAGENET, fields, [12, 8]), (None, None, None, IMAGENET, [], [])):
        got, expected = ([empty(batch, 2, 12, 8, torch.float32) for _ in range(2)] for _ in range(2))
        kernel_in_place("augment_clips_")(got, clips, *rest)
        cpu.augment_clips_(expected, clips, *rest)
        assert all(map(torch.equal, got, expected))


def test_values_out_of_range_reach_no_foreign_memory(kernel_in_place: Kernel) -> None:
    """The host does not look at them."""
    clip, out = drawn_clip(3, 4, 2, 12, 15), empty(4, 2, 10, 10)
    windows = torch.cat(
        [window_of(-9, -9, 99, 99), window_of(20, 3, 5, 1), window_of(3, 3, 3, 3), window_of(1, 2, 9, 9)]
    )
    kernel_in_place("augment_clips_")([out], [clip], windows, None, None, IMAGENET, [], [])
    inside = torch.cat([window_of(0, 0, 15, 12), window_of(14, 3, 15, 4), window_of(3, 3, 4, 4), window_of(1, 2, 9, 9)])
    expected = empty(4, 2, 10, 10)
    cpu.augment_clips_([expected], [clip], inside, None, None, IMAGENET, [], [])
    assert torch.equal(out, expected)

    tubelets = TubeletSampler()(torch.arange(4), num_frames=2, height=10, width=10)
    fields = tubelets.tensors()
    fields["patch_frame"] = fields["patch_frame"] * 100 - 50
    fields["patch_box"] = fields["patch_box"] * 100 - 300
    kernel_in_place("augment_clips_")([out], [clip], None, None, None, IMAGENET, list(fields.values()), [4, 4])


@pytest.mark.parametrize("shape", [(0, 2, 8, 9), (2, 0, 8, 9), (2, 2, 0, 9), (2, 2, 8, 0)])
def test_empty_outputs(kernel_in_place: Kernel, shape: tuple[int, int, int, int]) -> None:
    clip = drawn_clip(0, shape[0], shape[1], 5, 6)
    out = empty(*shape, torch.float32)
    kernel_in_place("augment_clips_")([out], [clip], None, None, torch.ones(shape[0], 1, 4), IMAGENET, [], [])


@pytest.mark.cuda
def test_a_graph_draws_and_augments_anew() -> None:
    augment = AugmentClips(24, tubelets=TubeletConfig(), seed=3)
    clips = [drawn_clip(1, 2, 4, 40, 50), drawn_clip(2, 2, 4, 31, 33)]
    ids, epoch = torch.arange(2, device="cuda"), torch.tensor(0, device="cuda")
    on_gpu = [clip.cuda() for clip in clips]
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        augment(on_gpu, ids, epoch)
    stream.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        views, _ = augment(on_gpu, ids, epoch)
    for number in (2, 5):
        epoch.fill_(number)
        graph.replay()
        expected, _ = augment(clips, ids.cpu(), number)
        torch.cuda.synchronize()
        assert all(torch.equal(got.cpu(), wanted) for got, wanted in zip(views, expected, strict=True))
