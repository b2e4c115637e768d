from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from reference import augment_clips as reference
from tubeletx import TubeletConfig, TubeletSampler
from tubeletx.ops.augment_clips import augment_clips_

IMAGENET = (0.485, 0.456, 0.406, 0.229, 0.224, 0.225)
FLOATS = [torch.float32, torch.bfloat16, torch.float16]


@pytest.fixture(params=[0, 1, 2], ids=["baseline", "AVX2 or NEON", "AVX-512"])
def instructions(request: pytest.FixtureRequest) -> Iterator[int]:
    limit = torch.ops.tubeletx.limit_instructions
    used = limit(request.param)
    yield used
    limit(2)


@pytest.fixture(params=[1, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


def drawn_clip(seed: int, *shape: int) -> Tensor:
    """(B, 3, T, H, W), channels last: noise, the hardest there is, over a slope."""
    batch, frames, height, width = shape
    generator = np.random.default_rng(seed)
    noise = generator.integers(0, 256, (batch, frames, height, width, 3))
    slope = np.linspace(0, 255, width)[:, None] * generator.random((batch, frames, 1, 1, 3))
    clip = np.where(generator.random((batch, frames, 1, 1, 1)) < 0.5, noise, slope).astype(np.uint8)
    return torch.from_numpy(clip).permute(0, 4, 1, 2, 3)


def empty(batch: int, frames: int, height: int, width: int, dtype: torch.dtype = torch.uint8) -> Tensor:
    return torch.full((batch, frames, height, width, 3), 7, dtype=dtype).permute(0, 4, 1, 2, 3)


def window_of(x0: int, y0: int, x1: int, y1: int) -> Tensor:
    return torch.tensor([[[x0, y0, x1, y1]]], dtype=torch.int32)


def channels_last(clip: Tensor) -> np.ndarray[Any, Any]:
    return clip.permute(0, 2, 3, 4, 1).numpy()


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    source=st.tuples(st.integers(1, 90), st.integers(1, 130)),
    size=st.tuples(st.integers(1, 60), st.integers(1, 70)),
    flip=st.booleans(),
)
@pytest.mark.parametrize("most", [0, 1, 2])
def test_resizing_equals_the_reference(
    most: int, seed: int, source: tuple[int, int], size: tuple[int, int], flip: bool
) -> None:
    generator = np.random.default_rng(seed)
    height, width = source
    x0, y0 = int(generator.integers(width)), int(generator.integers(height))
    x1, y1 = int(generator.integers(x0, width)) + 1, int(generator.integers(y0, height)) + 1
    scale = max((x1 - x0) / size[1], (y1 - y0) / size[0])
    clip, out = drawn_clip(seed, 1, 2, height, width), empty(1, 2, *size)
    torch.ops.tubeletx.limit_instructions(most)
    try:
        augment_clips_([out], [clip], window_of(x0, y0, x1, y1), torch.tensor([[flip]]))
    finally:
        torch.ops.tubeletx.limit_instructions(2)
    expected = reference.resize(channels_last(clip)[0], (x0, y0, x1, y1), flip, size)
    error = np.abs(channels_last(out)[0] - expected).max()
    assert error < (0.55 if scale <= 8 else 0.7)


@pytest.mark.parametrize(("source", "size"), [((40, 60), (17, 33)), ((20, 30), (57, 64)), ((33, 44), (33, 20))])
def test_resizing_equals_pillow_and_torch(source: tuple[int, int], size: tuple[int, int]) -> None:
    clip, out = drawn_clip(3, 1, 4, *source), empty(1, 4, *size)
    augment_clips_([out], [clip])
    frames = channels_last(clip)[0]
    pillow = np.stack([np.asarray(Image.fromarray(f).resize(size[::-1], Image.Resampling.BILINEAR)) for f in frames])
    assert np.abs(channels_last(out)[0].astype(int) - pillow).max() <= 1
    planes = torch.from_numpy(frames).permute(0, 3, 1, 2)
    torchs = interpolate(planes.float(), size, mode="bilinear", antialias=True)
    assert (out[0].transpose(0, 1).float() - torchs).abs().max() < 0.55


def test_sets_of_instructions_give_the_same_bits() -> None:
    sizes = ((9, 300), (50, 50), (61, 77), (128, 171), (7, 5))
    for seed, ((height, width), dtype) in enumerate(zip(sizes, [torch.uint8, *FLOATS, torch.float32], strict=True)):
        clip = drawn_clip(seed, 2, 3, height, width)
        results = []
        for most in (0, 1, 2):
            out = empty(2, 3, 50, 37, dtype)
            color = torch.tensor([[[1.2, 0.7, 1.3, 0.05]], [[0.9, 1, 0, -0.4]]])
            torch.ops.tubeletx.limit_instructions(most)
            try:
                flips = torch.tensor([[True], [False]])
                augment_clips_([out], [clip], None, flips, None if dtype == torch.uint8 else color, IMAGENET)
            finally:
                torch.ops.tubeletx.limit_instructions(2)
            results.append(out)
        assert torch.equal(results[0], results[1])
        assert torch.equal(results[0], results[2])


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_colors_equal_the_reference(instructions: int, dtype: torch.dtype) -> None:
    generator = np.random.default_rng(instructions)
    clip, out = drawn_clip(5, 5, 3, 21, 19), empty(5, 3, 14, 15, dtype)
    color = generator.uniform((0, 0, 0, -0.5), (2, 2, 2, 0.5), (5, 1, 4)).astype(np.float32)
    color[1] = (1, 1, 1, 0)
    color[2, 0, 2] = 0
    augment_clips_([out], [clip], None, None, torch.from_numpy(color), IMAGENET)
    pixels = empty(5, 3, 14, 15)
    augment_clips_([pixels], [clip])
    for index in range(5):
        expected = reference.change_colors(channels_last(pixels)[index], color[index, 0], IMAGENET)
        got = channels_last(out.double())[index]
        rounding = {torch.float32: 2**-21, torch.float16: 2**-11, torch.bfloat16: 2**-8}[dtype]
        np.testing.assert_allclose(got, expected, rtol=rounding, atol=3e-6)


def test_colors_of_clips_that_are_not_resized() -> None:
    """They are read as they lie, or copied, to the same floats."""
    clip = drawn_clip(6, 2, 3, 20, 24)
    color = torch.tensor([[[1.1, 0.5, 1.5, 0.2]], [[0.7, 1.4, 0.2, 0.0]]])
    outs = []
    for laid in (clip, clip.contiguous(), torch.nn.functional.pad(clip, (1, 2, 3, 4))[..., 3:-4, 1:-2]):
        outs.append(empty(2, 3, 20, 24, torch.float32))
        augment_clips_(outs[-1:], [laid], None, None, color, IMAGENET)
    assert torch.equal(outs[0], outs[1])
    assert torch.equal(outs[0], outs[2])
    expected = reference.change_colors(channels_last(clip)[0], color[0, 0].numpy(), IMAGENET)
    np.testing.assert_allclose(channels_last(outs[0])[0], expected, atol=3e-6)


def test_a_whole_clip_at_its_own_size_is_itself() -> None:
    clip, out = drawn_clip(7, 2, 3, 13, 17), empty(2, 3, 13, 17)
    augment_clips_([out], [clip])
    assert torch.equal(out, clip)
    augment_clips_([out], [clip], None, torch.ones(2, 1, dtype=torch.bool))
    assert torch.equal(out, clip.flip(4))
    for value in (0, 255):
        augment_clips_([out], [torch.full_like(clip, value)[..., 5:12, 3:]])
        assert (out == value).all()


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32], ids=str)
@pytest.mark.parametrize("preset", ["paper", "released"])
def test_tubelets_equal_the_separate_operators(preset: str, dtype: torch.dtype) -> None:
    batch, frames, side = 3, 4, 40
    clips = [drawn_clip(8, batch, frames, 50, 61), drawn_clip(9, batch, frames, 30, 45)]
    ids = torch.arange(batch)
    sampler = TubeletSampler(TubeletConfig.preset(preset, num_tubelets=3), seed=1)
    tubelets = sampler(ids, num_frames=frames, height=side, width=side)
    windows = torch.tensor([[[3, 4, 50, 44], [0, 0, 45, 30]]], dtype=torch.int32).expand(batch, 2, 4)
    flips = torch.tensor([[True, False]]).expand(batch, 2)
    color = None if dtype == torch.uint8 else torch.rand(batch, 2, 4, generator=torch.Generator().manual_seed(0))

    fused = [empty(batch, frames, side, side, dtype) for _ in clips]
    fields = list(tubelets.tensors().values())
    augment_clips_(fused, clips, windows, flips, color, IMAGENET, fields, tubelets.max_patch_size)

    shown = [empty(batch, frames, side, side) for _ in clips]
    augment_clips_(shown, clips, windows, flips)
    pasted = tubelets.paste(shown, tubelets.crop(shown[0]))
    assert not torch.equal(pasted[1], shown[1])
    if dtype != torch.uint8:
        pasted = [clip.to(memory_format=torch.channels_last_3d) for clip in pasted]
        separate = [empty(batch, frames, side, side, dtype) for _ in clips]
        augment_clips_(separate, pasted, None, None, color, IMAGENET)
        pasted = separate
    assert torch.equal(fused[0], pasted[0])
    assert torch.equal(fused[1], pasted[1])


