"""Dead leaves against NumPy in float64, their law against its closed form, and that nothing else changes a clip."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from reference import draw_leaves as reference
from tubeletx.ops import draw_leaves

STILL: dict[str, float] = {"motion": 0, "camera": 0, "turn": 0, "growth": 0}


def same_clip(first: Tensor, second: Tensor) -> Tensor:
    """Where the pixels of two clips agree; (B, T, H, W)."""
    return (first == second).all(1)


@pytest.mark.parametrize(
    ("seed", "changes"),
    [
        (0, {}),
        (2**63 + 5, {"num_frames": 1, "height": 51, "width": 33}),
        (-3, {"num_leaves": 0, "camera": 1.0}),
        (7, {"num_leaves": 1, "radius": (0.5, 0.5)}),
        (8, {"radius": (0.01, 1.5), "turn": 720.0, "growth": 1.0}),
        (9, {"num_frames": 5, "motion": 2.0, "height": 12, "width": 90}),
    ],
    ids=str,
)
def test_equals_the_reference(seed: int, changes: dict[str, Any]) -> None:
    arguments: dict[str, Any] = {
        "num_frames": 3,
        "height": 40,
        "width": 56,
        "seed": seed,
        "epoch": 4,
        "num_leaves": 60,
        "radius": (0.04, 0.4),
        "motion": 0.25,
        "camera": 0.1,
        "turn": 90.0,
        "growth": 0.3,
        **changes,
    }
    ids = [0, -5, 2**40 + 3]
    clips = draw_leaves(torch.tensor(ids), **arguments)
    assert clips.is_contiguous(memory_format=torch.channels_last_3d)
    assert clips.dtype == torch.uint8
    for clip, sample_id in zip(clips, ids, strict=True):
        expected = reference.draw_leaves(sample_id, **arguments)
        assert expected.clear.mean() > 0.95
        error = np.abs(clip.permute(1, 2, 3, 0).numpy() - expected.clip)[expected.clear]
        assert error.max() < 12  # noise in bytes and places in 2^-16 of a cell, up to four times as strong
        assert error.mean() < 1.5


def test_the_sizes_follow_their_power_law() -> None:
    """Areas of single leaves in the middle of the frame, where none is cut off, against the distribution's formula."""
    side, smallest, largest = 160, 4.0, 25.0
    arguments = {"num_frames": 1, "height": side, "width": side, **STILL}
    arguments["radius"] = (smallest / side, largest / side)
    ids = torch.arange(4000)
    bare = draw_leaves(ids, num_leaves=0, **arguments)
    leaf = ~same_clip(draw_leaves(ids, num_leaves=1, **arguments), bare)[:, 0]
    areas = leaf.sum((1, 2))
    place = torch.arange(side) + 0.5
    center_x, center_y = ((leaf.sum(axis) * place).sum(1) / areas for axis in (1, 2))
    margin = 46  # no leaf reaches farther from its centre
    middle = ((torch.stack((center_x, center_y)) - side / 2).abs() < side / 2 - margin).all(0)
    areas = np.sort(areas[middle].numpy())
    assert len(areas) > 350

    def share_below(area: np.ndarray) -> np.ndarray:
        """Half sides of a radius times and over a ratio: 4, pi or 2 squares of the radius, with the same chance."""
        most, least = smallest**-2, largest**-2
        shares = [(most - factor / area) / (most - least) for factor in (4, np.pi, 2)]
        return np.mean(np.clip(shares, 0, 1), axis=0)

    ranks = (np.arange(len(areas)) + 0.5) / len(areas)
    distance = np.abs(share_below(areas) - ranks).max()
    assert distance < 1.63 / len(areas) ** 0.5  # Kolmogorov and Smirnov's bound at 1 %


def test_places_are_uniform_and_colours_wide() -> None:
    arguments = {"num_frames": 1, "height": 64, "width": 64, **STILL}
    ids = torch.arange(3000)
    bare = draw_leaves(ids, num_leaves=0, **arguments)
    covered = ~same_clip(draw_leaves(ids, num_leaves=1, radius=(0.05, 0.1), **arguments), bare)[:, 0]
    rate = covered.float().mean(0).reshape(8, 8, 8, 8).mean((1, 3))  # in 8 x 8 parts of the frame
    assert rate.std() / rate.mean() < 0.25
    clips = draw_leaves(ids[:200], **{**arguments, "num_leaves": 100})
    assert 90 < clips.float().mean() < 165
    assert clips.float().mean((2, 3, 4)).std(0).min() > 15  # every clip has a palette of its own
    assert clips.amin() < 10
    assert clips.amax() > 245


