"""What one frame, the mean frame and shuffled frames of the gym set tell: little of the class, nothing of the way."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tubeletx_train.evaluation.controls import IN_ORDER, read_out_controls
from tubeletx_train.evaluation.labelled import LabelledClips
from tubeletx_train.rendered.gym.classes import WAYS
from tubeletx_train.rendered.gym.gym import Gym

EACH = 24  # clips of a class, of which 16 are fitted on


@pytest.fixture(scope="module")
def controls():
    pytest.importorskip("pybullet", reason="pybullet renders the gym set")
    gym = Gym()
    drawn = [gym.draw(5, label, number) for label in range(len(gym.class_names)) for number in range(EACH)]
    with gym.open() as stage:
        clips = np.stack([stage.render(clip, 8, 32) for clip in drawn])
    videos = LabelledClips(
        origin="gym",
        clips=torch.from_numpy(clips).permute(0, 4, 1, 2, 3)[:, None],
        labels=torch.arange(len(gym.class_names)).repeat_interleave(EACH),
        groups=None,
        # Both tests count, as more of them say more; neither is trained on.
        splits=["train" if clip.split == "train" else "test" for clip in drawn],
        names=list(gym.class_names),
    )
    return read_out_controls(videos, WAYS)


@pytest.mark.parametrize("name", ["one frame", "middle frame", "mean frame", "shuffled frames"])
def test_frames_without_their_order_tell_little(controls, name):
    assert controls[name].linear <= 0.2


@pytest.mark.parametrize("name", ["one frame", "mean frame", "shuffled frames"])
def test_frames_without_their_order_do_not_tell_a_way(controls, name):
    right = np.mean(list(controls[name].pairs.values()))
    judged = len(WAYS) * 2 * EACH // 3
    assert abs(right - 0.5) < 4 * 0.5 / np.sqrt(judged)


def test_the_same_frames_in_order_tell_more(controls):
    order_free = [controls[name].linear for name in controls if name != IN_ORDER]
    assert controls[IN_ORDER].linear > max(order_free) + 0.05
