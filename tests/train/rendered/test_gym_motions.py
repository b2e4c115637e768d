"""The poses of the gym set: what its classes differ in, and what they share."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from tubeletx_train.rendered.gym.classes import CLASSES, ELEMENTS, WAYS, Capture
from tubeletx_train.rendered.gym.motions import _HINGES, _TURNS, HINGES, TURNS, Cycle, Poses

MOTIONS = sorted({(capture.motion, capture.stretch) for element in ELEMENTS for capture in element.captures})


def _quaternions(rng, *shape):
    return Rotation.random(int(np.prod(shape)), rng).as_quat().reshape(*shape, 4)


@pytest.fixture
def folder(tmp_path):
    """Two made-up motions: `jump`, whose first frame is upright, and `tumble`."""
    rng = np.random.default_rng(0)
    for name, count in (("jump", 3), ("tumble", 9)):
        frames = rng.uniform(0.1, 1, (count, 44))
        for place in _TURNS.values():
            frames[:, place : place + 4] = _quaternions(rng, count)
        (tmp_path / f"humanoid3d_{name}.txt").write_text(json.dumps({"Frames": frames.tolist()}))
    return tmp_path


@pytest.fixture
def poses():
    rng = np.random.default_rng(1)
    return Poses(rng.uniform(0, 1, 5), _quaternions(rng, 5, len(TURNS)), rng.uniform(-1, 1, (5, len(HINGES))))


def same_turns(one, other):
    """Whether quaternions say the same turn, whatever their sign."""
    return np.allclose(np.abs((one * other).sum(-1)), 1, atol=1e-9)


def test_a_cycle_leads_from_upright_to_upright(folder):
    cycle = Cycle(folder, "tumble", (0.0, 1.0))
    upright = np.asarray(json.loads((folder / "humanoid3d_jump.txt").read_text())["Frames"])[0]
    ends = cycle.at(np.array([0.0, 1.0]))
    for end in range(2):
        assert ends.heights[end] == upright[2]
        for joint, place in enumerate(_TURNS.values()):
            w, x, y, z = upright[place : place + 4]
            assert same_turns(ends.turns[end, joint], np.array([x, y, z, w]))
        np.testing.assert_allclose(ends.hinges[end], upright[list(_HINGES.values())])


def test_between_two_frames_a_cycle_turns_evenly(folder):
    frames = np.asarray(json.loads((folder / "humanoid3d_tumble.txt").read_text())["Frames"])
    seconds = np.concatenate([[0], np.cumsum(frames[:-1, 0])])
    seconds /= seconds[-1]
    cycle = Cycle(folder, "tumble", (0.0, 1.0))
    phases = 0.12 + 0.76 * (0.75 * seconds[3] + 0.25 * seconds[4])
    found = cycle.at(np.array([phases])).turns[0, TURNS.index("neck")]
    first, second = (Rotation.from_quat(frames[k, [13, 14, 15, 12]]) for k in (3, 4))
    expected = first * Rotation.from_rotvec(0.25 * (first.inv() * second).as_rotvec())
    assert same_turns(found, expected.as_quat())


def test_a_cycle_plays_the_stretch_alone(folder):
    frames = np.asarray(json.loads((folder / "humanoid3d_tumble.txt").read_text())["Frames"])
    seconds = np.concatenate([[0], np.cumsum(frames[:-1, 0])])
    seconds /= seconds[-1]
    inside = np.flatnonzero((seconds >= 0.3) & (seconds <= 0.9))
    cycle = Cycle(folder, "tumble", (0.3, 0.9))
    np.testing.assert_allclose(cycle.at(np.array([0.12, 0.88])).heights, frames[inside[[0, -1]], 2])


def test_a_malformed_motion_is_refused(folder):
    (folder / "humanoid3d_odd.txt").write_text(json.dumps({"Frames": [[0.1] * 20] * 3}))
    with pytest.raises(ValueError, match=r"odd: got frames of shape \(3, 20\), needs \(N, 44\)"):
        Cycle(folder, "odd", (0.0, 1.0))


def test_the_mirror_image_reflects_every_turn_and_exchanges_the_sides(poses):
    mirrored = poses.mirrored()
    reflection = np.diag([1.0, 1.0, -1.0])
    for joint, name in enumerate(TURNS):
        other = name.replace("left", "L").replace("right", "left").replace("L", "right")
        turns = Rotation.from_quat(poses.turns[:, joint]).as_matrix()
        expected = Rotation.from_matrix(reflection @ turns @ reflection).as_quat()
        assert same_turns(mirrored.turns[:, TURNS.index(other)], expected)
    np.testing.assert_array_equal(mirrored.hinges, poses.hinges[:, [2, 3, 0, 1]])
    np.testing.assert_array_equal(mirrored.mirrored().turns, poses.turns)


def test_there_are_two_dozen_classes_or_more_in_pairs_that_differ_in_one_thing():
    names = [item.name for item in CLASSES]
    assert len(names) == len(set(names)) >= 24
    assert {name for pair in WAYS for name in pair} < set(names)
    steps = {item.name: item.steps for item in CLASSES}
    for one, other in WAYS:
        assert [(step.element, 1 - step.way) for step in steps[one]] == [
            (step.element, step.way) for step in steps[other]
        ]


def test_every_element_has_a_motion_that_is_never_trained_on():
    for element in ELEMENTS:
        trained, other = element.captures
        assert isinstance(trained, Capture)
        assert trained != other
