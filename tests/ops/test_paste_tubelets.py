from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from reference.paste_tubelets import Pasted
from reference.paste_tubelets import paste_tubelets as reference
from tubeletx.ops.paste_tubelets import paste_tubelets, paste_tubelets_

DTYPES = (torch.uint8, torch.float16, torch.bfloat16, torch.float32, torch.float64)
# Rounding of the dtype at 1, over three layers; for uint8 one level more than its own rounding.
TOLERANCE = {torch.uint8: 1.0, torch.float16: 2e-3, torch.bfloat16: 1.6e-2, torch.float32: 1e-5, torch.float64: 1e-9}


@dataclass
class Case:
    """Arguments of one call."""

    clips: list[Tensor]
    patches: Tensor
    patch_size: Tensor
    centers: Tensor
    linear: Tensor
    shape: Tensor
    edge: Tensor
    opacity: Tensor
    order: Tensor
    offsets: Tensor | None = None

    @property
    def geometry(self) -> tuple[Any, ...]:
        return (
            self.patch_size,
            self.centers,
            self.linear,
            self.shape,
            self.edge,
            self.opacity,
            self.order,
            self.offsets,
        )

    def run(self) -> list[Tensor]:
        return paste_tubelets(self.clips, self.patches, *self.geometry)

    def expected(self) -> Pasted:
        offsets = None if self.offsets is None else self.offsets.numpy()
        return reference(
            np.stack([clip.double().numpy() for clip in self.clips]),
            self.patches.double().numpy(),
            *(tensor.numpy() for tensor in self.geometry[:-1]),
            offsets=offsets,
            byte_pixels=self.clips[0].dtype == torch.uint8,
        )


def channels_last(tensor: Tensor) -> Tensor:
    return tensor.movedim(-3, -1).contiguous().movedim(-1, -3)


def clip_channels_last(clip: Tensor) -> Tensor:
    return clip.contiguous(memory_format=torch.channels_last_3d)


def sliced(tensor: Tensor) -> Tensor:
    wide = tensor.new_zeros(*tensor.shape[:-2], 2 * tensor.shape[-2] + 1, 3 * tensor.shape[-1])
    view = wide[..., 1::2, 1::3]
    return view.copy_(tensor)


def transposed(tensor: Tensor) -> Tensor:
    return tensor.transpose(-1, -2).contiguous().transpose(-1, -2)


LAYOUTS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "contiguous": (Tensor.contiguous, Tensor.contiguous),
    "channels_last": (clip_channels_last, channels_last),
    "sliced": (sliced, sliced),
    "transposed": (transposed, transposed),
}


def draw(
    seed: int,
    dtype: torch.dtype = torch.float32,
    *,
    batch: int = 2,
    clips: int = 2,
    tubelets: int = 3,
    channels: int = 3,
    frames: int = 3,
    height: int = 29,
    width: int = 37,
    alpha: bool = False,
    per_clip: bool = False,
    offsets: bool = False,
    hard: bool = False,
) -> Case:
    """A case with poses inside, across and outside the frame, from smaller than a pixel to larger than the frame."""
    generator = np.random.default_rng(seed)
    storage = (19, 23)  # Hp, Wp

    def pixels(*shape: int) -> Tensor:
        if dtype == torch.uint8:
            return torch.from_numpy(generator.integers(0, 256, shape, dtype=np.uint8))
        return torch.from_numpy(generator.uniform(0, 1, shape)).to(dtype)

    def single(array: Any) -> Tensor:
        return torch.from_numpy(np.asarray(array, dtype=np.float32))

    poses = (batch, tubelets, frames)
    angle = generator.uniform(-np.pi, np.pi, poses)
    rotation = np.stack([np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)], -1).reshape(*poses, 2, 2)
    shear = np.eye(2) + np.array([[0, 1], [0, 0]]) * generator.uniform(-1, 1, (*poses, 1, 1))
    scale = np.eye(2) * generator.choice([0.02, 0.5, 1.0, 1.5, 6.0], (*poses, 1, 1), p=[0.1, 0.2, 0.3, 0.3, 0.1])
    size = np.stack(
        [generator.integers(1, storage[1] + 1, poses[:2]), generator.integers(1, storage[0] + 1, poses[:2])], -1
    )
    soft = generator.uniform(0.1, 1.2, poses[:2]) * (generator.random(poses[:2]) < 0.5)
    appearance = (batch, clips, tubelets) if per_clip else (batch, tubelets)
    return Case(
        clips=[pixels(batch, channels, frames, height, width) for _ in range(clips)],
        patches=pixels(*appearance, channels + alpha, *storage),
        patch_size=torch.from_numpy(size.astype(np.int32)),
        centers=single(generator.uniform(-0.3, 1.3, (*poses, 2)) * np.array([width, height])),
        linear=single(rotation @ shear @ scale),
        shape=torch.from_numpy(generator.integers(0, 3, poses[:2]).astype(np.int32)),
        edge=single(soft * (not hard)),
        opacity=single(np.where(generator.random(poses) < 0.5, 1.0, generator.uniform(0, 1, poses))),
        order=torch.from_numpy(generator.integers(0, tubelets, poses[:2]).astype(np.int32)),
        offsets=single(generator.uniform(-9, 9, (batch, clips, tubelets, 2))) if offsets else None,
    )


