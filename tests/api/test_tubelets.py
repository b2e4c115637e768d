import copy
import dataclasses
import io
import math
import pickle
from collections.abc import Iterable

import numpy as np
import pytest
import torch

from tubeletx.config import TubeletConfig
from tubeletx.ops.sample_tubelets import FIELDS
from tubeletx.sampler import TubeletSampler
from tubeletx.tubelets import Tubelets

CONFIG = TubeletConfig.preset("released", transforms=("scale", "rotation", "shear"), scale_rate=0.03)


@pytest.fixture
def tubelets():
    return TubeletSampler(CONFIG, seed=3)(torch.arange(6), num_frames=8, height=64, width=96)


def same(first, second):
    return all(torch.equal(first.tensors()[name], tensor) for name, tensor in second.tensors().items()) and (
        first.height,
        first.width,
        first.max_patch_size,
    ) == (second.height, second.width, second.max_patch_size)


def test_fields_are_cut_out_once_and_are_whole_tensors(tubelets):
    cut = tubelets.tensors()
    assert list(cut) == list(FIELDS)
    for name, tensor in cut.items():
        assert getattr(tubelets, name) is tensor
        assert tensor.is_contiguous()
        assert tensor.dtype == (
            torch.int32 if name in ("patch_frame", "patch_box", "shape", "order") else torch.float32
        )
    # No element is shared, and no tensor of another type lies in the same memory, which torch.save refuses.
    before = {name: tensor.clone() for name, tensor in cut.items()}
    for name in cut:
        cut[name].zero_()
        others = [other for other in cut if other != name]
        assert all(torch.equal(cut[other], before[other]) for other in others)
        cut[name].copy_(before[name])
    torch.save(cut, io.BytesIO())


@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, lambda given: pickle.loads(pickle.dumps(given))])
@pytest.mark.parametrize("touched", [False, True])
def test_copies_of_tubelets(tubelets, way, touched):
    if touched:
        assert tubelets.centers.shape == (6, 2, 8, 2)
    assert same(way(tubelets), tubelets)


def test_an_unknown_attribute(tubelets):
    for made in (tubelets, tubelets.reversed(), Tubelets.__new__(Tubelets)):
        with pytest.raises(AttributeError, match="'Tubelets' object has no attribute 'center'"):
            made.center  # noqa: B018
    with pytest.raises(AttributeError, match="centers"):
        Tubelets.__new__(Tubelets).centers  # noqa: B018


def test_patch_size(tubelets):
    assert tubelets.patch_size.shape == (6, 2, 2)
    assert torch.equal(tubelets.patch_box[..., :2] + tubelets.patch_size, tubelets.patch_box[..., 2:])


def test_indexing_always_gives_a_batch(tubelets):
    assert len(tubelets) == 6
    assert tubelets[2].batch_size == 1
    assert same(tubelets[-1], tubelets[5:])
    for two in (np.int64(2), np.uint8(2), np.array(2), torch.tensor(2)):
        assert same(tubelets[two], tubelets[2])
    assert same(tubelets[[4, 0]], tubelets[torch.tensor([4, 0])])
    assert same(tubelets[torch.tensor([4, 0])][1], tubelets[0])
    assert same(tubelets[torch.arange(6) > 2], tubelets[3:])
    with pytest.raises(IndexError, match="got 6"):
        tubelets[6]
    assert [part.batch_size for part in tubelets] == [1] * 6


@pytest.mark.parametrize(
    ("index", "error"),
    [
        ((0, 1), TypeError),
        ((slice(None), 0), TypeError),
        (None, TypeError),
        (..., TypeError),
        (0.5, TypeError),
        ("a", TypeError),
        (["a"], TypeError),
        ([0.5], TypeError),
        (torch.zeros(2), TypeError),
        (torch.zeros((2, 2), dtype=torch.int64), IndexError),
        ([[0]], IndexError),
        (99, IndexError),
    ],
)
def test_refuses_indices_of_anything_but_samples(tubelets, index, error):
    with pytest.raises(error, match=r"^index: got"):
        tubelets[index]


def test_small_integers_and_empty_lists_are_indices_too(tubelets):
    for dtype in (torch.uint8, torch.int32):
        assert tubelets[torch.tensor([0, 0], dtype=dtype)].centers.equal(tubelets[[0, 0]].centers)
    assert len(tubelets[[]]) == 0


def test_samples_one_after_the_other(tubelets):
    assert isinstance(tubelets, Iterable)
    each = list(tubelets)
    assert all(len(one) == 1 for one in each)
    assert torch.cat([one.centers for one in each]).equal(tubelets.centers)


def test_to_takes_no_dtype(tubelets):
    with pytest.raises(TypeError, match="device"):
        tubelets.to(torch.float16)


def test_to(tubelets):
    moved = tubelets.to("meta")
    assert moved.device.type == "meta"
    assert all(tensor.is_meta for tensor in moved.tensors().values())
    assert same(tubelets.to("cpu"), tubelets)


