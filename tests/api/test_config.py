import dataclasses
import math

import numpy as np
import pytest
import torch

from tubeletx import TubeletSampler
from tubeletx.config import TubeletConfig
from tubeletx.ops.sample_tubelets import setting_lengths

PRESETS = ("paper", "paper_equation", "released", "smile")


def by_name(config):
    flat = config.settings()
    named, start = {}, 0
    for name, length in setting_lengths().items():
        named[name] = flat[start : start + length]
        start += length
    assert start == len(flat)
    return named


def test_defaults_are_the_paper():
    config = TubeletConfig.preset("paper")
    assert config == TubeletConfig()
    assert (config.num_tubelets, config.num_points, config.sigma) == (2, 48, 6)
    assert config.transforms == ("rotation",)


@pytest.mark.parametrize(("name", "median"), [("paper", 54.5), ("paper_equation", 17.5)])
def test_how_far_paths_reach(name, median):
    sampler = TubeletSampler(TubeletConfig.preset(name))
    centers = sampler(torch.arange(20_000), num_frames=16, height=112, width=112).centers
    spans = centers[..., 0].amax(2) - centers[..., 0].amin(2)
    assert spans.median().item() == pytest.approx(median, abs=0.5)


def test_numbers_of_smile():
    config = TubeletConfig.preset("smile")
    released = TubeletConfig.preset("released")
    assert (config.num_tubelets, config.reference_size) == (2, 224)
    assert config.patch_scales == tuple(2 * scale for scale in released.patch_scales)
    assert config.patch_ratios == released.patch_ratios
    assert len(config.patch_ratios) == 7
    assert (config.patch_jitter, config.patch_source) == (0.18, "uniform")
    assert (config.motion, config.num_points, config.sigma, config.extent) == ("nonlinear", 48, 8, (40, 180))
    assert (config.velocity, config.inside) == (12, True)  # of motion="linear"
    assert (config.accumulate, config.scale_rate, config.rotation_rate) == (True, 0.025, 6)
    assert config.transforms == ("scale", "rotation")
    assert config.keyframe_probabilities == (0.5, 0.3, 0.2)
    assert config.easing_probabilities == (0.7, 0.15, 0.15)
    assert (config.shape_probabilities, config.soft_edge_probability) == ((1, 0, 0), 0)
    assert config.opacity_range == (1, 1)


@pytest.mark.parametrize("name", PRESETS)
def test_settings_carry_the_fields(name):
    config = TubeletConfig.preset(name, transforms=("shear",), velocity=3, extent=(10, 20), motion="linear")
    named = by_name(config)
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.name in named and isinstance(value, float | int):
            assert named[field.name] == [value]
    assert named["transforms"] == [0, 0, 1]
    assert named["motion"] == [1]
    assert named["extent"] == [10, 20]
    assert named["shape_probabilities"] == list(config.shape_probabilities)
    assert named["own_box"] == [config.patch_source == "own_box"]
    assert named["jittered_keyframes"] == [config.keyframe_placement == "jittered"]
    assert named["patch_scales"][: int(named["num_patch_scales"][0])] == list(config.patch_scales)
    assert named["patch_ratios"][: int(named["num_patch_ratios"][0])] == list(config.patch_ratios)


def test_every_setting_comes_from_a_field():
    made = {"num_patch_scales", "num_patch_ratios", "own_box", "jittered_keyframes"}
    fields = {field.name for field in dataclasses.fields(TubeletConfig)}
    assert set(setting_lengths()) - made == fields - {"patch_source", "keyframe_placement"}


def test_absent_extent_and_velocity():
    named = by_name(TubeletConfig(extent=None))
    assert named["extent"] == [0, 0]
    assert named["velocity"] == [0]


def test_lists_become_tuples():
    config = TubeletConfig(patch_sides=[8, 9], transforms=["scale"], patch_scales=[3.0])
    assert config == TubeletConfig(patch_sides=(8, 9), transforms=("scale",), patch_scales=(3.0,))
    assert hash(config) == hash(TubeletConfig(patch_sides=(8, 9), transforms=("scale",), patch_scales=(3.0,)))


