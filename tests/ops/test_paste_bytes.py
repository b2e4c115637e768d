"""Pasting onto uint8: the bits of the definition, and how far they lie from float64 arithmetic."""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ops.test_paste_tubelets import LAYOUTS, Case, channels_last, clip_channels_last, draw
from reference.paste_bytes import paste_bytes
from reference.paste_tubelets import paste_tubelets as in_float64
from tubeletx.ops.paste_tubelets import paste_tubelets_

# What csrc/core/paste_bytes.h states: levels from float64 arithmetic that rounds nothing.
ACCURACY = {"opaque": 0.51, "soft": 0.52, "alpha": 1.01, "soft alpha": 1.01, "overlap": 1.4}


INSTRUCTIONS = ("baseline", "AVX2 or NEON", "AVX-512")  # csrc/cpu/vector.h


def limit_instructions(most: int) -> int:
    return torch.ops.tubeletx.limit_instructions(most)  # type: ignore[no-any-return]


@pytest.fixture(params=range(len(INSTRUCTIONS)), ids=INSTRUCTIONS)
def instructions(request: pytest.FixtureRequest) -> Iterator[None]:
    """Runs a test with every instruction set that this processor has."""
    used = limit_instructions(request.param)
    if used == request.param:
        yield
    limit_instructions(len(INSTRUCTIONS))
    if used != request.param:
        pytest.skip(f"this processor has no {INSTRUCTIONS[request.param]}")


def geometry_arrays(case: Case) -> list[Any]:
    return [None if tensor is None else tensor.numpy() for tensor in case.geometry]


def stacked(clips: list[Tensor]) -> Any:
    return np.stack([clip.numpy() for clip in clips])


def assert_defined_bits(case: Case) -> None:
    expected = paste_bytes(stacked(case.clips), case.patches.numpy(), *geometry_arrays(case))
    np.testing.assert_array_equal(stacked(case.run()), expected)


@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize("seed", range(16))
def test_equals_the_integer_reference(seed: int) -> None:
    generator = np.random.default_rng(3000 + seed)
    case = draw(
        seed,
        torch.uint8,
        batch=int(generator.integers(1, 3)),
        clips=1 + seed % 3,
        tubelets=int(generator.integers(1, 5)),
        channels=(3, 1, 4, 2, 6)[seed % 5],
        frames=int(generator.integers(1, 4)),
        height=int(generator.integers(1, 50)),
        width=int(generator.integers(1, 150)),
        alpha=bool(seed & 1),
        per_clip=bool(seed & 2),
        offsets=bool(seed & 4),
        hard=bool(seed & 8),
    )
    if seed % 2:
        case = replace(case, clips=[clip_channels_last(clip) for clip in case.clips])
    if seed % 3:
        case = replace(case, patches=channels_last(case.patches))
    assert_defined_bits(case)


@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("channels", [3, 4])
def test_every_layout_gives_the_bits_of_the_reference(layout: str, channels: int) -> None:
    case = draw(31, torch.uint8, channels=channels, alpha=channels == 3, width=61)
    of_clip, of_patches = LAYOUTS[layout]
    assert_defined_bits(replace(case, clips=[of_clip(clip) for clip in case.clips], patches=of_patches(case.patches)))


@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize("alpha", [False, True], ids=["rgb", "rgba"])
def test_poses_beyond_the_narrow_ones(alpha: bool) -> None:
    """Patches shrunk by 2^11 and more, or far larger than the frame: places then take more than 32 bits."""
    case = draw(32, torch.uint8, frames=6, tubelets=4, alpha=alpha)
    factor = torch.tensor([2.0**-12, 2.0**-9, 1e3, 1e9, 3e18, 2.0**-21])[:, None, None]
    linear = case.linear * factor
    linear[..., 3, :, 1] = case.linear[..., 3, :, 1]  # thin in one direction only
    centers = case.centers.clone()
    centers[:, :, 2:5:2] += torch.tensor([300.0, -200.0])
    assert_defined_bits(replace(case, linear=linear, centers=centers))
    # A thin patch that lies on pixel centres shows on them.
    line = Case(
        clips=[torch.zeros(1, 3, 1, 9, 9, dtype=torch.uint8)],
        patches=torch.full((1, 1, 3, 8, 8), 200, dtype=torch.uint8),
        patch_size=torch.full((1, 1, 2), 8, dtype=torch.int32),
        centers=torch.full((1, 1, 1, 2), 4.5),
        linear=torch.tensor([[1.0, 0.0], [0.0, 2.0**-14]])[None, None, None],
        shape=torch.zeros(1, 1, dtype=torch.int32),
        edge=torch.zeros(1, 1),
        opacity=torch.ones(1, 1, 1),
        order=torch.zeros(1, 1, dtype=torch.int32),
    )
    assert_defined_bits(line)
    assert (line.run()[0][0, 0, 0] == 200).sum() == 8