def test_reversed_twice_is_the_original(tubelets):
    backwards = tubelets.reversed()
    assert torch.equal(backwards.centers[:, :, 0], tubelets.centers[:, :, -1])
    assert torch.equal(backwards.linear[:, :, 1], tubelets.linear[:, :, -2])
    assert torch.equal(backwards.opacity[:, :, -1], tubelets.opacity[:, :, 0])
    assert same(backwards.reversed(), tubelets)
    assert torch.equal(backwards.patch_box, tubelets.patch_box)


def outline(shape, width, height):
    """Many points on the outline of a patch, in patch axes."""
    turn = np.linspace(0, 2 * np.pi, 4001)
    x, y = np.cos(turn), np.sin(turn)
    norm = {0: np.maximum(abs(x), abs(y)), 1: np.hypot(x, y), 2: abs(x) + abs(y)}[shape]
    return np.stack((x / norm * width / 2, y / norm * height / 2), -1)


def test_boxes_are_those_of_the_outline(tubelets):
    boxes = tubelets.boxes()
    assert boxes.shape == (6, 2, 8, 4)
    seen = set()
    for b in range(6):
        for m in range(2):
            shape = int(tubelets.shape[b, m])
            seen.add(shape)
            points = outline(shape, *tubelets.patch_size[b, m].tolist())
            image = points @ tubelets.linear[b, m].double().numpy().transpose(0, 2, 1)
            image = image + tubelets.centers[b, m].double().numpy()[:, None]
            expected = np.concatenate((image.min(1), image.max(1)), -1)
            np.testing.assert_allclose(boxes[b, m], expected, atol=0.05)
    assert seen == {0, 1, 2}


def test_clipped_boxes(tubelets):
    boxes, clipped = tubelets.boxes(), tubelets.boxes(clip=True)
    assert (boxes < 0).any()
    frame = torch.tensor([96.0, 64.0, 96.0, 64.0])
    assert torch.equal(clipped, boxes.maximum(torch.zeros(4)).minimum(frame))
    tubelets.centers += 1000
    gone = tubelets.boxes(clip=True)
    assert torch.equal(gone[..., :2], gone[..., 2:])


def test_save_and_load(tubelets, tmp_path):
    tubelets.save(tmp_path / "some tubelets.pt")
    assert same(Tubelets.load(tmp_path / "some tubelets.pt"), tubelets)
    torch.save({"centers": tubelets.centers}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=r"other\.pt does not hold tubelets"):
        Tubelets.load(tmp_path / "other.pt")


def still(shape, centers, size, frames=2, height=32, width=48):
    """Hard tubelets that neither move nor turn, one sample."""
    count = len(centers)
    box = torch.zeros(1, count, 4, dtype=torch.int32)
    box[..., 2:] = torch.tensor(size)
    integers = torch.zeros(1, count, dtype=torch.int32)
    return Tubelets(
        centers=torch.tensor(centers, dtype=torch.float32)[None, :, None].repeat(1, 1, frames, 1),
        linear=torch.eye(2).repeat(1, count, frames, 1, 1),
        patch_frame=integers,
        patch_box=box,
        shape=integers + shape,
        edge=torch.zeros(1, count),
        opacity=torch.ones(1, count, frames),
        order=torch.arange(count, dtype=torch.int32)[None],
        height=height,
        width=width,
        max_patch_size=(size[1], size[0]),
    )


@pytest.mark.parametrize(
    "content",
    ["", "hello there", "PK", "dict", {"height": "a"}, {"height": 0}, {"max_patch_size": 5}, {"shape": "text"}],
)
def test_load_refuses_what_is_something_else(tubelets, tmp_path, content):
    path = tmp_path / "tubelets.pt"
    if isinstance(content, dict):
        fields = {field.name: getattr(tubelets, field.name) for field in dataclasses.fields(tubelets)}
        torch.save(fields | content, path)
    elif content == "dict":
        torch.save(tubelets.tensors(), path)
    else:
        path.write_text(content)
    with pytest.raises(ValueError, match=r"^path: .* does not hold tubelets"):
        Tubelets.load(path)


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Tubelets)][:8])
def test_load_refuses_fields_of_another_shape_or_dtype(tubelets, tmp_path, field):
    path = tmp_path / "tubelets.pt"
    for spoil in (lambda tensor: tensor.double(), lambda tensor: tensor[..., None]):
        spoiled = copy.deepcopy(tubelets)
        setattr(spoiled, field, spoil(getattr(tubelets, field)))
        spoiled.save(path)
        with pytest.raises(ValueError, match=r"^path: .* does not hold tubelets: \w+: got"):
            Tubelets.load(path)


