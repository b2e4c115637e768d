"""What clips of the rendered sets are drawn from."""

from __future__ import annotations

import colorsys

import pytest

from tubeletx_train.rendered.gym.draw import draw_clip as draw_gym
from tubeletx_train.rendered.manipulate.draw import draw_clip as draw_manipulate
from tubeletx_train.rendered.splits import split_of

DRAWS = pytest.mark.parametrize("draw", [draw_gym, draw_manipulate], ids=["gym", "manipulate"])


@DRAWS
def test_a_clip_is_a_function_of_seed_class_and_number(draw):
    assert draw(3, 4, 5) == draw(3, 4, 5)
    others = [draw(4, 4, 5), draw(3, 5, 5), draw(3, 4, 11)]
    assert all(draw(3, 4, 5) != other for other in others)


@DRAWS
def test_of_six_clips_four_are_trained_on(draw):
    splits = [draw(0, 1, number).split for number in range(12)]
    assert splits == [split_of(number) for number in range(12)]
    assert [splits.count(name) for name in ("train", "test", "test_other_motion")] == [8, 2, 2]


@DRAWS
def test_what_is_tested_by_is_never_trained_on(draw):
    clips = [draw(0, label, number) for label in range(24) for number in range(12)]
    trained, tested = ([clip for clip in clips if (clip.split == "train") == own] for own in (True, False))
    assert not {clip.group for clip in trained} & {clip.group for clip in tested}
    assert {clip.capture for clip in clips if clip.split != "test_other_motion"} == {0}
    assert {clip.capture for clip in clips if clip.split == "test_other_motion"} == {1}
    if draw is draw_gym:
        assert not {clip.lasts for clip in trained} & {clip.lasts for clip in tested}
        hues = [[colorsys.rgb_to_hsv(*clip.shirt)[0] for clip in part] for part in (trained, tested)]
        assert not any(0.235 < hue < 0.345 or 0.595 < hue < 0.705 for hue in hues[0])
        assert all(0.235 < hue < 0.345 or 0.595 < hue < 0.705 or 0.935 < hue < 0.985 for hue in hues[1])
    else:
        assert not {clip.place for clip in trained} & {clip.place for clip in tested}


def test_the_action_lies_within_the_clip():
    for number in range(200):
        clip = draw_gym(0, number % 24, number)
        assert clip.begins >= 0
        assert clip.begins + clip.lasts <= 1 + 1e-12
        moved = draw_manipulate(0, number % 24, number)
        assert 0 <= moved.stretch[0] < moved.stretch[1] <= 1