def check(case: Case, pasted: list[Tensor]) -> None:
    expected = case.expected()
    assert expected.undecided.mean() < 2e-3
    got = np.stack([clip.double().numpy() for clip in pasted])
    error = np.where(expected.undecided[:, :, None], 0, np.abs(got - expected.clips))
    assert error.max(initial=0) <= TOLERANCE[case.clips[0].dtype]
    untouched = np.stack([clip.double().numpy() for clip in case.clips])
    assert not np.array_equal(got, untouched)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("alpha", [False, True], ids=["rgb", "rgba"])
def test_equals_reference_in_every_dtype_and_layout(dtype: torch.dtype, layout: str, alpha: bool) -> None:
    case = draw(seed=len(layout) + alpha, dtype=dtype, alpha=alpha)
    of_clip, of_patches = LAYOUTS[layout]
    case = replace(case, clips=[of_clip(clip) for clip in case.clips], patches=of_patches(case.patches))
    check(case, case.run())


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32], ids=str)
def test_equals_reference_over_drawn_calls(seed: int, dtype: torch.dtype) -> None:
    generator = np.random.default_rng(1000 + seed)
    case = draw(
        seed,
        dtype,
        batch=int(generator.integers(1, 4)),
        clips=1 + seed % 3,
        tubelets=int(generator.integers(1, 5)),
        channels=(1, 2, 3, 4, 6)[seed % 5],
        frames=int(generator.integers(1, 4)),
        height=int(generator.integers(1, 50)),
        width=int(generator.integers(40, 300)),
        alpha=bool(seed & 1),
        per_clip=bool(seed & 2),
        offsets=bool(seed & 4),
    )
    clips = [clip_channels_last(clip) for clip in case.clips]
    check(case, replace(case, clips=clips, patches=channels_last(case.patches)).run())


def test_hard_opaque_paste_shows_the_patch_itself() -> None:
    case = draw(0, torch.uint8, batch=1, tubelets=1, frames=1, clips=1)
    case = replace(
        case,
        patch_size=torch.tensor([[[7, 5]]], dtype=torch.int32),
        centers=torch.tensor([[[[13.5, 12.5]]]]),
        linear=torch.eye(2).expand(1, 1, 1, 2, 2),
        shape=torch.zeros(1, 1, dtype=torch.int32),
        edge=torch.zeros(1, 1),
        opacity=torch.ones(1, 1, 1),
    )
    (pasted,) = case.run()
    expected = case.clips[0].clone()
    expected[0, :, 0, 10:15, 10:17] = case.patches[0, 0, :, :5, :7]
    assert torch.equal(pasted, expected)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize("offsets", [False, True])
@pytest.mark.parametrize("per_clip", [False, True])
def test_clips_together_equal_clips_apart(dtype: torch.dtype, offsets: bool, per_clip: bool) -> None:
    case = draw(5, dtype, clips=3, offsets=offsets, per_clip=per_clip, alpha=True)
    together = case.run()
    for v, clip in enumerate(together):
        alone = replace(
            case,
            clips=[case.clips[v]],
            patches=case.patches[:, v : v + 1] if per_clip else case.patches,
            offsets=case.offsets[:, v : v + 1] if case.offsets is not None else None,
        )
        assert torch.equal(alone.run()[0], clip)