def test_load_of_no_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        Tubelets.load(tmp_path / "missing.pt")


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("cell", lambda tubelets: tubelets.coverage((1.0, 1, 1))),
        ("cell", lambda tubelets: tubelets.coverage(16)),
        ("cell", lambda tubelets: tubelets.speed((1.0, 1, 1))),
        ("samples", lambda tubelets: tubelets.speed((1, 1, 1), samples=1.5)),
        ("grid", lambda tubelets: tubelets.tracks(14)),
        ("grid", lambda tubelets: tubelets.tracks((2.5, 2))),
        ("frame", lambda tubelets: tubelets.tracks((2, 2), frame=0.5)),
        ("grid", lambda tubelets: tubelets.flow((2.5, 2))),
        ("step", lambda tubelets: tubelets.flow((2, 2), step=0.5)),
    ],
)
def test_what_is_counted_is_an_integer(tubelets, name, call):
    with pytest.raises(TypeError, match=f"^{name}: got"):
        call(tubelets)


def test_a_step_beyond_all_frames_shows_nothing(tubelets):
    far = tubelets.flow((2, 3), step=2**40)
    assert not far.displacement.any()
    assert not far.visibility.any()


def test_coverage_of_a_still_rectangle():
    rectangle = still(0, [(24.0, 16.0)], (16, 16))
    expected = torch.zeros(1, 1, 4, 6)
    expected[0, 0, 1:3, 2:4] = 1
    assert torch.equal(rectangle.coverage((2, 8, 8)), expected)
    assert torch.equal(rectangle.coverage((1, 8, 8)), expected.repeat(1, 2, 1, 1))
    assert torch.equal(rectangle.coverage((2, 16, 16)), torch.tensor([[[[0, 0.5, 0], [0, 0.5, 0]]]]))


@pytest.mark.parametrize(("shape", "area"), [(0, 1), (1, math.pi / 4), (2, 0.5)])
def test_coverage_counts_the_shape_whatever_its_edge_and_opacity(shape, area):
    tubelets = still(shape, [(24.0, 16.0)], (40, 28))
    tubelets.edge += 0.5
    tubelets.opacity *= 0.3
    covered = tubelets.coverage((2, 32, 48)).item() * 32 * 48
    assert abs(covered - area * 40 * 28) < 25


def test_coverage_is_that_of_the_union_or_of_each():
    two = still(0, [(12.0, 16.0), (20.0, 16.0)], (16, 16))
    each = two.coverage((1, 32, 4), per_tubelet=True)
    assert each.shape == (1, 2, 2, 1, 12)
    assert torch.equal(each[0, 0, 0, 0].nonzero()[:, 0], torch.arange(1, 5))
    assert torch.equal(each[0, 1, 0, 0].nonzero()[:, 0], torch.arange(3, 7))
    assert torch.equal(two.coverage((1, 32, 4)), each.amax(1))


def test_coverage_lies_within_the_boxes(tubelets):
    covered = tubelets.coverage((1, 1, 1), per_tubelet=True).flatten(3)
    boxes = tubelets.boxes(clip=True)
    y, x = torch.meshgrid(torch.arange(64) + 0.5, torch.arange(96) + 0.5, indexing="ij")
    low, high = boxes[..., :2, None], boxes[..., 2:, None]
    x, y = x.flatten(), y.flatten()
    inside = (x > low[..., 0, :]) & (x < high[..., 0, :]) & (y > low[..., 1, :]) & (y < high[..., 1, :])
    assert not covered[~inside].any()
    assert set(covered.unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("cell", [(3, 16, 16), (2, 0, 16), (2, 16), (2, 16, 7)])
def test_coverage_refuses_cells_that_do_not_divide_the_clip(tubelets, cell):
    with pytest.raises(ValueError, match=r"^cell: "):
        tubelets.coverage(cell)


def test_crop_takes_the_boxes(tubelets):
    clip = torch.randint(0, 256, (6, 3, 8, 64, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    patches = tubelets.crop(clip)
    assert patches.shape == (6, 2, 3, *tubelets.max_patch_size)
    for b in range(6):
        for m in range(2):
            x0, y0, x1, y1 = tubelets.patch_box[b, m].tolist()
            expected = clip[b, :, tubelets.patch_frame[b, m], y0:y1, x0:x1]
            assert torch.equal(patches[b, m, :, : y1 - y0, : x1 - x0], expected)


def test_paste_in_place_and_out_of_place(tubelets):
    clip = torch.rand(6, 3, 8, 64, 96, generator=torch.Generator().manual_seed(0))
    patches = tubelets.crop(clip.flip(0))
    (copy,) = tubelets.paste([clip], patches)
    assert not torch.equal(copy, clip)
    (same_clip,) = tubelets.paste([clip], patches, inplace=True)
    assert same_clip is clip
    assert torch.equal(copy, clip)
    outside = tubelets.coverage((1, 1, 1))[:, None].expand_as(clip) == 0
    assert torch.equal(copy[outside], clip[outside])