def test_any_strides_and_a_part_of_a_larger_output() -> None:
    clip = drawn_clip(10, 2, 3, 30, 40)
    window, flips = window_of(2, 3, 35, 29).expand(2, 1, 4), torch.tensor([[True], [False]])
    expected = empty(2, 3, 16, 16, torch.float32)
    augment_clips_([expected], [clip], window, flips, None, IMAGENET)
    layouts = [
        clip.contiguous(),
        clip.transpose(3, 4).contiguous().transpose(3, 4),
        clip.flip(2).flip(2),
        clip[:, [2, 1, 0]].flip(1),
        clip[:1].expand(2, -1, -1, -1, -1),
    ]
    large = empty(5, 6, 16, 16, torch.float32)
    for layout in layouts:
        target = large[1:3, :, 2:5]
        before = large.clone()
        augment_clips_([target], [layout], window, flips, None, IMAGENET)
        same = slice(0, 1) if layout.stride(0) == 0 else slice(None)
        assert torch.equal(target[same], expected[same])
        before[1:3, :, 2:5] = target
        assert torch.equal(large, before)


def test_samples_and_batches_make_no_difference() -> None:
    clip, out = drawn_clip(11, 6, 2, 33, 47), empty(6, 2, 20, 20, torch.float32)
    generator = torch.Generator().manual_seed(0)
    color = torch.rand(6, 1, 4, generator=generator)
    low = torch.randint(0, 15, (6, 1, 2), generator=generator)
    windows = torch.cat([low, low + 17], 2).int()
    augment_clips_([out], [clip], windows, None, color, IMAGENET)
    for index in range(6):
        one, part = empty(1, 2, 20, 20, torch.float32), slice(index, index + 1)
        augment_clips_([one], [clip[part]], windows[part], None, color[part], IMAGENET)
        assert torch.equal(one, out[part])


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32], ids=str)
@pytest.mark.parametrize("pasted", [False, True], ids=["plain", "tubelets"])
def test_clips_of_sizes_of_their_own_get_what_they_get_alone(dtype: torch.dtype, pasted: bool) -> None:
    batch, side = 5, 20
    sizes = [(33, 47), (20, 20), (60, 20), (7, 90), (41, 41), (20, 20), (20, 33), (25, 61), (20, 20), (20, 20)]
    clips = [drawn_clip(place, 1, 3, *size) for place, size in enumerate(sizes)]
    clips[3] = clips[3].contiguous()
    generator = torch.Generator().manual_seed(0)
    flips = torch.rand(batch, 2, generator=generator) < 0.5
    flips[2:] = False  # so that some are nothing but a copy
    color = None if dtype == torch.uint8 else torch.rand(batch, 2, 4, generator=generator)
    tubelets = TubeletSampler(seed=1)(torch.arange(batch), num_frames=3, height=side, width=side)
    fields = list(tubelets.tensors().values()) if pasted else []
    windows = torch.tensor([[0, 0, *size[::-1]] for size in sizes], dtype=torch.int32).view(batch, 2, 4)
    windows[1, 0] = torch.tensor([0, 40, 20, 60])
    outs = [empty(batch, 3, side, side, dtype) for _ in range(2)]
    augment_clips_(outs, clips, windows, flips, color, IMAGENET, fields, (side, side))
    for index in range(batch):
        one, part = [empty(1, 3, side, side, dtype) for _ in range(2)], slice(index, index + 1)
        colored = None if color is None else color[part]
        mine = [field[part] for field in fields]
        pair = clips[2 * index : 2 * index + 2]
        augment_clips_(one, pair, windows[part], flips[part], colored, IMAGENET, mine, (side, side))
        for got, expected in zip(outs, one, strict=True):
            assert torch.equal(got[part], expected)


