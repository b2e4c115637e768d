"""The pictures of the gym set."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tubeletx_train.rendered.gym.backdrop import RADIUS, Backdrop, View, texture
from tubeletx_train.rendered.gym.classes import CLASSES, WAYS
from tubeletx_train.rendered.gym.draw import Distractor, Light, Surface, draw_clip
from tubeletx_train.rendered.gym.figure import Figure
from tubeletx_train.rendered.gym.stage import Stage

NAMES = [item.name for item in CLASSES]
LIGHT = Light((0.0, 1.0, 0.0), ambient=0.6, diffuse=0.3, walls=1.0)


@pytest.fixture(scope="module")
def figure():
    pytest.importorskip("pybullet", reason="pybullet renders the gym set")
    with Figure() as figure:
        yield figure


@pytest.fixture(scope="module")
def stage():
    pytest.importorskip("pybullet", reason="pybullet renders the gym set")
    with Stage() as stage:
        yield stage


def surface(pattern, seed=0):
    return Surface(pattern, ((0.9, 0.2, 0.1), (0.1, 0.3, 0.8)), 1.7, seed)


def test_a_ray_meets_what_the_renderer_shows(figure):
    """The backdrop's camera is the figure's: a ball is seen where the rays through its pixels lead to it."""
    rng = np.random.default_rng(0)
    size = 96
    for _ in range(8):
        azimuth, place = rng.uniform(-180, 180), rng.uniform(-0.8, 0.8, 2)
        target = np.array([0, 0.5, 0]) + rng.uniform(-0.2, 0.2, 3)
        eye = target + 3 * np.array([np.sin(np.radians(azimuth)), rng.uniform(0, 0.4), np.cos(np.radians(azimuth))])
        view = View(eye, target, 50.0)
        figure.place([], 0)
        _, before = figure.draw(view, LIGHT, size)
        figure.place([Distractor("ball", (1, 0, 0), (tuple(place), tuple(place)))], 0)
        colors, after = figure.draw(view, LIGHT, size)
        ball = after & (colors[..., 0] > 2.0 * colors[..., 1]) & (colors[..., 0] > 60)
        if (ball & ~before).sum() < 30:
            continue  # behind the figure or out of sight
        center = np.array([place[0], 0.22, place[1]])
        rays = view.rays(size)[ball & ~before]
        rays /= np.linalg.norm(rays, axis=1, keepdims=True)
        away = center - eye
        missed = np.linalg.norm(away - (rays @ away)[:, None] * rays, axis=1)
        assert missed.max() < 0.22 + 0.05  # its radius and about a pixel


def test_the_backdrop_is_the_pattern_where_each_ray_ends():
    floor, wall = surface("clouds", 1), surface("checker")
    view = View(np.array([0.4, 1.3, 2.6]), np.array([0.1, 0.8, 0.0]), 40.0)
    size = 17
    drawn = Backdrop.of(floor, wall).draw(view, size)
    textures = texture(floor), texture(wall)
    checked = {"floor": 0, "wall": 0}
    for (row, column), _ in np.ndenumerate(drawn[..., 0]):
        ray = view.rays(size)[row, column]
        # March to where the room ends.
        far = np.linspace(0, 12, 120001)[:, None]
        places = view.eye + far * ray
        outside = (places[:, 1] <= 0) | (np.hypot(places[:, 0], places[:, 2]) >= RADIUS)
        x, y, z = places[outside.argmax()]
        on_floor = y < 1e-3
        first, second = (z, x) if on_floor else (y, np.arctan2(x, -z) * RADIUS)
        # The pattern is read between the middles of four texels.
        u, v = (np.array([first, second]) * 128 / 1.7).tolist()
        i, j = int(np.floor(u)), int(np.floor(v))
        pattern = textures[0 if on_floor else 1]
        corners = [pattern[(i + di) % 128, (j + dj) % 128] for di in (0, 1) for dj in (0, 1)]
        low, high = np.min(corners, 0), np.max(corners, 0)
        shade = 1 - 0.45 * np.exp(-(x**2 + z**2) / (2 * 0.35**2)) if on_floor else 1.0
        edge = 0.08  # of where the march stops
        assert (drawn[row, column] >= shade * low - edge).all()
        assert (drawn[row, column] <= shade * high + edge).all()
        checked["floor" if on_floor else "wall"] += 1
    assert min(checked.values()) > 20


@pytest.mark.parametrize("pattern", ["plain", "checker", "stripes", "clouds"])
def test_a_pattern_holds_its_two_colours_and_continues_at_its_borders(pattern):
    colors = texture(surface(pattern))
    assert colors.min() >= 0.1 - 1e-9
    assert colors.max() <= 0.9 + 1e-9
    np.testing.assert_array_equal(colors, texture(surface(pattern)))
    if pattern == "clouds":
        steps = np.abs(np.diff(colors, axis=0)).max()
        assert np.abs(colors[0] - colors[-1]).max() <= 1.5 * steps


@pytest.mark.parametrize(("one", "other"), WAYS)
@pytest.mark.parametrize("capture", [0, 1])
def test_the_two_ways_show_the_same_poses_in_the_opposite_order(stage, one, other, capture):
    """Why no set of frames without their order tells them apart, whatever looks at it."""
    drawn = dataclasses.replace(draw_clip(0, NAMES.index(one), 0), capture=capture, begins=0.1, lasts=0.7)
    opposite = dataclasses.replace(drawn, gym_class=CLASSES[NAMES.index(other)], begins=1 - 0.1 - 0.7)
    first, _ = stage.poses(drawn, 15)
    second, _ = stage.poses(opposite, 15)
    np.testing.assert_allclose(first.heights, second.heights[::-1], atol=1e-9)
    np.testing.assert_allclose(first.hinges, second.hinges[::-1], atol=1e-9)
    np.testing.assert_allclose(np.abs((first.turns * second.turns[::-1]).sum(-1)), 1, atol=1e-9)


def test_the_figure_stays_upright_before_and_after_whatever_it_does(stage):
    rest = []
    for label in range(len(CLASSES)):
        clip = dataclasses.replace(draw_clip(0, label, 0), capture=0, begins=0.2, lasts=0.6)
        poses, _ = stage.poses(clip, 21)
        rest += [poses.turns[0], poses.turns[4], poses.turns[16], poses.turns[-1]]
    np.testing.assert_allclose(np.abs((np.stack(rest) * rest[0]).sum(-1)), 1, atol=1e-9)


def test_the_mirrored_figure_is_the_mirrored_picture(figure, stage):
    """Seen from ahead, left and right exchanged in the pose exchange them in the picture."""
    clip = dataclasses.replace(draw_clip(3, NAMES.index("cartwheel_left_1"), 0), capture=0, begins=0.0, lasts=1.0)
    poses, _ = stage.poses(clip, 9)
    figure.dress((1, 1, 1), (1, 1, 1), (1, 1, 1))
    figure.place([], 0)
    view = View(np.array([3.0, 0.9, 0.0]), np.array([0.0, 0.9, 0.0]), 45.0)
    for frame in range(9):
        figure.pose(poses, frame, 0.0)
        _, shown = figure.draw(view, LIGHT, 96)
        figure.pose(poses.mirrored(), frame, 0.0)
        _, seen = figure.draw(view, LIGHT, 96)
        # The renderer looks at a pixel's corner, which the mirror image has on its other side.
        mirrored = np.roll(seen[:, ::-1], 1, axis=1)
        assert (shown & mirrored).sum() / (shown | mirrored).sum() > 0.97


def test_a_heading_turns_the_figure_to_its_left(figure, stage):
    """Turned by 90 degrees it looks from ahead, x, as it did from its right, z, before."""
    poses, _ = stage.poses(draw_clip(0, 0, 0), 4)
    figure.place([], 0)
    views = [View(np.array(eye), np.array([0.0, 0.9, 0.0]), 45.0) for eye in ([0.0, 0.9, 3.0], [3.0, 0.9, 0.0])]
    figure.pose(poses, 2, 0.0)
    _, from_right = figure.draw(views[0], LIGHT, 64)
    figure.pose(poses, 2, 90.0)
    _, from_ahead = figure.draw(views[1], LIGHT, 64)
    assert (from_right & from_ahead).sum() / (from_right | from_ahead).sum() > 0.95


def test_a_clip_depends_on_nothing_rendered_before_it(stage):
    clip, other = draw_clip(0, 5, 3), draw_clip(1, 11, 2)
    first = stage.render(clip, 4, 24)
    stage.render(other, 4, 24)
    np.testing.assert_array_equal(stage.render(clip, 4, 24), first)
    assert first.shape == (4, 24, 24, 3)
    assert first.dtype == np.uint8
    assert np.abs(np.diff(first.astype(int), axis=0)).max() > 20
