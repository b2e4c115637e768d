"""Every CUDA kernel gives the bits of the CPU operator: emulated on the host (grid, tiles, indices), and on a GPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ops.test_crop_patches import draw as draw_crop
from ops.test_interpolate_keyframes import draw as draw_keyframes
from ops.test_paste_tubelets import DTYPES, LAYOUTS, Case, channels_last, clip_channels_last
from ops.test_paste_tubelets import draw as draw_paste
from ops.test_sample_and_paste import CONFIGS
from ops.test_sample_tubelets import VARIANTS, config_of
from ops.test_track_points import draw as draw_tracks

cpu = torch.ops.tubeletx
Kernel = Callable[[str], Callable[..., Any]]


def same(got: Any, expected: Any) -> bool:
    if isinstance(expected, Tensor):
        return got.dtype == expected.dtype and torch.equal(got, expected)
    return len(got) == len(expected) and all(map(same, got, expected))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_crop_patches(kernel: Kernel, dtype: torch.dtype, channels: int) -> None:
    for seed in range(3):
        clip, frame, box, size = draw_crop(seed, dtype, channels=channels)
        for layout in (clip, clip_channels_last(clip), clip.mT.contiguous().mT):
            for padded in (size, (40, 37)):
                got = kernel("crop_patches")(layout, frame, box, *padded)
                assert same(got, cpu.crop_patches(clip, frame, box, *padded))
                assert got.movedim(2, -1).is_contiguous()


def test_cropping_reads_nothing_outside_of_the_clip(kernel: Kernel) -> None:
    clip = torch.ones(1, 1, 2, 4, 5)
    box = torch.tensor([[[-2, -1, 3, 2], [3, 2, 9, 9], [0, 0, 5, 4]]], dtype=torch.int32)
    patches = kernel("crop_patches")(clip, torch.tensor([[0, 1, 2]], dtype=torch.int32), box, 7, 6)
    assert patches.sum((2, 3, 4)).tolist() == [[6, 4, 0]]


@pytest.mark.parametrize("frame_dtype", [torch.int32, torch.int64], ids=str)
@pytest.mark.parametrize("eased", [False, True])
def test_interpolate_keyframes(kernel: Kernel, frame_dtype: torch.dtype, eased: bool) -> None:
    for rows, keys, axes, num_frames in ((3, 4, 2, 16), (50, 1, 1, 9), (7, 9, 5, 300), (2, 3, 0, 4), (0, 2, 3, 4)):
        frames, values, easing = map(torch.from_numpy, draw_keyframes(7, rows, keys, axes, num_frames))
        arguments = (frames.to(frame_dtype), values, easing if eased else None, num_frames)
        assert same(kernel("interpolate_keyframes")(*arguments), cpu.interpolate_keyframes(*arguments))


@pytest.mark.parametrize("sigma", [0, 0.3, 6, 50, 1200])
@pytest.mark.parametrize("extent_axes", [None, 1, 2])
def test_smooth_path(kernel: Kernel, sigma: float, extent_axes: int | None) -> None:
    generator = torch.Generator().manual_seed(3)
    for rows, points, axes, num_frames in ((5, 48, 2, 16), (1, 1, 3, 4), (3, 5, 1, 1), (2, 300, 2, 200), (0, 4, 2, 3)):
        path = torch.rand(rows, points, axes, generator=generator) * 112
        extent = None if extent_axes is None else torch.rand(rows, axes, generator=generator)[:, : axes * extent_axes]
        if extent is not None and extent_axes == 1:
            extent = extent[:, 0]
        offset = torch.rand(rows, axes, generator=generator) if rows % 2 else None
        arguments = (path, sigma, extent, offset, num_frames)
        assert same(kernel("smooth_path")(*arguments), cpu.smooth_path(*arguments))


@pytest.mark.parametrize("variant", VARIANTS)
def test_sample_tubelets(kernel: Kernel, variant: str) -> None:
    sizes = ((16, 112, 112), (1, 50, 80), (2, 37, 90), (40, 224, 160), (64, 30, 32), (129, 32, 30))
    for tubelets, (num_frames, height, width) in zip((2, 1, 5, 11, 2, 3), sizes, strict=True):
        config = config_of(variant, num_tubelets=tubelets)
        ids = torch.tensor([0, 1, -5, 2**40, 77])
        arguments = (ids, 2**35 + 9, 3, num_frames, height, width, config.settings())
        assert same(kernel("sample_tubelets")(*arguments), cpu.sample_tubelets(*arguments))


@pytest.mark.parametrize(
    "overrides",
    [
        {"num_points": 1024, "sigma": 1024},
        {"num_points": 1, "sigma": 3},
        {"num_points": 7, "sigma": 0},
        {"num_tubelets": 4096, "num_points": 5},
    ],
    ids=str,
)
def test_sample_tubelets_at_its_limits(kernel: Kernel, overrides: dict[str, Any]) -> None:
    arguments = (torch.arange(2), 1, 0, 3, 64, 48, config_of("paper", **overrides).settings())
    assert same(kernel("sample_tubelets")(*arguments), cpu.sample_tubelets(*arguments))


def paste(operator: Callable[..., Any], case: Case) -> list[Tensor]:
    return operator(case.clips, case.patches, *case.geometry)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("alpha", [False, True], ids=["rgb", "rgba"])
def test_paste_tubelets_in_every_dtype_and_layout(kernel: Kernel, dtype: torch.dtype, layout: str, alpha: bool) -> None:
    for width in (37, 40):  # runs of four pixels are aligned in the second
        case = draw_paste(len(layout) + alpha, dtype, alpha=alpha, width=width)
        of_clip, of_patches = LAYOUTS[layout]
        case = replace(case, clips=[of_clip(clip) for clip in case.clips], patches=of_patches(case.patches))
        assert same(paste(kernel("paste_tubelets"), case), paste(cpu.paste_tubelets, case))


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32], ids=str)
def test_paste_tubelets_over_drawn_calls(kernel: Kernel, seed: int, dtype: torch.dtype) -> None:
    generator = np.random.default_rng(2000 + seed)
    case = draw_paste(
        seed,
        dtype,
        batch=int(generator.integers(1, 4)),
        clips=1 + seed % 3,
        tubelets=int(generator.choice([1, 2, 4, 32, 33, 70])),
        channels=(3, 2, 3, 4, 6)[seed % 5],
        frames=int(generator.integers(1, 4)),
        height=int(generator.integers(1, 90)),
        width=int(generator.integers(10, 75)) * 4,
        alpha=bool(seed & 1),
        per_clip=bool(seed & 2),
        offsets=bool(seed & 4),
        hard=bool(seed & 8),
    )
    case = replace(case, clips=[clip_channels_last(clip) for clip in case.clips], patches=channels_last(case.patches))
    assert same(paste(kernel("paste_tubelets"), case), paste(cpu.paste_tubelets, case))


def test_many_frames_share_blocks_differently(kernel: Kernel) -> None:
    """Few frames are cut into bands of rows, many are not: both must paint every row once."""
    for batch, frames, height in ((1, 1, 200), (1, 5, 17), (40, 30, 24)):
        case = draw_paste(3, torch.uint8, batch=batch, frames=frames, height=height, width=44, tubelets=2)
        case = replace(case, clips=[clip_channels_last(clip) for clip in case.clips])
        assert same(paste(kernel("paste_tubelets"), case), paste(cpu.paste_tubelets, case))


def test_a_thin_far_pose_is_seen_wherever_it_covers(kernel: Kernel) -> None:
    case = draw_paste(12, torch.float32, hard=True, batch=4, tubelets=2, height=60, width=60)
    linear = case.linear.clone()
    linear[..., 0] = linear[..., 1] * 1.3 + 1e-3
    case = replace(case, linear=linear * 4)
    assert same(paste(kernel("paste_tubelets"), case), paste(cpu.paste_tubelets, case))
    assert same(backward(kernel("paste_tubelets_backward"), case), backward(cpu.paste_tubelets_backward, case))


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("alpha", [False, True], ids=["rgb", "rgba"])
def test_poses_of_all_sizes_on_bytes(kernel: Kernel, layout: str, alpha: bool) -> None:
    """From patches that are shrunk to nothing to ones that are far larger than the frame, near it and far away."""
    case = draw_paste(15, torch.uint8, frames=12, tubelets=4, height=70, width=60, alpha=alpha)
    factor = 2.0 ** torch.tensor([-21, -14, -12, -9, -6, -4, -3, 3, 10, 20, 30, 63])[:, None, None]
    linear = case.linear * factor
    linear[:, 3, :, :, 1] = case.linear[:, 3, :, :, 1]  # thin in one direction only
    centers = case.centers.clone()
    centers[:, :2, 8:] += torch.tensor([300.0, -200.0])
    centers[1, 0] *= 1e6
    clips = [LAYOUTS[layout][0](clip) for clip in case.clips]
    case = replace(case, clips=clips, linear=linear, centers=centers)
    assert same(paste(kernel("paste_tubelets"), case), paste(cpu.paste_tubelets, case))


@pytest.mark.parametrize("width", [16, 48, 112, 40, 37])
@pytest.mark.parametrize("first", [0, 16, 4, 1])
def test_bytes_in_vectors_and_beside_them(kernel_in_place: Kernel, width: int, first: int) -> None:
    """Rows that start at multiples of 16 bytes, of 4 and of none, with memory around them that is not the clip's."""
    batch, frames, height = 2, 3, 21
    case = draw_paste(width, torch.uint8, batch=batch, frames=frames, height=height, width=width, hard=True)
    case = replace(case, opacity=torch.where(case.opacity > 0.3, torch.ones(()), case.opacity))
    length = batch * frames * height * width * 3
    memories = [torch.randint(256, (first + length + 16,), dtype=torch.uint8) for _ in case.clips]

    def clip_in(memory: Tensor) -> Tensor:
        return memory[first : first + length].view(batch, frames, height, width, 3).permute(0, 4, 1, 2, 3)

    expected = [memory.clone() for memory in memories]
    cpu.paste_tubelets_([clip_in(memory) for memory in expected], case.patches, *case.geometry)
    clips = [clip_in(memory) for memory in memories]
    kernel_in_place("paste_tubelets_")(clips, channels_last(case.patches), *case.geometry)
    assert same(memories, expected)