def test_a_window_as_large_as_the_output_is_read_where_it_lies() -> None:
    clip, out = drawn_clip(12, 2, 3, 50, 16), empty(2, 3, 16, 16, torch.float32)
    windows = torch.cat([window_of(0, 30, 16, 46), window_of(0, 0, 16, 16)])
    augment_clips_([out], [clip], windows)
    expected = torch.stack([clip[0, :, :, 30:46], clip[1, :, :, :16]]).float() / 255
    torch.testing.assert_close(out, expected)


@pytest.mark.parametrize("shape", [(0, 2, 8, 9), (2, 0, 8, 9), (2, 2, 0, 9), (2, 2, 8, 0)])
def test_empty_outputs(shape: tuple[int, int, int, int]) -> None:
    clip = drawn_clip(0, shape[0], shape[1], 5, 6)
    augment_clips_([empty(*shape, torch.float32)], [clip], None, None, torch.ones(shape[0], 1, 4), IMAGENET)


CLIP, OUT = drawn_clip(0, 2, 3, 8, 9), empty(2, 3, 4, 5, torch.float32)
FIELDS = list(TubeletSampler()(torch.arange(2), num_frames=3, height=4, width=5).tensors().values())


def replaced(index: int, tensor: Tensor) -> list[Tensor]:
    return [*FIELDS[:index], tensor, *FIELDS[index + 1 :]]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("outputs", []),
        ("outputs", [OUT.contiguous()]),
        ("outputs", [OUT.double()]),
        ("outputs", [OUT[:, :2]]),
        ("outputs", [OUT[..., 1:]]),
        ("outputs", [OUT[:1].expand(2, -1, -1, -1, -1)]),
        ("clips", []),
        ("clips", [CLIP.float()]),
        ("clips", [CLIP[:1]]),
        ("clips", [CLIP[:1], CLIP]),
        ("clips", [CLIP[:1]] * 3),
        ("clips", [CLIP[:, :2]]),
        ("clips", [CLIP[:, :, :2]]),
        ("clips", [CLIP[..., :0]]),
        ("windows", window_of(0, 0, 9, 8)),
        ("windows", window_of(0, 0, 10, 8).expand(2, 1, 4)),
        ("windows", window_of(-1, 0, 9, 8).expand(2, 1, 4)),
        ("windows", window_of(4, 0, 4, 8).expand(2, 1, 4)),
        ("windows", window_of(0, 5, 9, 4).expand(2, 1, 4)),
        ("windows", torch.zeros(2, 1, 4)),
        ("flips", torch.zeros(2, 1)),
        ("flips", torch.zeros(2, dtype=torch.bool)),
        ("color", torch.ones(2, 4)),
        ("color", torch.full((2, 1, 4), float("nan"))),
        ("normalization", (0, 0, 0)),
        ("normalization", (0, 0, 0, 1, 0, 1)),
        ("normalization", (0, float("inf"), 0, 1, 1, 1)),
        ("tubelets", FIELDS[:7]),
        ("centers", replaced(0, FIELDS[0][:, :, :2])),
        ("patch_frame", replaced(2, FIELDS[2] + 3)),
        ("patch_box", replaced(3, FIELDS[3] + 5)),
        ("patch_box", replaced(3, -FIELDS[3] - 1)),
        ("shape", replaced(4, FIELDS[4] + 7)),
        ("edge", replaced(5, FIELDS[5] - 1)),
    ],
)
def test_refuses(name: str, value: Any) -> None:
    argument = name if name in ("outputs", "clips", "windows", "flips", "color", "normalization") else "tubelets"
    arguments: dict[str, Any] = {"outputs": [OUT], "clips": [CLIP], "largest_patch": (4, 5), argument: value}
    with pytest.raises(ValueError, match=rf"^{name}: "):
        augment_clips_(**arguments)