def test_preset_overrides():
    config = TubeletConfig.preset("released", sigma=3, num_tubelets=5)
    assert (config.sigma, config.num_tubelets, config.patch_source) == (3, 5, "own_box")


def test_max_patch_size():
    assert TubeletConfig().max_patch_size(112, 112) == (64, 64)
    assert TubeletConfig().max_patch_size(224, 300) == (128, 128)
    assert TubeletConfig().max_patch_size(2, 2) == (1, 1)
    assert TubeletConfig(patch_sides=(100, 500)).max_patch_size(112, 150) == (112, 150)
    side = math.ceil(64 * math.sqrt(2) * math.exp(0.18))
    assert TubeletConfig.preset("released").max_patch_size(112, 112) == (side, side)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_tubelets", 0),
        ("num_tubelets", 2.0),
        ("num_tubelets", True),
        ("num_tubelets", 10**6),
        ("reference_size", 0),
        ("patch_sides", (0, 4)),
        ("patch_sides", (9, 4)),
        ("patch_sides", 16),
        ("patch_sides", (1, 2, 3)),
        ("patch_scales", tuple(range(9))),
        ("patch_scales", (-1,)),
        ("patch_ratios", ()),
        ("patch_ratios", (0,)),
        ("patch_jitter", -0.1),
        ("patch_jitter", math.nan),
        ("patch_source", "there"),
        ("shape_probabilities", (0.5, 0.5)),
        ("shape_probabilities", (0.5, 0.5, 0.5)),
        ("shape_probabilities", (1.5, -0.5, 0)),
        ("soft_edge_probability", 1.1),
        ("edge_range", (0.1, 2)),
        ("opacity_range", (0.9, 0.8)),
        ("motion", "wobbly"),
        ("motion", None),
        ("num_points", 0),
        ("num_points", 5000),
        ("sigma", -1),
        ("sigma", math.inf),
        ("sigma", "6"),
        ("extent", (0, 0)),
        ("extent", (90, 20)),
        ("displacement", (-1, 4)),
        ("velocity", 0),
        ("inside", 1),
        ("keyframe_probabilities", (1, 1, 1)),
        ("keyframe_placement", "anywhere"),
        ("shared_keyframes", "yes"),
        ("easing_probabilities", (math.nan, 0, 1)),
        ("transforms", "scale"),
        ("transforms", ("scale", "flip")),
        ("accumulate", None),
        ("scale_range", (0, 1)),
        ("rotation_range", (90, -90)),
        ("shear_range", (1, -1)),
        ("scale_rate", -1),
        ("rotation_rate", 1e9),
        ("shear_rate", -0.1),
        ("shear_axis_probabilities", (0, 0, 0)),
    ],
)
def test_refuses(field, value):
    with pytest.raises(ValueError, match=rf"^{field}: "):
        TubeletConfig(**{field: value})


def test_refuses_unknown_presets_and_fields():
    with pytest.raises(ValueError, match=r"^preset: got 'papers'"):
        TubeletConfig.preset("papers")
    with pytest.raises(ValueError, match=r"^sigmas: "):
        TubeletConfig.preset("paper", sigmas=3)


def test_numbers_of_numpy_become_pythons_own():
    config = TubeletConfig(
        num_tubelets=np.int64(3),
        sigma=np.float32(2),
        patch_sides=np.array([8, 16]),
        inside=np.bool_(True),
        transforms=np.array(["scale"]),
        velocity=np.array(4.0),
    )
    plain = TubeletConfig(
        num_tubelets=3, sigma=2, patch_sides=(8, 16), inside=True, transforms=("scale",), velocity=4.0
    )
    assert config == plain
    assert repr(config).replace("2.0", "2") == repr(plain)


def test_refuses_what_is_no_name_of_a_preset():
    for name in (["paper"], None, 3):
        with pytest.raises(ValueError, match=r"^preset: got"):
            TubeletConfig.preset(name)