@pytest.mark.parametrize("axis", ["batch", "tubelets", "frames", "height", "width", "channels"])
def test_empty_axes(kernel: Kernel, axis: str) -> None:
    case = draw_paste(13, **{axis: 0})  # type: ignore[arg-type]
    assert same(paste(kernel("paste_tubelets"), case), case.clips)
    got = backward(kernel("paste_tubelets_backward"), case)
    assert same(got, backward(cpu.paste_tubelets_backward, case))


@pytest.mark.parametrize("beyond", [(24, 5), (5, 20), (0, 5), (-3, 5)])
def test_a_size_beyond_the_storage_paints_nothing(kernel: Kernel, beyond: tuple[int, int]) -> None:
    case = draw_paste(14, torch.uint8)
    case = replace(case, patch_size=torch.tensor(beyond, dtype=torch.int32).expand_as(case.patch_size).contiguous())
    assert same(paste(kernel("paste_tubelets"), case), case.clips)


@pytest.mark.parametrize("law", CONFIGS)
@pytest.mark.parametrize("layout", ["channels_last", "contiguous"])
def test_sample_and_paste(kernel_in_place: Kernel, law: str, layout: str) -> None:
    config = CONFIGS[law]
    generator = torch.Generator().manual_seed(1)
    for count, shape in enumerate(
        ((3, 3, 6, 45, 67), (2, 3, 3, 40, 48), (2, 1, 70, 9, 50), (0, 3, 4, 32, 32)), start=1
    ):
        clips = [
            LAYOUTS[layout][0](torch.randint(256, shape, generator=generator, dtype=torch.int32).byte())
            for _ in range(count)
        ]
        ids = torch.arange(shape[0]) * 1_000_003 - count
        largest = list(config.max_patch_size(*shape[-2:]))
        arguments = (ids, 7, 2, config.settings(), largest)
        expected = [clip.clone() for clip in clips]
        fields = cpu.sample_and_paste_(expected, *arguments)
        assert same(kernel_in_place("sample_and_paste_")(clips, *arguments), fields)
        assert same(clips, expected)


