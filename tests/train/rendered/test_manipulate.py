"""The manipulate set: what its classes share, and how an action is recorded."""

from __future__ import annotations

import numpy as np
import pytest

from tubeletx_train.rendered.manipulate.actions import Action, _action
from tubeletx_train.rendered.manipulate.classes import CLASSES, OPPOSITES, THINGS
from tubeletx_train.rendered.manipulate.stage import progress

BY_NAME = {item.name: item for item in CLASSES}


def test_there_are_two_dozen_classes_or_more_that_open_and_close_push_and_pull():
    assert len(BY_NAME) == len(CLASSES) >= 24
    assert {"door_open", "drawer_close_open", "mug_push", "mug_pull", "faucet_open_close_open"} <= BY_NAME.keys()
    assert all(len({thing.captures[0].task, thing.captures[1].task}) == 2 for thing in THINGS)


@pytest.mark.parametrize(("one", "other"), OPPOSITES)
@pytest.mark.parametrize("num_frames", [15, 16])
def test_opposites_show_a_thing_at_the_same_places_in_the_opposite_order(one, other, num_frames):
    forwards, backwards = (progress(BY_NAME[name], (0.1, 0.9), num_frames) for name in (one, other))
    np.testing.assert_allclose(forwards, backwards[::-1], atol=1e-12)
    assert forwards.min() == pytest.approx(0.1)
    assert forwards.max() <= 0.9 + 1e-12


def test_every_class_of_a_thing_shows_about_the_same_places():
    """So that the mean of all frames says little: half of them lie on each side of the middle."""
    for item in CLASSES:
        shares = progress(item, (0.0, 1.0), 16)
        assert abs((shares < 0.5).sum() - 8) <= 1, item.name


def test_there_and_back_goes_there_and_back():
    np.testing.assert_allclose(progress(BY_NAME["door_open_close"], (0.0, 0.8), 5), [0, 0.4, 0.8, 0.4, 0])
    np.testing.assert_allclose(progress(BY_NAME["door_close_open"], (0.2, 1.0), 5), [1, 0.6, 0.2, 0.6, 1])


def test_an_action_is_what_happens_while_the_thing_moves():
    # The arm, in the first column, comes near, moves the thing in the second, waits, and moves it on.
    thing = np.array([0, 0, 0, 0.2, 0.6, 0.6, 0.6, 1.4, 2.0, 2.0])
    states = np.stack([np.arange(10.0), 5 + thing], axis=1)
    action = _action(states, [1])
    np.testing.assert_allclose(action.states[:, 0], [3, 4, 7])
    np.testing.assert_allclose(action.shares, (np.array([0.2, 0.6, 1.4]) - 0.2) / 1.2)


def test_a_thing_that_never_moves_makes_no_action():
    assert _action(np.stack([np.arange(5.0), np.ones(5)], axis=1), [1]) is None


def test_what_springs_back_counts_as_far_as_it_came():
    thing = np.concatenate([np.linspace(0, 1, 11), np.linspace(1, 0, 11)])
    action = _action(thing[:, None], [0])
    assert np.all(np.diff(action.states[:, 0]) > 0)


def test_states_between_recorded_ones_are_between_them():
    action = Action(np.array([0.0, 0.5, 1.0]), np.array([[0.0, 4.0], [1.0, 6.0], [3.0, 6.0]]))
    np.testing.assert_allclose(action.at(np.array([0.25, 1.0, 0.75])), [[0.5, 5.0], [3.0, 6.0], [2.0, 6.0]])
