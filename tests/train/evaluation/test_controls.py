"""Controls: what tells labels without motion."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tubeletx_train.evaluation.controls import IN_ORDER, control_features, read_out_controls
from tubeletx_train.evaluation.labelled import LabelledClips

T, S = 6, 32
ORDER_FREE = ["one frame", "middle frame", "mean frame", "shuffled frames"]


def squares(count: int, seed: int, *, tinted: bool = False) -> LabelledClips:
    """Squares that move right or left over the same places; `tinted`, the way shows in each frame too."""
    rng = np.random.default_rng(seed)
    clips = np.full((count, 1, 3, T, S, S), 60, np.uint8)
    labels = rng.integers(0, 2, count)
    for index, label in enumerate(labels):
        top, first = rng.integers(2, S - 10), rng.integers(0, 4)
        for frame in range(T):
            left = first + 4 * (frame if label else T - 1 - frame)
            clips[index, 0, :, frame, top : top + 8, left : left + 8] = 160
        if tinted and label:
            clips[index, 0, :, :, :4, :4] = 240
    splits = ["train" if index < 2 * count // 3 else "test" for index in range(count)]
    return LabelledClips("squares", torch.from_numpy(clips), torch.from_numpy(labels), None, splits, ["left", "right"])


def test_only_the_frames_in_order_tell_a_way():
    readouts = read_out_controls(squares(600, 0), [("left", "right")])
    assert readouts[IN_ORDER].linear > 0.9
    for name in ("one frame", "mean frame", "shuffled frames"):
        assert abs(readouts[name].linear - 0.5) < 0.15, name  # four standard deviations of 200
        assert readouts[name].pairs["left / right"] == pytest.approx(readouts[name].linear)


def test_what_shows_in_every_frame_is_found():
    readouts = read_out_controls(squares(300, 1, tinted=True))
    assert min(readouts[name].linear for name in ORDER_FREE) > 0.95


def test_features_are_grey_levels_of_what_they_say():
    rng = np.random.default_rng(2)
    clips = rng.integers(0, 256, (5, 3, T, S, S), dtype=np.uint8)
    features = control_features(torch.from_numpy(clips), seed=3)
    grey = clips.astype(np.float64).mean(1) / 255
    fine = grey.reshape(5, T, 16, 2, 16, 2).mean((3, 5)).reshape(5, T, 256)
    coarse = grey.reshape(5, T, 8, 4, 8, 4).mean((3, 5)).reshape(5, T, 64)
    np.testing.assert_allclose(features["middle frame"], fine[:, T // 2], atol=1e-6)
    np.testing.assert_allclose(features["mean frame"], fine.mean(1), atol=1e-6)
    np.testing.assert_allclose(features[IN_ORDER], coarse.reshape(5, -1), atol=1e-6)
    for row in range(5):
        drawn = features["one frame"][row].numpy()
        assert min(np.abs(fine[row, frame] - drawn).max() for frame in range(T)) < 1e-6
        shuffled = features["shuffled frames"][row].numpy().reshape(T, 64)
        found = [int(np.abs(coarse[row] - frame).max(1).argmin()) for frame in shuffled]
        assert sorted(found) == list(range(T))
    again = control_features(torch.from_numpy(clips), seed=3)
    assert all(torch.equal(features[name], again[name]) for name in features)
    assert not torch.equal(control_features(torch.from_numpy(clips), seed=4)["one frame"], features["one frame"])