@pytest.mark.parametrize("layouts", list(itertools.pairwise(LAYOUTS)), ids="-".join)
def test_layout_does_not_change_the_bits(layouts: tuple[str, str]) -> None:
    case = draw(6, torch.uint8, width=200)
    results = []
    for layout in layouts:
        of_clip, of_patches = LAYOUTS[layout]
        results.append(
            replace(case, clips=[of_clip(clip) for clip in case.clips], patches=of_patches(case.patches)).run()
        )
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_in_place_equals_out_of_place(dtype: torch.dtype, layout: str) -> None:
    case = draw(7, dtype, alpha=True)
    before = [clip.clone() for clip in case.clips]
    pasted = case.run()
    assert all(torch.equal(clip, kept) for clip, kept in zip(case.clips, before, strict=True))
    in_place = [LAYOUTS[layout][0](clip).clone() for clip in case.clips]
    paste_tubelets_(in_place, case.patches, *case.geometry)
    assert all(torch.equal(one, other) for one, other in zip(in_place, pasted, strict=True))


def test_thread_count_does_not_change_the_bits() -> None:
    case = draw(8, batch=3, frames=9, alpha=True)
    for clip in [*case.clips, case.patches]:
        clip.requires_grad_()
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            pasted = case.run()
            gradients = torch.autograd.grad(sum((clip**2).sum() for clip in pasted), [*case.clips, case.patches])
            results.append([*pasted, *gradients])
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(one, two) for one, two in zip(results[0], other, strict=True))


def test_paint_order_is_by_rank_then_index() -> None:
    case = draw(9, torch.uint8, batch=1, tubelets=4, frames=1, clips=1, hard=True)
    case = replace(
        case,
        patches=torch.arange(10, 50, 10, dtype=torch.uint8)[None, :, None, None, None].expand_as(case.patches),
        centers=torch.tensor([18.0, 14.0]).expand(1, 4, 1, 2),
        linear=torch.eye(2).expand(1, 4, 1, 2, 2),
        patch_size=torch.full((1, 4, 2), 9, dtype=torch.int32),
        opacity=torch.ones(1, 4, 1),
        order=torch.tensor([[3, 1, 3, 0]], dtype=torch.int32),
    )
    assert (case.run()[0][0, :, 0, 14, 18] == 30).all()


@pytest.mark.parametrize("bad", [0.0, float("nan"), float("inf")])
@pytest.mark.parametrize("field", ["linear", "centers", "opacity"])
def test_frames_without_a_usable_pose_stay_as_they_are(field: str, bad: float) -> None:
    if field == "centers" and bad == 0:
        bad = float("-inf")
    case = draw(10, torch.uint8, tubelets=1)
    if field == "opacity" and bad == float("inf"):
        bad = float("-inf")
    tensor = getattr(case, field).clone()
    tensor[:, :, 1] = bad
    pasted = replace(case, **{field: tensor}).run()
    for before, after, full in zip(case.clips, pasted, case.run(), strict=True):
        assert torch.equal(after[:, :, 1], before[:, :, 1])
        assert torch.equal(after[:, :, ::2], full[:, :, ::2])


def test_a_hidden_or_uncovered_pixel_takes_no_nan() -> None:
    case = draw(11, batch=1, tubelets=1, clips=1, hard=True)
    case = replace(case, opacity=torch.ones_like(case.opacity), linear=torch.eye(2).expand_as(case.linear).contiguous())
    clean = case.run()[0]
    touched = clean != case.clips[0]
    assert touched.any()
    dirty = torch.where(touched, torch.nan, case.clips[0])
    assert torch.equal(replace(case, clips=[dirty]).run()[0], clean)


def test_a_thin_far_pose_is_seen_wherever_it_covers() -> None:
    """Hardly invertible matrices: the footprint must still hold every covered pixel."""
    case = draw(12, torch.float64, hard=True, batch=4, tubelets=2, height=60, width=60)
    linear = case.linear.clone()
    linear[..., 0] = linear[..., 1] * 1.3 + 1e-3
    check(replace(case, linear=linear * 4), replace(case, linear=linear * 4).run())