def test_sample_and_paste_checks_the_largest_patch(kernel_in_place: Kernel) -> None:
    clip = torch.zeros(1, 3, 2, 16, 16, dtype=torch.uint8)
    settings = CONFIGS["paper"].settings()
    for largest in ([8], [0, 8], [8, -1], []):
        with pytest.raises(ValueError, match=r"^largest_patch: got .* needs"):
            kernel_in_place("sample_and_paste_")([clip], torch.tensor([1]), 0, 0, settings, largest)


def backward(operator: Callable[..., Any], case: Case) -> tuple[list[Tensor], Tensor]:
    generator = torch.Generator().manual_seed(5)
    gradients = [torch.randn(clip.shape, generator=generator).to(clip.dtype) for clip in case.clips]
    background = case.clips if case.patches.shape[-3] == case.clips[0].shape[1] + 1 else []
    return operator(gradients, background, case.patches, *case.geometry)


@pytest.mark.parametrize("dtype", DTYPES[1:], ids=str)
@pytest.mark.parametrize("alpha", [False, True], ids=["rgb", "rgba"])
@pytest.mark.parametrize("per_clip", [False, True], ids=["shared", "per_clip"])
@pytest.mark.parametrize("offsets", [False, True], ids=["fixed", "offsets"])
def test_paste_tubelets_backward(
    kernel: Kernel, dtype: torch.dtype, alpha: bool, per_clip: bool, offsets: bool
) -> None:
    case = draw_paste(20 + alpha, dtype, alpha=alpha, per_clip=per_clip, offsets=offsets, channels=3 + 2 * offsets)
    got = backward(kernel("paste_tubelets_backward"), case)
    assert same(got, backward(cpu.paste_tubelets_backward, case))
    assert got[1].any()


