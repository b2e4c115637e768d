from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from reference.crop_patches import crop_patches as reference
from tubeletx.ops.crop_patches import crop_patches

DTYPES = (torch.uint8, torch.float16, torch.bfloat16, torch.float32, torch.float64)


def draw(
    seed: int, dtype: torch.dtype = torch.float32, *, batch: int = 3, tubelets: int = 2, channels: int = 3
) -> tuple[Tensor, Tensor, Tensor, tuple[int, int]]:
    generator = np.random.default_rng(seed)
    frames, height, width = 4, 17, 23
    size = (9, 11)
    values = generator.integers(0, 256, (batch, channels, frames, height, width))
    corner = np.stack([generator.integers(0, edge + 1, (batch, tubelets)) for edge in (width, height)], -1)
    side = np.stack([generator.integers(0, edge + 1, (batch, tubelets)) for edge in (size[1], size[0])], -1)
    box = np.concatenate([corner, np.minimum(corner + side, [width, height])], -1)
    frame = generator.integers(0, frames, (batch, tubelets))
    return (
        torch.from_numpy(values).to(dtype),
        torch.from_numpy(frame.astype(np.int32)),
        torch.from_numpy(box.astype(np.int32)),
        size,
    )


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "layout",
    [
        Tensor.contiguous,
        lambda clip: clip.contiguous(memory_format=torch.channels_last_3d),
        lambda clip: clip.transpose(3, 4).contiguous().transpose(3, 4),
        lambda clip: clip.repeat_interleave(2, -1)[..., ::2],
    ],
    ids=["contiguous", "channels_last", "transposed", "sliced"],
)
def test_equals_reference(dtype: torch.dtype, seed: int, layout: Callable[[Tensor], Tensor]) -> None:
    clip, frame, box, size = draw(seed, dtype, channels=1 + seed)
    patches = crop_patches(layout(clip), frame, box, size)
    assert patches.dtype == dtype
    assert patches.movedim(2, -1).is_contiguous()
    expected = reference(clip.double().numpy(), frame.numpy(), box.numpy(), size)
    np.testing.assert_array_equal(patches.double().numpy(), expected)


def test_thread_count_does_not_change_the_result() -> None:
    clip, frame, box, size = draw(5, batch=40)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = crop_patches(clip, frame, box, size)
        torch.set_num_threads(3)
        assert torch.equal(crop_patches(clip, frame, box, size), one)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize(("batch", "tubelets", "channels"), [(0, 2, 3), (3, 0, 3), (3, 2, 0)])
def test_empty_axes(batch: int, tubelets: int, channels: int) -> None:
    clip, frame, box, size = draw(6, batch=batch, tubelets=tubelets, channels=channels)
    assert crop_patches(clip, frame, box, size).shape == (batch, tubelets, channels, *size)


def test_gradient() -> None:
    clip, frame, box, size = draw(7, torch.float64, batch=2, tubelets=3, channels=2)
    frame[0] = 1
    box[0, 1] = box[0, 0] = torch.tensor([3, 4, 9, 8])  # two patches that share pixels
    assert torch.autograd.gradcheck(lambda clip: crop_patches(clip, frame, box, size), clip.requires_grad_())


def test_opcheck_and_compile() -> None:
    clip, frame, box, size = draw(8)
    torch.library.opcheck(torch.ops.tubeletx.crop_patches.default, (clip.requires_grad_(), frame, box, *size))
    compiled = torch.compile(crop_patches, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(clip, frame, box, size), crop_patches(clip, frame, box, size))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("clip", lambda clip, frame, box, size: (clip[0], frame, box, size)),
        ("clip", lambda clip, frame, box, size: (clip.int(), frame, box, size)),
        ("patch_frame", lambda clip, frame, box, size: (clip, frame[:2], box, size)),
        ("patch_frame", lambda clip, frame, box, size: (clip, frame.long(), box, size)),
        ("patch_frame", lambda clip, frame, box, size: (clip, frame - 4, box, size)),
        ("patch_frame", lambda clip, frame, box, size: (clip, frame + 4, box, size)),
        ("patch_box", lambda clip, frame, box, size: (clip, frame, box[..., :3], size)),
        ("patch_box", lambda clip, frame, box, size: (clip, frame, box.float(), size)),
        ("patch_box", lambda clip, frame, box, size: (clip, frame, box + 30, size)),
        ("patch_box", lambda clip, frame, box, size: (clip, frame, box - 30, size)),
        ("patch_box", lambda clip, frame, box, size: (clip, frame, box.flip(-1), size)),
        ("patch_box", lambda clip, frame, box, size: (clip, frame, box, (1, 1))),
        ("height", lambda clip, frame, box, size: (clip, frame, box, (0, 4))),
        ("width", lambda clip, frame, box, size: (clip, frame, box, (4, -4))),
    ],
)
def test_refusals_name_the_argument(
    name: str, change: Callable[..., tuple[Tensor, Tensor, Tensor, tuple[int, int]]]
) -> None:
    with pytest.raises(ValueError, match=f"^{name}: got .*needs"):
        crop_patches(*change(*draw(9)))


def test_malformed_calls_end_in_exceptions() -> None:
    """Boxes, frames and sizes at random: only those that lie inside may pass, and those must be right."""
    generator = np.random.default_rng(10)
    clip = draw(11, batch=1)[0]
    passed = 0
    for _ in range(600):
        limit = int(generator.choice([12, 40, 2**31 - 1]))
        corners = generator.integers(-1 if limit == 12 else -limit, limit, (1, 1, 2, 2))
        if limit == 12:
            corners.sort(axis=2)
        box = torch.from_numpy(corners.reshape(1, 1, 4).astype(np.int32))
        frame = torch.from_numpy(generator.integers(-1, 5, (1, 1)).astype(np.int32))
        size = (int(generator.integers(-1, 20)), int(generator.integers(-1, 20)))
        try:
            patches = crop_patches(clip, frame, box, size)
        except ValueError:
            continue
        passed += 1
        np.testing.assert_array_equal(patches.numpy(), reference(clip.numpy(), frame.numpy(), box.numpy(), size))
    assert 20 < passed < 300


def test_second_derivatives() -> None:
    clip = torch.rand(1, 2, 3, 5, 6, dtype=torch.float64, requires_grad=True)
    frame, box = torch.tensor([[2]], dtype=torch.int32), torch.tensor([[[1, 1, 4, 4]]], dtype=torch.int32)
    assert torch.autograd.gradgradcheck(lambda clip: crop_patches(clip, frame, box, (4, 4)).pow(3).sum(), clip)