@pytest.mark.parametrize("axis", ["batch", "tubelets", "frames", "height", "width", "channels"])
def test_empty_axes(axis: str) -> None:
    case = draw(13, **{axis: 0})  # type: ignore[arg-type]
    case = replace(case, patches=case.patches.requires_grad_())
    pasted = case.run()
    assert [clip.shape for clip in pasted] == [clip.shape for clip in case.clips]
    assert all(torch.equal(clip, before) for clip, before in zip(pasted, case.clips, strict=True))
    sum(clip.sum() for clip in pasted).backward()  # type: ignore[union-attr]
    assert not case.patches.grad.any()  # type: ignore[union-attr]


def test_empty_patch_paints_nothing() -> None:
    case = draw(14)
    pasted = replace(case, patch_size=torch.zeros_like(case.patch_size)).run()
    assert all(torch.equal(clip, before) for clip, before in zip(pasted, case.clips, strict=True))


@pytest.mark.parametrize("alpha", [False, True], ids=["rgb", "rgba"])
@pytest.mark.parametrize("per_clip", [False, True], ids=["shared", "per_clip"])
@pytest.mark.parametrize("offsets", [False, True], ids=["fixed", "offsets"])
def test_gradients(alpha: bool, per_clip: bool, offsets: bool) -> None:
    small = {"batch": 1, "channels": 2, "frames": 2, "height": 7, "width": 8}
    case = draw(15, torch.float64, alpha=alpha, per_clip=per_clip, offsets=offsets, **small)  # type: ignore[arg-type]
    case = replace(
        case,
        patches=case.patches[..., :4, :5].clone(),
        patch_size=torch.tensor([[[5, 4], [3, 4], [4, 2]]], dtype=torch.int32),
        centers=torch.rand(1, 3, 2, 2, generator=torch.Generator().manual_seed(1)) * 5 + 1,
        linear=case.linear / case.linear.abs().amax((-1, -2), keepdim=True),
        offsets=case.offsets / 9 if case.offsets is not None else None,
    )
    inputs = [*case.clips, case.patches]
    for tensor in inputs:
        tensor.requires_grad_()

    def run(*tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(replace(case, clips=list(tensors[:-1]), patches=tensors[-1]).run())

    assert torch.autograd.gradcheck(run, inputs)
    # Overlaps are what makes the backward pass hard: two tubelets cover many of the pixels.
    covered = replace(case, patches=torch.full_like(case.patches, 0.5)).run()[0]
    assert (covered != case.clips[0]).double().mean() > 0.2


@pytest.mark.parametrize("per_clip", [False, True], ids=["shared", "per_clip"])
def test_second_derivatives(per_clip: bool) -> None:
    case = draw(15, torch.float64, per_clip=per_clip, batch=1, channels=2, frames=2, height=7, width=8)
    case = replace(
        case,
        patches=case.patches[..., :4, :5].clone(),
        patch_size=torch.tensor([[[5, 4], [3, 4], [4, 2]]], dtype=torch.int32),
        centers=torch.rand(1, 3, 2, 2, generator=torch.Generator().manual_seed(1)) * 5 + 1,
        linear=case.linear / case.linear.abs().amax((-1, -2), keepdim=True),
    )
    inputs = [tensor.requires_grad_() for tensor in (*case.clips, case.patches)]

    def run(*tensors: Tensor) -> Tensor:
        return torch.stack(replace(case, clips=list(tensors[:-1]), patches=tensors[-1]).run()).pow(3).sum()

    assert torch.autograd.gradgradcheck(run, inputs)


def test_second_derivatives_with_alpha_are_refused() -> None:
    case = draw(15, torch.float64, alpha=True)
    case.patches.requires_grad_()
    (gradient,) = torch.autograd.grad(case.run()[0].square().sum(), case.patches, create_graph=True)
    with pytest.raises(NotImplementedError, match="no second derivative where patches have an alpha"):
        gradient.sum().backward()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_gradients_of_narrow_dtypes_follow_float64(dtype: torch.dtype) -> None:
    case = draw(16, dtype, alpha=True)
    wide = replace(case, clips=[clip.double() for clip in case.clips], patches=case.patches.double())
    weights = torch.rand(case.clips[0].shape, generator=torch.Generator().manual_seed(2)).to(dtype)

    def gradients(one: Case) -> tuple[Tensor, ...]:
        inputs = [tensor.detach().requires_grad_() for tensor in (*one.clips, one.patches)]
        pasted = replace(one, clips=inputs[:-1], patches=inputs[-1]).run()
        return torch.autograd.grad(sum((clip * weights.to(clip.dtype)).sum() for clip in pasted), inputs)

    tolerance = {torch.float16: 2e-2, torch.bfloat16: 1e-1, torch.float32: 1e-5}[dtype]
    for narrow, exact in zip(gradients(case), gradients(wide), strict=True):
        assert (narrow.double() - exact).abs().max() <= tolerance * exact.abs().max()


def test_only_one_clip_or_only_the_patches_need_gradients() -> None:
    case = draw(17)
    case.clips[1].requires_grad_()
    torch.autograd.grad(case.run()[1].sum(), [case.clips[1]])
    case = draw(17)
    case.patches.requires_grad_()
    torch.autograd.grad(case.run()[0].sum(), [case.patches])


def test_bytes_have_no_gradient() -> None:
    case = draw(18, torch.uint8)
    assert not any(clip.requires_grad for clip in case.run())


@pytest.mark.parametrize("who", ["clips", "patches"])
def test_in_place_refuses_what_needs_a_gradient(who: str) -> None:
    case = draw(19)
    (case.clips[1] if who == "clips" else case.patches).requires_grad_()
    with pytest.raises(ValueError, match=f"^{who}: requires a gradient"):
        paste_tubelets_(case.clips, case.patches, *case.geometry)
    with torch.no_grad():
        paste_tubelets_(case.clips, case.patches, *case.geometry)


@pytest.mark.parametrize("alpha", [False, True], ids=["rgb", "rgba"])
def test_opcheck(alpha: bool) -> None:
    for dtype, layout in ((torch.uint8, "channels_last"), (torch.float32, "contiguous")):
        case = draw(20, dtype, batch=1, frames=2, height=9, width=9, alpha=alpha, offsets=alpha)
        clips = [LAYOUTS[layout][0](clip) for clip in case.clips]
        patches = case.patches
        torch.library.opcheck(torch.ops.tubeletx.paste_tubelets_.default, (clips, patches, *case.geometry))
        if dtype == torch.uint8:
            torch.library.opcheck(torch.ops.tubeletx.paste_tubelets.bytes, (clips, patches, *case.geometry))
        else:
            gradients = [torch.rand_like(clip) for clip in clips]
            arguments = (gradients, clips, patches, *case.geometry)
            torch.library.opcheck(torch.ops.tubeletx.paste_tubelets_backward.default, arguments)
            clips = [clip.requires_grad_() for clip in clips]
            patches = patches.requires_grad_()
        torch.library.opcheck(torch.ops.tubeletx.paste_tubelets.default, (clips, patches, *case.geometry))


def test_compiles_whole() -> None:
    case = draw(21, batch=1, frames=2, height=9, width=9)
    case.patches.requires_grad_()

    def step(clips: list[Tensor], patches: Tensor) -> Tensor:
        return torch.stack(paste_tubelets(clips, patches, *case.geometry)).square().sum()

    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    for run in (step, compiled):
        case.patches.grad = None
        run(case.clips, case.patches).backward()
        if run is step:
            expected = case.patches.grad
    assert torch.equal(case.patches.grad, expected)

    def step_(clips: list[Tensor]) -> list[Tensor]:
        copies = [clip.clone() for clip in clips]
        paste_tubelets_(copies, case.patches.detach(), *case.geometry)
        return [copy + 1 for copy in copies]

    for one, other in zip(
        step_(case.clips), torch.compile(step_, fullgraph=True, backend="aot_eager")(case.clips), strict=True
    ):
        assert torch.equal(one, other)


def test_a_clip_beyond_32_bits_of_elements() -> None:
    """A view whose strides reach past 2^31 elements, without the memory: only the last frame's page is touched."""
    storage = torch.empty(3 * (2**30 + 2**10), dtype=torch.uint8)
    clip = storage.as_strided((1, 3, 2, 16, 16), (0, 1, 3 * 2**30, 48, 3))
    case = draw(22, torch.uint8, batch=1, frames=2, height=16, width=16, clips=1)
    case.clips[0].copy_(case.clips[0])
    clip.copy_(case.clips[0])
    paste_tubelets_([clip], case.patches, *case.geometry)
    assert torch.equal(clip, case.run()[0])


REFUSALS: dict[str, tuple[str, Callable[[Case], Case]]] = {
    "no clips": ("clips", lambda case: replace(case, clips=[])),
    "nine clips": ("clips", lambda case: replace(case, clips=[case.clips[0].clone() for _ in range(9)])),
    "four axes": ("clips", lambda case: replace(case, clips=[case.clips[0][0]])),
    "other shape": ("clips", lambda case: replace(case, clips=[case.clips[0], case.clips[1][..., 1:]])),
    "other dtype": ("clips", lambda case: replace(case, clips=[case.clips[0], case.clips[1].double()])),
    "integers": ("clips", lambda case: replace(case, clips=[clip.int() for clip in case.clips])),
    "patch dtype": ("patches", lambda case: replace(case, patches=case.patches.double())),
    "patch channels": ("patches", lambda case: replace(case, patches=case.patches[:, :, :2])),
    "patch axes": ("patches", lambda case: replace(case, patches=case.patches[0])),
    "patch clips": ("patches", lambda case: replace(case, patches=case.patches[:, None])),
    "patch batch": ("patches", lambda case: replace(case, patches=case.patches[:1])),
    "size shape": ("patch_size", lambda case: replace(case, patch_size=case.patch_size[:, :1])),
    "size dtype": ("patch_size", lambda case: replace(case, patch_size=case.patch_size.long())),
    "size negative": ("patch_size", lambda case: replace(case, patch_size=-case.patch_size)),
    "size too large": ("patch_size", lambda case: replace(case, patch_size=case.patch_size + 100)),
    "center frames": ("centers", lambda case: replace(case, centers=case.centers[:, :, 1:])),
    "center dtype": ("centers", lambda case: replace(case, centers=case.centers.double())),
    "linear shape": ("linear", lambda case: replace(case, linear=case.linear.flatten(-2))),
    "shape value": ("shape", lambda case: replace(case, shape=case.shape + 3)),
    "shape dtype": ("shape", lambda case: replace(case, shape=case.shape.float())),
    "edge negative": ("edge", lambda case: replace(case, edge=case.edge - 5)),
    "edge NaN": ("edge", lambda case: replace(case, edge=case.edge * torch.nan)),
    "opacity shape": ("opacity", lambda case: replace(case, opacity=case.opacity[..., 0])),
    "order shape": ("order", lambda case: replace(case, order=case.order[0])),
    "offsets shape": ("offsets", lambda case: replace(case, offsets=torch.zeros(2, 1, 3, 2))),
}


@pytest.mark.parametrize("what", REFUSALS)
def test_refusals_name_the_argument(what: str) -> None:
    name, spoil = REFUSALS[what]
    case = spoil(draw(23))
    with pytest.raises(ValueError, match=f"^{name}: got .*(needs|takes)"):
        case.run()
    with pytest.raises(ValueError, match=f"^{name}: got .*(needs|takes)"):
        paste_tubelets_(case.clips, case.patches, *case.geometry)


@pytest.mark.parametrize("axis", [0, 2, 4])
def test_in_place_refuses_an_expanded_clip(axis: int) -> None:
    case = draw(24)
    narrow = case.clips[0].narrow(axis, 0, 1).expand_as(case.clips[0])
    with pytest.raises(ValueError, match=r"^clips: clip 0 is expanded"):
        paste_tubelets_([narrow], case.patches, *case.geometry)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("other", ["same", "batch", "frames", "pixels", "layout"])
def test_in_place_refuses_clips_that_share_memory(other: str, dtype: torch.dtype) -> None:
    case = draw(25, dtype, batch=2, clips=2, frames=3, height=9, width=8)
    longer = torch.zeros(3, 3, 4, 10, 9, dtype=dtype)
    first = longer[:2, :, :3, :9, :8]
    second = {
        "same": first,
        "batch": longer[1:, :, :3, :9, :8],
        "frames": longer[:2, :, 1:, :9, :8],
        "pixels": longer[1:, :, 1:, 1:, 1:],
        # Rows and columns exchanged in memory, from a pixel on that the first clip has.
        "layout": longer[:2, :, :3, 1, 1].as_strided((2, 3, 3, 9, 8), (1080, 360, 90, 1, 9), 10),
    }[other]
    with pytest.raises(ValueError, match=r"^clips: clips 0 and 1 share memory"):
        paste_tubelets_([second, first], case.patches, *case.geometry)
    assert not longer.any()


@pytest.mark.parametrize("axis", range(6))
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_in_place_takes_clips_that_take_turns_in_memory(axis: int, dtype: torch.dtype) -> None:
    case = draw(26, dtype, clips=2, frames=3, height=9, width=11)
    both = torch.stack(case.clips, axis).contiguous()
    paste_tubelets_(list(both.unbind(axis)), case.patches, *case.geometry)
    for pasted, expected in zip(both.unbind(axis), case.run(), strict=True):
        assert torch.equal(pasted, expected)


def test_in_place_refuses_patches_in_the_memory_of_clips() -> None:
    case = draw(27, clips=1, tubelets=1, height=9, width=11)
    clip = case.clips[0]
    patches = clip[:, None, :, 0, :5, :5]
    case = replace(case, patches=patches, patch_size=torch.full_like(case.patch_size, 5))
    with pytest.raises(ValueError, match=r"^patches: lies in the memory of clips"):
        paste_tubelets_([clip], case.patches, *case.geometry)
    (pasted,) = case.run()
    paste_tubelets_([clip], patches.clone(), *case.geometry)
    assert torch.equal(pasted, clip)


def test_malformed_calls_end_in_exceptions() -> None:
    """Each call has one to three arguments spoiled at random; it may work by luck, but must never crash."""
    generator = np.random.default_rng(26)
    names = ("patches", "patch_size", "centers", "linear", "shape", "edge", "opacity", "order", "offsets")
    dtypes = (torch.float32, torch.int32, torch.uint8, torch.float64, torch.bool, torch.complex64, torch.int64)
    spoilers: list[Callable[[Tensor], Any]] = [
        lambda tensor: tensor[..., :0],
        lambda tensor: tensor[:1],
        lambda tensor: tensor.flatten(),
        lambda tensor: tensor[None],
        lambda tensor: torch.tensor(3.0),
        lambda tensor: tensor.to(dtypes[generator.integers(len(dtypes))]),
        lambda tensor: tensor.transpose(0, -1),
        lambda tensor: (tensor.float() * 1e30).to(tensor.dtype),
        lambda tensor: (tensor.float() * torch.nan).to(tensor.dtype),
        lambda tensor: torch.full_like(tensor, -(2**31)) if tensor.dtype == torch.int32 else -tensor,
        lambda tensor: tensor.to("meta"),
        lambda tensor: tensor.to_sparse(),
        lambda tensor: None,
        lambda tensor: "text",
    ]
    refused = 0
    for _ in range(600):
        case = draw(27, batch=2, frames=2, height=6, width=7, offsets=True)
        for name in generator.choice(names, generator.integers(1, 4), replace=False):
            tensor = getattr(case, name)
            if isinstance(tensor, Tensor):
                setattr(case, str(name), spoilers[generator.integers(len(spoilers))](tensor))
        try:
            case.run()
        except (ValueError, RuntimeError, TypeError, NotImplementedError):
            refused += 1
    assert refused > 300


def one(dtype: torch.dtype, size: tuple[int, int], center: tuple[float, float], **changes: Any) -> Case:
    """A hard, opaque rectangle of ones, w x h, on one frame of zeros, 1 x 9 x 9."""
    case = Case(
        clips=[torch.zeros(1, 1, 1, 9, 9, dtype=dtype)],
        patches=torch.ones(1, 1, 1, size[1], size[0], dtype=dtype),
        patch_size=torch.tensor([[size]], dtype=torch.int32),
        centers=torch.tensor([[[center]]]),
        linear=torch.eye(2)[None, None, None],
        shape=torch.zeros(1, 1, dtype=torch.int32),
        edge=torch.zeros(1, 1),
        opacity=torch.ones(1, 1, 1),
        order=torch.zeros(1, 1, dtype=torch.int32),
    )
    return replace(case, **changes)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [0, 2], ids=["rectangle", "rhombus"])