@pytest.mark.parametrize("seed", range(3))
def test_track_points(kernel: Kernel, seed: int) -> None:
    for tubelets, points, frames in ((3, 150, 5), (0, 7, 2), (9, 40, 1), (2, 0, 3)):
        arguments = draw_tracks(seed, tubelets=tubelets, points=points, frames=frames, targets=1 + seed)
        arguments["points"] = arguments["points"].mT.contiguous().mT
        assert same(kernel("track_points")(*arguments.values()), cpu.track_points(*arguments.values()))


def test_tracks_from_outside_of_the_clip_rest(kernel: Kernel) -> None:
    arguments = draw_tracks(9)
    arguments["point_frame"][:] = torch.tensor([-1, 5], dtype=torch.int32)[:, None]
    places, _, owner = kernel("track_points")(*arguments.values())
    assert owner.eq(-1).all()
    assert torch.equal(places, arguments["points"][:, :, None].expand_as(places))


@pytest.mark.parametrize("num_leaves", [0, 1, 70])
def test_draw_leaves(kernel: Kernel, num_leaves: int) -> None:
    for count, frames, height, width in ((2, 3, 24, 40), (1, 1, 3, 700), (3, 2, 17, 1), (0, 2, 4, 4)):
        ids = torch.arange(count) * 1_000_003 - 1
        numbers = (frames, height, width, num_leaves, [0.02, 1.0], 0.5, 0.2, 180.0, 0.6)
        assert same(kernel("draw_leaves")(ids, 5, 2, *numbers), cpu.draw_leaves(ids, 5, 2, *numbers))
        given = kernel("draw_leaves")(ids, 5, 0, *numbers, torch.tensor(2))
        assert same(given, cpu.draw_leaves(ids, 5, 2, *numbers))