def test_leaves_move_unless_told_not_to() -> None:
    ids, size = torch.arange(4), {"num_frames": 5, "height": 32, "width": 40}
    still = draw_leaves(ids, **size, **STILL)
    assert torch.equal(still[:, :, :1].expand_as(still), still)
    for name, value in (("motion", 0.5), ("camera", 0.3), ("turn", 60.0), ("growth", 0.5)):
        moving = draw_leaves(ids, **size, **{**STILL, name: value}).float()
        steps = (moving[:, :, 1:] - moving[:, :, :-1]).abs().mean((1, 2, 3, 4))
        whole = (moving[:, :, -1] - moving[:, :, 0]).abs().mean((1, 2, 3))
        assert (steps > 0.1).all(), name
        assert (whole > steps).all(), name  # the path goes on
    # Nothing but a camera moves the backdrop.
    bare = draw_leaves(ids, num_leaves=0, **size, **{**STILL, "motion": 1.0, "turn": 90.0, "growth": 1.0})
    assert torch.equal(bare[:, :, :1].expand_as(bare), bare)


def test_a_clip_is_a_function_of_its_own_numbers() -> None:
    size = {"num_frames": 3, "height": 30, "width": 41, "num_leaves": 80}
    batch = draw_leaves(torch.tensor([3, -7, 3, 2**50]), seed=5, epoch=2, **size)
    assert torch.equal(batch[0], batch[2])
    threads = torch.get_num_threads()
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            alone = draw_leaves(torch.tensor([9, 2**50, -7])[1:], seed=5, epoch=torch.tensor(2), **size)
            assert torch.equal(alone, batch[[3, 1]])
    finally:
        torch.set_num_threads(threads)
    for other in ({"seed": 6, "epoch": 2}, {"seed": 5, "epoch": 3}):
        changed = draw_leaves(torch.tensor([3]), **other, **size)
        assert same_clip(changed, batch[:1]).float().mean() < 0.05
    assert torch.equal(
        draw_leaves(torch.tensor([1]), seed=-1, **size), draw_leaves(torch.tensor([1]), seed=2**64 - 1, **size)
    )


def test_more_leaves_lie_behind() -> None:
    ids, size = torch.arange(5), {"num_frames": 2, "height": 40, "width": 40}
    none, some, many = (draw_leaves(ids, num_leaves=count, **size) for count in (0, 50, 400))
    assert (same_clip(some, many) | same_clip(some, none)).all()
    assert same_clip(some, none).float().mean() > same_clip(many, none).float().mean()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_frames": 0}, r"^num_frames: got 0, needs a positive"),
        ({"height": -1}, r"^height: got -1, needs a positive"),
        ({"width": 1 << 25}, r"^width: got 33554432, needs at most"),
        ({"num_leaves": -1}, r"^num_leaves: got -1, needs an integer from 0 to 32768"),
        ({"num_leaves": 32769}, r"^num_leaves: got 32769, needs"),
        ({"radius": (0.1,)}, r"^radius: got 1 numbers, needs the smallest and the largest"),
        ({"radius": (0.2, 0.1)}, r"^radius: got \(0.2, 0.1\), needs 0 < smallest"),
        ({"radius": (0.0, 0.1)}, r"^radius: got \(0, 0.1\), needs 0 < smallest"),
        ({"radius": (0.1, float("nan"))}, r"^radius: got \(0.1, nan\), needs"),
        ({"motion": -0.1}, r"^motion: got -0.1, needs a number from 0 to 4"),
        ({"camera": 5.0}, r"^camera: got 5, needs a number from 0 to 4"),
        ({"turn": float("inf")}, r"^turn: got inf, needs a number from 0 to 3600"),
        ({"growth": float("nan")}, r"^growth: got nan, needs a number from 0 to 4"),
        ({"epoch": -1}, r"^epoch: got -1, needs an integer in \[0, 2\^32\)"),
        ({"epoch": torch.tensor([1, 2])}, r"^epoch: got shape \(2,\), needs one element"),
    ],
    ids=str,
)
def test_wrong_numbers_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        draw_leaves(torch.arange(2), **{"num_frames": 2, "height": 8, "width": 8, **changes})


def test_extremes() -> None:
    """The most leaves, the widest growth and motion, a frame of one pixel, an empty batch."""
    ids = torch.arange(2)
    many = draw_leaves(ids, num_frames=1, height=16, width=16, num_leaves=1 << 15, radius=(0.001, 4))
    assert many.float().std() > 1
    wild = {"motion": 4.0, "camera": 4.0, "turn": 3600.0, "growth": 4.0, "radius": (0.01, 4.0)}
    assert draw_leaves(ids, num_frames=9, height=20, width=30, num_leaves=40, **wild).float().std() > 1
    assert draw_leaves(ids, num_frames=1, height=1, width=1).shape == (2, 3, 1, 1, 1)
    assert draw_leaves(ids[:0], num_frames=2, height=4, width=5).shape == (0, 3, 2, 4, 5)


def test_opcheck() -> None:
    for count in (0, 2):
        arguments = (torch.arange(count), 1, 0, 2, 9, 7, 12, [0.05, 0.4], 0.2, 0.1, 90.0, 0.3, torch.tensor(3))
        torch.library.opcheck(torch.ops.tubeletx.draw_leaves.default, arguments)