@pytest.mark.parametrize("size", [(1, 1), (4, 4), (3, 2), (7, 5), (4, 8)], ids=str)
@pytest.mark.parametrize("corner", [(0.5, 0.5), (1.0, 2.5), (0.25, 1.5)], ids=str)
def test_abutting_hard_patches_leave_no_pixel_out_and_paint_none_twice(
    dtype: torch.dtype, shape: int, size: tuple[int, int], corner: tuple[float, float]
) -> None:
    """Also where their common edge runs through pixel centres: an edge belongs to the patch on its right, or below."""
    (width, height), (x, y) = size, corner
    painted = torch.zeros(9, 9, dtype=torch.float64)
    for column, row in itertools.product(range(-12, 21), repeat=2):
        if shape == 0:
            center = (x + column * width, y + row * height)
        else:  # a grid of diamonds
            center = (x + (column + row) * width / 2, y + (column - row) * height / 2)
        if not (-width < center[0] < 9 + width and -height < center[1] < 9 + height):
            continue
        case = one(dtype, size, center, shape=torch.full((1, 1), shape, dtype=torch.int32))
        painted += case.run()[0][0, 0, 0].double()
    assert torch.equal(painted, torch.ones_like(painted))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_hard_patch_centred_on_a_pixel_centre_has_its_width(dtype: torch.dtype) -> None:
    pasted = one(dtype, (4, 2), (4.5, 3.5)).run()[0][0, 0, 0]
    expected = torch.zeros_like(pasted)
    expected[2:4, 2:6] = 1  # centres from 2.5 to 6.5 and 2.5 to 4.5, the last ones not
    assert torch.equal(pasted, expected)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("scale", [1e9, 2e19, 1e30])
