"""Exact tracks, against float64 NumPy and against the colours that pasting gives."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from reference import track_points as reference
from tubeletx import TubeletConfig, Tubelets, TubeletSampler
from tubeletx.ops import paste_tubelets, track_points

HEIGHT, WIDTH = 40, 53


def draw(
    seed: int, *, batch: int = 2, tubelets: int = 3, frames: int = 5, points: int = 150, targets: int = 4
) -> dict[str, Any]:
    """Arguments of the operator; a third of the edges hard, opacities and orders of all kinds."""
    generator = np.random.default_rng(seed)
    pair = (batch, tubelets)

    def tensor(values: Any, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.as_tensor(np.asarray(values), dtype=dtype)

    opacity = generator.choice([1.0, 0.8, 0.3, 0.0, 1.5], (*pair, frames), p=[0.5, 0.2, 0.1, 0.1, 0.1])
    return {
        "points": tensor(generator.uniform(-3, 56, (batch, points, 2))),
        "point_frame": tensor(generator.integers(0, max(frames, 1), (batch, points)), torch.int32),
        "frames": tensor(generator.integers(-1, frames + 1, (batch, points, targets)), torch.int32),
        "patch_size": tensor(generator.integers(1, 40, (*pair, 2)), torch.int32),
        "centers": tensor(generator.uniform(0, 50, (*pair, frames, 2))),
        "linear": tensor(np.eye(2) + generator.normal(0, 0.4, (*pair, frames, 2, 2))),
        "shape": tensor(generator.integers(0, 3, pair), torch.int32),
        "edge": tensor(generator.choice([0.0, 0.2, 1.5], pair)),
        "opacity": tensor(opacity),
        "order": tensor(generator.integers(0, 3, pair), torch.int32),
        "height": HEIGHT,
        "width": WIDTH,
    }


def scene_of(arguments: dict[str, Any], b: int) -> reference.Scene:
    names = ("patch_size", "centers", "linear", "shape", "edge", "opacity", "order")
    fields = {name: arguments[name][b].numpy() for name in names}
    fields = {name: v if v.dtype == np.int32 else v.astype(np.float64) for name, v in fields.items()}
    return reference.Scene(**fields, height=HEIGHT, width=WIDTH)


@pytest.mark.parametrize("seed", range(8))
def test_equals_the_reference(seed: int) -> None:
    arguments = draw(seed, tubelets=(3, 1, 6, 2)[seed % 4])
    if seed == 1:
        arguments["linear"][0, 0, 2] = torch.tensor([[1.0, 2.0], [2.0, 4.0]])  # not painted there
    places, visibility, owner = track_points(**arguments)
    seen = set()
    for b in range(2):
        wanted = (arguments[name][b].numpy() for name in ("points", "point_frame", "frames"))
        expected = reference.track_points(scene_of(arguments, b), *wanted)
        clear = expected[3].min(1) > 1e-4  # no rounding away from an outline
        assert clear.mean() > 0.9
        assert np.array_equal(owner[b][clear], expected[2][clear])
        np.testing.assert_allclose(places[b][clear], expected[0][clear], rtol=1e-5, atol=2e-5)
        np.testing.assert_allclose(visibility[b][clear], expected[1][clear], atol=1e-5)
        seen |= set(owner[b].tolist())
    assert len(seen) > 1
    assert ((visibility > 0) & (visibility < 1)).any()


def test_visibility_is_the_share_of_the_colour_that_pasting_gives() -> None:
    """Each surface in a colour of its own: what a pixel shows of that colour is what tracking says of the surface."""
    generator = torch.Generator().manual_seed(1)
    tubelets = TubeletSampler(TubeletConfig.preset("released", num_tubelets=4), seed=3)(
        torch.arange(3), num_frames=6, height=HEIGHT, width=WIDTH
    )
    tubelets.opacity *= torch.rand(tubelets.opacity.shape, generator=generator) ** 0.3
    colours = torch.eye(5, dtype=torch.float64)
    clip = colours[4].view(1, 5, 1, 1, 1).expand(3, 5, 6, HEIGHT, WIDTH).clone()
    patches = colours[:4].view(1, 4, 5, 1, 1).expand(3, 4, 5, *tubelets.max_patch_size).clone()
    geometry = (
        tubelets.patch_size,
        tubelets.centers,
        tubelets.linear,
        tubelets.shape,
        tubelets.edge,
        tubelets.opacity,
        tubelets.order,
    )
    (painted,) = paste_tubelets([clip], patches, *geometry)
    flow = tubelets.flow((HEIGHT, WIDTH), step=0)
    assert torch.equal(flow.displacement[flow.owner == -1], torch.zeros(int((flow.owner == -1).sum()), 2))
    assert flow.displacement.abs().max() < 1e-4
    share = painted.movedim(1, -1)
    own = share.gather(-1, flow.owner.long().remainder(5)[..., None])[..., 0]
    torch.testing.assert_close(flow.visibility.double(), own, rtol=0, atol=1e-5)
    assert torch.equal(own, share.amax(-1))
    assert len(flow.owner.unique()) == 5


def moving_square(**changes: Any) -> Tubelets:
    """A square of 10 pixels that goes 3 to the right and 1 down a frame, on a frame of 32 x 48."""
    frames = 6
    path = torch.tensor([10.0, 16.0]) + torch.arange(frames)[:, None] * torch.tensor([3.0, 1.0])
    fields = {
        "centers": path[None, None],
        "linear": torch.eye(2).expand(1, 1, frames, 2, 2),
        "patch_frame": torch.zeros(1, 1, dtype=torch.int32),
        "patch_box": torch.tensor([[[0, 0, 10, 10]]], dtype=torch.int32),
        "shape": torch.zeros(1, 1, dtype=torch.int32),
        "edge": torch.zeros(1, 1),
        "opacity": torch.ones(1, 1, frames),
        "order": torch.zeros(1, 1, dtype=torch.int32),
    }
    return Tubelets(**{**fields, **changes}, height=32, width=48, max_patch_size=(10, 10))


def test_tracks_of_a_moving_square() -> None:
    tubelets = moving_square()
    places, visibility, owner = tubelets.tracks((8, 12), frame=1)
    assert places.shape == (1, 8, 12, 6, 2)
    inside = owner[0] == 0
    assert inside.sum() == 4  # it covers 8 <= x < 18, 12 <= y < 22: cells have their centres at 10, 14 and at 14, 18
    moved = places[0] - places[0, :, :, 1:2]
    steps = torch.arange(-1, 5)[:, None] * torch.tensor([3.0, 1.0])
    torch.testing.assert_close(moved[inside], steps.expand(4, -1, -1))
    assert not moved[~inside].any()
    assert visibility[0][inside].eq(1).all()
    # A resting point of the background is hidden while the square is on it.
    x, y = 22.0, 18.0
    hidden = [abs(x - (10 + 3 * t)) < 5 and abs(y - (16 + t)) < 5 for t in range(6)]
    assert 0 < sum(hidden) < 6
    assert visibility[0, 4, 5].tolist() == [float(not h) for h in hidden]


def test_leaving_the_image_ends_visibility() -> None:
    tubelets = moving_square()
    tubelets.centers = tubelets.centers + torch.tensor([26.0, 0.0])
    _, visibility, owner = tubelets.tracks((8, 12))
    # Columns of the square at 34, 38: they leave the 48 pixels after four and three steps of 3.
    assert (owner[0, 4] == 0).nonzero().flatten().tolist() == [8, 9]
    assert visibility[0, 4, 8].tolist() == [1, 1, 1, 1, 1, 0]
    assert visibility[0, 4, 9].tolist() == [1, 1, 1, 1, 0, 0]


def test_flow_forward_and_back() -> None:
    tubelets = TubeletSampler(TubeletConfig(num_tubelets=3))(torch.arange(4), num_frames=7, height=48, width=64)
    forward, backward = tubelets.flow((9, 16)), tubelets.flow((9, 16), step=-1)
    assert forward.displacement.shape == (4, 7, 9, 16, 2)
    for flow, edge in ((forward, -1), (backward, 0)):
        assert not flow.displacement[:, edge].any()
        assert not flow.visibility[:, edge].any()
        assert flow.displacement[flow.owner == -1].eq(0).all()
        assert flow.displacement[flow.owner >= 0].norm(dim=-1).mean() > 0.5
    assert torch.equal(forward.owner, backward.owner)
    mirrored = tubelets.reversed().flow((9, 16))
    assert torch.equal(mirrored.displacement.flip(1), backward.displacement)
    assert torch.equal(mirrored.visibility.flip(1), backward.visibility)
    # Point tracks from frame t say the same of frame t + 1.
    tracks = tubelets.tracks((9, 16), frame=3)
    torch.testing.assert_close(
        tracks.places[..., 4, :] - tracks.places[..., 3, :], forward.displacement[:, 3], rtol=0, atol=1e-4
    )
    assert torch.equal(tracks.visibility[..., 4], forward.visibility[:, 3])


def test_speed_is_coverage_times_the_speed() -> None:
    tubelets = moving_square()
    speed = tubelets.speed((2, 8, 8), samples=8)
    torch.testing.assert_close(speed, 10**0.5 * tubelets.coverage((2, 8, 8)), rtol=1e-5, atol=1e-5)
    assert speed.max() > 1
    still = moving_square(centers=torch.full((1, 1, 6, 2), 16.0))
    assert not still.speed((2, 8, 8)).any()
    one = TubeletSampler()(torch.arange(2), num_frames=1, height=32, width=32)
    assert not one.speed((1, 8, 8)).any()


def test_wrong_grids_and_frames_are_refused() -> None:
    tubelets = moving_square()
    for grid in ((0, 3), (3,), (2, -1)):
        with pytest.raises(ValueError, match=r"^grid: got .*, needs \(rows, columns\)"):
            tubelets.flow(grid)  # type: ignore[arg-type]
    for frame in (-1, 6):
        with pytest.raises(ValueError, match=rf"^frame: got {frame}, needs one of the clip's 6 frames"):
            tubelets.tracks(frame=frame)
        with pytest.raises(ValueError, match=rf"^point_frame: got {frame}, needs a frame of the clip, 0 to 5"):
            tubelets.track(torch.zeros(1, 1, 2), torch.tensor([[frame]], dtype=torch.int32))
    with pytest.raises(ValueError, match=r"^cell: got \(4, 8, 8\), needs divisors"):
        tubelets.speed((4, 8, 8))
    with pytest.raises(ValueError, match=r"^samples: got 0"):
        tubelets.speed((2, 8, 8), samples=0)
    arguments = draw(0)
    arguments["shape"][1, 1] = 3
    with pytest.raises(ValueError, match=r"^shape: got 3, needs 0"):
        track_points(**arguments)
    with pytest.raises(ValueError, match=r"^height: got 0, needs a positive"):
        track_points(**{**draw(0), "height": 0})


def test_strides_and_threads_change_nothing() -> None:
    arguments = draw(5, batch=3, points=1500)
    expected = track_points(**arguments)
    spread = {
        **arguments,
        "points": arguments["points"].mT.contiguous().mT,
        "frames": arguments["frames"].permute(2, 0, 1).contiguous().permute(1, 2, 0),
        "centers": arguments["centers"].mT.contiguous().mT,
    }
    threads = torch.get_num_threads()
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            for got, wanted in zip(track_points(**spread), expected, strict=True):
                assert torch.equal(got, wanted)
    finally:
        torch.set_num_threads(threads)
    shared = {name: arguments[name][:1].expand_as(arguments[name]) for name in ("points", "point_frame", "frames")}
    dense = {name: tensor.contiguous() for name, tensor in shared.items()}
    for got, wanted in zip(
        track_points(**{**arguments, **shared}), track_points(**{**arguments, **dense}), strict=True
    ):
        assert torch.equal(got, wanted)


@pytest.mark.parametrize("axis", ["batch", "tubelets", "frames", "points", "targets"])
def test_empty_axes(axis: str) -> None:
    arguments = draw(6, **{axis: 0})
    if axis == "frames":
        arguments = {
            **arguments,
            **{name: arguments[name][:, :0] for name in ("points", "point_frame", "frames")},
        }
    places, visibility, owner = track_points(**arguments)
    assert places.shape == (*visibility.shape, 2)
    if axis == "tubelets":
        x, y = arguments["points"][..., None, :].expand_as(places).unbind(-1)
        inside = (x >= 0) & (x < WIDTH) & (y >= 0) & (y < HEIGHT)
        inside &= (arguments["frames"] >= 0) & (arguments["frames"] < 5)
        assert owner.eq(-1).all()
        assert torch.equal(visibility, inside.float())
        assert torch.equal(places, torch.stack((x, y), -1))


def test_opcheck() -> None:
    for tubelets, targets in itertools.product((0, 2), (1, 3)):
        arguments = draw(7, tubelets=tubelets, targets=targets, points=9)
        torch.library.opcheck(torch.ops.tubeletx.track_points.default, tuple(arguments.values()))


def test_compiles_without_graph_breaks() -> None:
    tubelets = moving_square()

    def speed(centers: Tensor) -> Tensor:
        tubelets.centers = centers
        return tubelets.flow((4, 6)).displacement * 2

    expected = speed(tubelets.centers)
    compiled = torch.compile(speed, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(tubelets.centers.clone()), expected)