@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize("channels_first", [False, True], ids=["packed", "planar"])
def test_rows_that_lie_farther_apart_than_32_bits_count(channels_first: bool) -> None:
    case = draw(33, torch.uint8, clips=1, batch=1, frames=1, height=2, width=20)
    row = 1 << 32  # bytes; what nobody touches takes no memory
    strides = (1, 64, 1, row, 1) if channels_first else (1, 1, 1, row, 3)
    clip = torch.empty(row + 256, dtype=torch.uint8).as_strided(case.clips[0].shape, strides)
    clip.copy_(case.clips[0])
    (expected,) = paste_bytes(stacked(case.clips), case.patches.numpy(), *geometry_arrays(case))
    paste_tubelets_([clip], case.patches, *case.geometry)
    np.testing.assert_array_equal(clip.numpy(), expected)


@pytest.mark.usefixtures("instructions")
def test_a_wide_patch_and_a_wide_frame() -> None:
    """Sides past 2^14 texels, and columns past 2^23, where float32 has no halves left."""
    width = 2**24
    clip = torch.zeros(1, 1, 1, 1, width, dtype=torch.uint8)
    case = draw(33, torch.uint8, batch=1, tubelets=2, channels=1, frames=1, height=1, width=4, clips=1)
    generator = torch.Generator().manual_seed(0)
    case = replace(
        case,
        clips=[clip],
        patches=torch.randint(256, (1, 2, 1, 1, 20_000), generator=generator, dtype=torch.int32).byte(),
        patch_size=torch.tensor([[[20_000, 1], [7, 1]]], dtype=torch.int32),
        centers=torch.tensor([[[[9e6, 0.5]], [[2.0**24 - 2.0, 0.5]]]]),
        linear=torch.eye(2).expand(1, 2, 1, 2, 2).contiguous(),
        shape=torch.zeros(1, 2, dtype=torch.int32),
        edge=torch.zeros(1, 2),
        opacity=torch.ones(1, 2, 1),
        order=torch.zeros(1, 2, dtype=torch.int32),
    )
    (pasted,) = case.run()
    # A patch of 20,000 is centred between pixels, so that it is shown as it is; one of seven is centred on a border.
    row = pasted[0, 0, 0, 0]
    assert torch.equal(row[8_990_000:9_010_000], case.patches[0, 0, 0, 0])
    seven = case.patches[0, 1, 0, 0, :7].int()
    between = torch.cat([seven[:1], (seven[:-1] + seven[1:]) / 2])
    assert (row[-6:] - between[:6]).abs().max() <= 0.5
    assert row.count_nonzero() <= 20_006


@pytest.mark.parametrize("seed", range(8))
def test_instruction_sets_agree_on_larger_frames(seed: int) -> None:
    """Rows of several vectors, in every layout and at odd strides, beside the loop over pixels."""
    generator = torch.Generator().manual_seed(seed)
    width, height = 150 + 13 * seed, 90 + seed
    case = draw(
        200 + seed, torch.uint8, batch=2, frames=2, width=width, height=height, clips=1 + seed % 4,
        channels=3 if seed < 6 else 5, alpha=bool(seed & 1), per_clip=seed == 5, offsets=seed == 4, hard=bool(seed & 2),
    )  # fmt: skip
    shape = (*case.patches.shape[:-2], 61, 83)
    patches = torch.randint(256, shape, generator=generator, dtype=torch.int32).byte()
    size = torch.randint(1, 62, case.patch_size.shape, generator=generator, dtype=torch.int32)
    case = replace(case, patches=patches, patch_size=size)
    for layout in ("contiguous", "channels_last", "sliced"):
        of_clip, of_patches = LAYOUTS[layout]
        laid_out = replace(case, clips=[of_clip(clip) for clip in case.clips], patches=of_patches(patches))
        limit_instructions(0)
        expected = stacked(laid_out.run())
        for most in range(1, len(INSTRUCTIONS)):
            limit_instructions(most)
            np.testing.assert_array_equal(stacked(laid_out.run()), expected, err_msg=f"{layout} {INSTRUCTIONS[most]}")