def test_a_patch_far_larger_than_the_frame_is_painted(dtype: torch.dtype, scale: float) -> None:
    case = one(dtype, (3, 3), (4.0, 4.0), linear=(torch.eye(2) * scale)[None, None, None])
    assert case.run()[0].double().sum() == 81


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_columns_where_float32_has_no_halves(dtype: torch.dtype) -> None:
    width = 2**24
    patch = torch.arange(1, 9).to(dtype)[None, None, None, None]
    for center in (2.0**23 + 1, 2.0**24 - 4):
        case = one(dtype, (8, 1), (center, 0.5), clips=[torch.zeros(1, 1, 1, 1, width, dtype=dtype)], patches=patch)
        row = case.run()[0][0, 0, 0, 0]
        assert row.count_nonzero() == 8
        assert torch.equal(row[int(center) - 4 : int(center) + 4], patch.flatten())


@pytest.mark.parametrize("dtype", DTYPES[1:], ids=str)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("edge", [0.0, 0.5])
def test_a_texel_that_is_not_finite_shows_only_where_it_weighs(dtype: torch.dtype, bad: float, edge: float) -> None:
    patch = torch.ones(1, 1, 1, 5, 5, dtype=dtype)
    patch[..., 2, 2] = bad
    aligned = one(dtype, (5, 5), (4.5, 4.5), patches=patch, edge=torch.full((1, 1), edge)).run()[0][0, 0, 0]
    expected = torch.zeros(9, 9, dtype=torch.bool)
    expected[4, 4] = True
    assert torch.equal(~aligned.isfinite(), expected)
    between = one(dtype, (5, 5), (5.0, 4.5), patches=patch, edge=torch.full((1, 1), edge)).run()[0][0, 0, 0]
    expected[4, 5] = True
    assert torch.equal(~between.isfinite(), expected)


@pytest.mark.parametrize("dtype", DTYPES[1:], ids=str)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("opacity", [1.0, 0.5])
def test_texels_of_alpha_0_do_not_show_even_where_nothing_is_finite(
    dtype: torch.dtype, bad: float, opacity: float
) -> None:
    """Neither a colour without alpha that is not finite, nor such a background under an alpha of 0."""
    patch = torch.stack([torch.full((5, 5), bad), torch.zeros(5, 5)]).to(dtype)[None, None]
    clean = torch.rand(1, 1, 1, 9, 9, generator=torch.Generator().manual_seed(0)).to(dtype)
    opacities = torch.full((1, 1, 1), opacity)
    for center in ((4.5, 4.5), (4.75, 4.1)):
        case = one(dtype, (5, 5), center, clips=[clean], patches=patch, opacity=opacities)
        assert torch.equal(case.run()[0], clean)
        patch[:, :, 0] = 1
        dirty = torch.full_like(clean, bad)
        got = replace(case, clips=[dirty], patches=patch).run()[0]
        assert torch.equal(got.nan_to_num(nan=7.0), dirty.nan_to_num(nan=7.0))
        patch[:, :, 0] = bad