def test_refuses_what_would_be_overwritten_while_it_is_read() -> None:
    memory = drawn_clip(0, 2, 3, 8, 9)
    with pytest.raises(ValueError, match=r"^clips: lies in the memory of outputs"):
        augment_clips_([memory], [memory])
    # A tensor of both clips of each sample is none of these.
    pairs = torch.zeros(2, 2, 3, 8, 9, 3, dtype=torch.uint8).permute(0, 1, 5, 2, 3, 4)
    augment_clips_([pairs[:, 0], pairs[:, 1]], [memory, memory])
    assert torch.equal(pairs[:, 0], memory)
    assert torch.equal(pairs[:, 1], memory)
    with pytest.raises(ValueError, match=r"^outputs: lies in the memory of outputs"):
        augment_clips_([OUT, OUT], [CLIP, CLIP])
    with pytest.raises(ValueError, match=r"^color: is given, needs outputs of floats"):
        augment_clips_([memory], [CLIP.clone()], None, None, torch.ones(2, 1, 4))


def test_operator_is_well_formed() -> None:
    operator = torch.ops.tubeletx.augment_clips_.default
    window = window_of(0, 0, 9, 8).expand(2, 1, 4)
    arguments = ([OUT.clone()], [CLIP], window, None, torch.ones(2, 1, 4), IMAGENET, FIELDS, (4, 5))
    torch.library.opcheck(operator, arguments)
    torch.library.opcheck(operator, ([empty(2, 3, 4, 5)], [CLIP], None, None, None, IMAGENET, [], ()))
    single = [CLIP[:1], drawn_clip(1, 1, 3, 5, 17)]
    torch.library.opcheck(operator, ([empty(2, 3, 4, 5)], single, None, None, None, IMAGENET, [], ()))


def test_compiles_whole() -> None:
    def step(clip: Tensor, out: Tensor) -> Tensor:
        augment_clips_([out], [clip], None, None, None, IMAGENET)
        return out * 2

    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(CLIP, OUT.clone()), step(CLIP, OUT.clone()))