@pytest.mark.usefixtures("instructions")
def test_clips_of_different_layouts_and_a_written_border() -> None:
    """Nothing beside the pixels of a clip is touched, whatever its neighbours look like."""
    case = draw(41, torch.uint8, clips=2, width=45, height=33)
    wide = torch.full((2, 3, 33, 45 + 7, 3), 99, dtype=torch.uint8)
    inner = wide[:, :, :, 3:48].permute(0, 4, 1, 2, 3)
    inner.copy_(case.clips[0])
    planar = case.clips[1].contiguous()
    expected = case.run()
    paste_tubelets_([inner, planar], case.patches, *case.geometry)
    assert torch.equal(inner, expected[0])
    assert torch.equal(planar, expected[1])
    assert (wide[:, :, :, :3] == 99).all()
    assert (wide[:, :, :, 48:] == 99).all()


def at_the_end_of_memory(tensor: Tensor) -> Tensor:
    """A copy whose last byte is the last one before a page that must not be touched."""
    size = -(-tensor.numel() // mmap.PAGESIZE) * mmap.PAGESIZE
    memory = mmap.mmap(-1, size + mmap.PAGESIZE)
    whole = np.frombuffer(memory, np.uint8)
    guard = ctypes.c_void_p(whole.ctypes.data + size)
    assert ctypes.CDLL(None).mprotect(guard, ctypes.c_size_t(mmap.PAGESIZE), 0) == 0
    copy = torch.from_numpy(whole[size - tensor.numel() : size]).view(tensor.shape)
    return copy.copy_(tensor)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs mprotect")
@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize("alpha", [False, True], ids=["rgb", "rgba"])
def test_nothing_past_the_end_is_read_or_written(alpha: bool) -> None:
    for seed in range(6):
        case = draw(60 + seed, torch.uint8, clips=1, batch=1, alpha=alpha, frames=1, width=21 + seed, height=9)
        patches = case.patches.movedim(2, -1)
        last = patches[:, -1:, :, :]
        for layout in ("packed", "planar"):
            clip = case.clips[0].movedim(1, -1) if layout == "packed" else case.clips[0]
            guarded = at_the_end_of_memory(clip)
            view = guarded.movedim(-1, 1) if layout == "packed" else guarded
            one = replace(
                case,
                clips=[case.clips[0]],
                patches=at_the_end_of_memory(last).movedim(-1, 2),
                **{
                    name: getattr(case, name)[:, -1:]
                    for name in ("centers", "linear", "shape", "edge", "opacity", "order")
                },
                patch_size=torch.tensor([[[23, 19]]], dtype=torch.int32),
            )
            expected = one.run()
            paste_tubelets_([view], one.patches, *one.geometry)
            assert torch.equal(view, expected[0])


@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize("turn", [45.0, 135.0, 45.0 + 1e-4, 0.0])
@pytest.mark.parametrize("shape", [1, 2])
def test_outlines_along_the_rows(turn: float, shape: int) -> None:
    """There rounding alone decides about a pixel, so that what is covered of a row need not be one span."""
    angle = np.deg2rad(turn)
    matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * np.sqrt(2)
    tubelets = 12
    generator = np.random.default_rng(7)
    centers = np.round(generator.uniform(10, 50, (1, tubelets, 1, 2)) * 2) / 2
    case = Case(
        clips=[torch.zeros(1, 3, 1, 60, 61, dtype=torch.uint8)],
        patches=torch.from_numpy(generator.integers(0, 256, (1, tubelets, 3, 24, 24), dtype=np.uint8)),
        patch_size=torch.from_numpy(generator.choice([6, 10, 16, 24], (1, tubelets, 1)).repeat(2, 2).astype(np.int32)),
        centers=torch.from_numpy(centers.astype(np.float32)),
        linear=torch.from_numpy(np.tile(matrix, (1, tubelets, 1, 1, 1)).astype(np.float32)),
        shape=torch.full((1, tubelets), shape, dtype=torch.int32),
        edge=torch.zeros(1, tubelets),
        opacity=torch.ones(1, tubelets, 1),
        order=torch.zeros(1, tubelets, dtype=torch.int32),
    )
    assert_defined_bits(case)
    assert_defined_bits(replace(case, linear=case.linear * 300, centers=case.centers + 3000))


def levels_off(case: Case) -> float:
    """The largest distance from float64 arithmetic of unrounded layers, where the edge is not in doubt."""
    exact = in_float64(
        np.stack([clip.double().numpy() for clip in case.clips]),
        case.patches.double().numpy() / np.where(np.arange(case.patches.shape[-3]) < 3, 1, 255)[:, None, None],
        *geometry_arrays(case),
    )
    error = np.abs(stacked(case.run()) - exact.clips)
    return float(np.where(exact.undecided[:, :, None], 0, error).max())


@pytest.mark.parametrize("kind", ACCURACY)
def test_accuracy_against_float64(kind: str) -> None:
    worst = 0.0
    for seed in range(8):
        case = draw(
            100 + seed, torch.uint8, tubelets=1 if kind != "overlap" else 3, clips=1, height=64, width=64, frames=4,
            batch=4, alpha=kind not in ("opaque", "soft"), hard=kind in ("opaque", "alpha"),
        )  # fmt: skip
        if kind in ("opaque", "alpha"):
            case = replace(case, opacity=torch.ones_like(case.opacity))
        worst = max(worst, levels_off(case))
    assert 0.4 < worst <= ACCURACY[kind]


def flat(opacity: float, alpha: int | None = None) -> Callable[[Tensor, Tensor], Tensor]:
    """Pastes a patch, (3, H, W), over a whole frame, (3, H, W)."""

    def paste(frame: Tensor, patch: Tensor) -> Tensor:
        height, width = frame.shape[1:]
        if alpha is not None:
            patch = torch.cat([patch, torch.full_like(patch[:1], alpha)])
        case = Case(
            clips=[frame[None, :, None]],
            patches=patch[None, None],
            patch_size=torch.tensor([[[width, height]]], dtype=torch.int32),
            centers=torch.tensor([width / 2, height / 2])[None, None, None],
            linear=torch.eye(2)[None, None, None],
            shape=torch.zeros(1, 1, dtype=torch.int32),
            edge=torch.zeros(1, 1),
            opacity=torch.full((1, 1, 1), opacity),
            order=torch.zeros(1, 1, dtype=torch.int32),
        )
        return case.run()[0][0, :, 0]

    return paste


@pytest.fixture(scope="module")
def every_pair() -> tuple[Tensor, Tensor]:
    """Background and patch whose pixels go through all pairs of levels."""
    levels = torch.arange(256, dtype=torch.uint8)
    return levels[None, :, None].expand(3, 256, 256).contiguous(), levels.expand(3, 256, 256).contiguous()


@pytest.mark.usefixtures("instructions")
def test_an_opacity_of_one_half_does_not_brighten(every_pair: tuple[Tensor, Tensor]) -> None:
    background, patch = every_pair
    got = flat(0.5)(background, patch).double()
    exact = (background.double() + patch.double()) / 2
    assert torch.equal(got, exact.round())  # ties to even
    assert abs((got - exact).mean()) < 1e-3


@pytest.mark.usefixtures("instructions")
def test_nothing_and_everything_are_exact(every_pair: tuple[Tensor, Tensor]) -> None:
    background, patch = every_pair
    assert torch.equal(flat(1.0)(background, patch), patch)
    assert torch.equal(flat(1e-6)(background, patch), background)
    for opacity in (1.0, 0.7, 0.5):
        assert torch.equal(flat(opacity, alpha=0)(background, patch), background)
        assert torch.equal(flat(opacity, alpha=255)(background, background), background)
    assert torch.equal(flat(1.0, alpha=255)(background, patch), patch)


@pytest.mark.parametrize("opacity", [0.1, 1 / 3, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("alpha", [None, 77, 254])
def test_blends_of_all_levels(every_pair: tuple[Tensor, Tensor], opacity: float, alpha: int | None) -> None:
    background, patch = every_pair
    share = opacity * (1 if alpha is None else alpha / 255)
    exact = background.double() * (1 - share) + patch.double() * share
    error = flat(opacity, alpha)(background, patch).double() - exact
    assert error.abs().max() <= (0.52 if alpha is None else 1.03)
    assert abs(error.mean()) < 0.05
