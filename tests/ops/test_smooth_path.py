import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from reference.smooth_path import smooth_path as reference
from tubeletx.ops.smooth_path import smooth_path


@settings(max_examples=120, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    rows=st.integers(0, 4),
    num_points=st.integers(1, 70),
    axes=st.integers(0, 3),
    sigma=st.sampled_from([0.0, 0.1, 0.13, 0.7, 3.0, 6.0, 8.0, 25.0]),
    num_frames=st.integers(1, 80),
    extent_axes=st.sampled_from([None, "row", "axis"]),
    shifted=st.booleans(),
)
def test_equals_scipy(seed, rows, num_points, axes, sigma, num_frames, extent_axes, shifted):
    generator = np.random.default_rng(seed)
    points = generator.uniform(0, 1, (rows, num_points, axes)).astype(np.float32)
    extent = None
    if extent_axes is not None:
        shape = (rows,) if extent_axes == "row" else (rows, axes)
        extent = generator.uniform(0, 1, shape).astype(np.float32)
    offset = generator.uniform(-1, 1, (rows, axes)).astype(np.float32) if shifted else None
    result = smooth_path(
        torch.tensor(points),
        sigma,
        None if extent is None else torch.tensor(extent),
        None if offset is None else torch.tensor(offset),
        num_frames=num_frames,
    )
    if num_points == 1 and extent is not None:  # SciPy's rounding gives even one point a range
        expected = np.zeros((rows, num_frames, axes)) + (0 if offset is None else offset[:, None])
    else:
        wide = None if extent is None else np.broadcast_to(extent.T, (axes, rows)).T
        expected = reference(points, sigma, wide, offset, num_frames)
    assert result.shape == (rows, num_frames, axes)
    np.testing.assert_allclose(result.numpy(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("sigma", [2.5, 6.0, 100.0])
def test_every_point_equals_gaussian_filter1d(sigma):
    points = np.random.default_rng(3).uniform(0, 112, (2, 48, 2)).astype(np.float32)
    expected = ndimage.gaussian_filter1d(points.astype(np.float64), sigma, axis=1, mode="reflect", truncate=4.0)
    np.testing.assert_allclose(smooth_path(torch.tensor(points), sigma, num_frames=48), expected, rtol=1e-6)


def test_a_rescaled_path_fills_its_box():
    points = torch.rand(64, 48, 2, generator=torch.Generator().manual_seed(0))
    extent = torch.linspace(20, 90, 64)
    offset = torch.rand(64, 2, generator=torch.Generator().manual_seed(1)) * 20
    path = smooth_path(points, 8, extent, offset, num_frames=48)
    torch.testing.assert_close(path.amin(1), offset)
    torch.testing.assert_close(path.amax(1), offset + extent[:, None])


def test_an_axis_that_does_not_move_becomes_its_offset():
    points = torch.full((1, 48, 1), 0.1)
    assert (smooth_path(points, 6, torch.tensor([50.0]), torch.tensor([[3.0]]), num_frames=7) == 3).all()


def test_strided_arguments():
    generator = torch.Generator().manual_seed(0)
    points, extent = torch.rand(5, 3, 20, generator=generator).mT, torch.rand(2, 10, generator=generator).t()[::2]
    offset = torch.rand(3, 5, generator=generator).t()
    assert not points.is_contiguous()
    extent = extent[:, :1].expand(5, 3)
    strided = smooth_path(points, 2, extent, offset, num_frames=9)
    plain = smooth_path(points.contiguous(), 2, extent.contiguous(), offset.contiguous(), num_frames=9)
    assert torch.equal(strided, plain)


def test_rows_and_threads_make_no_difference():
    points = torch.rand(200, 48, 2, generator=torch.Generator().manual_seed(0))
    extent = torch.full((200,), 50.0)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        many = smooth_path(points, 6, extent, num_frames=16)
        torch.set_num_threads(1)
        alone = torch.cat([smooth_path(points[i : i + 1], 6, extent[:1], num_frames=16) for i in range(200)])
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(many, alone)


POINTS = torch.zeros(2, 5, 2)


@pytest.mark.parametrize(
    ("arguments", "num_frames", "message"),
    [
        ((POINTS[0], 1.0), 4, "points"),
        ((POINTS.double(), 1.0), 4, "points"),
        ((POINTS[:, :0], 1.0), 4, "points"),
        ((POINTS, -1.0), 4, "sigma"),
        ((POINTS, float("nan")), 4, "sigma"),
        ((POINTS, float("inf")), 4, "sigma"),
        ((POINTS, 1e6), 4, "sigma"),
        ((POINTS, 1.0, torch.zeros(3)), 4, "extent"),
        ((POINTS, 1.0, torch.zeros(2, 1)), 4, "extent"),
        ((POINTS, 1.0, torch.zeros(())), 4, "extent"),
        ((POINTS, 1.0, torch.zeros(2).double()), 4, "extent"),
        ((POINTS, 1.0, None, torch.zeros(2)), 4, "offset"),
        ((POINTS, 1.0, None, torch.zeros(2, 2).int()), 4, "offset"),
        ((POINTS, 1.0), 0, "num_frames"),
    ],
)
def test_refuses(arguments, num_frames, message):
    with pytest.raises(ValueError, match=rf"^{message}: "):
        smooth_path(*arguments, num_frames=num_frames)


def test_opcheck():
    operator = torch.ops.tubeletx.smooth_path.default
    torch.library.opcheck(operator, (POINTS, 1.0, torch.ones(2), torch.ones(2, 2), 3))
    torch.library.opcheck(operator, (POINTS[:0], 0.0, None, None, 3))


def test_compiles_without_breaks():
    points = torch.rand(3, 12, 2, generator=torch.Generator().manual_seed(0))
    compiled = torch.compile(smooth_path, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(points, 2.0, num_frames=5), smooth_path(points, 2.0, num_frames=5))
