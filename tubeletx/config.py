"""Every knob of the tubelet sampler, and the presets."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Literal, get_args

from tubeletx._settings import (
    check_choice,
    check_flag,
    check_integer,
    check_number,
    check_numbers,
    check_probabilities,
    check_range,
    check_transforms,
    make_plain,
)
from tubeletx.ops.sample_tubelets import setting_lengths

__all__ = ["TubeletConfig"]

PatchSource = Literal["uniform", "own_box"]
Motion = Literal["static", "linear", "nonlinear"]
KeyframePlacement = Literal["uniform", "jittered"]
Transform = Literal["scale", "rotation", "shear"]
Pair = tuple[float, float]
Triple = tuple[float, float, float]

_MAX_GRID = 8
_MAX_LENGTH = 1e6
_PATCH_SOURCES: tuple[str, ...] = get_args(PatchSource)
_MOTIONS: tuple[str, ...] = get_args(Motion)
_PLACEMENTS: tuple[str, ...] = get_args(KeyframePlacement)
_TRANSFORMS: tuple[str, ...] = get_args(Transform)


@dataclasses.dataclass(frozen=True)
class TubeletConfig:
    """The law that tubelets are drawn from; the defaults are the preset `paper`: section 4.1, but for `extent`.

    Lengths are pixels of a frame whose shorter side is `reference_size`; they scale with the frame. A range (a, b) is
    uniform. Keyframes always hold the first and the last frame.

    Attributes:
        num_tubelets: M, tubelets in a clip (Eq. 4).
        reference_size: Shorter frame side, in pixels, that lengths refer to.
        patch_sides: Smallest and largest side; width and height are independent, uniform integers. Unused where
            `patch_scales` are given.
        patch_scales: Up to 8 scales s, drawn uniformly with a ratio r: the patch is s sqrt(r) wide, s / sqrt(r) high.
        patch_ratios: Up to 8 ratios of width to height.
        patch_jitter: j, with which both sides of a patch by scale and ratio are multiplied by exp(U(-j, j)).
        patch_source: Where in clip 1 the patch is cropped from: "uniform" in a uniform frame, or "own_box", where the
            tubelet itself will be in a uniform frame, shifted into the frame.
        shape_probabilities: Of rectangle, ellipse, rhombus.
        soft_edge_probability: Of a soft edge; the others are hard.
        edge_range: Width of a soft edge, in units of the half size of the patch.
        opacity_range: Opacity at the keyframes, linear in between; (1, 1) is a hard paste.
        motion: "static", "linear" (Eq. 5) or "nonlinear" (Eq. 6).
        num_points: N, random points of a non-linear path, up to 1024.
        sigma: Standard deviation of the Gaussian that smooths them, in points.
        extent: Side of the square that a non-linear path exactly fills before it is down-sampled. The paper has no such
            step; the released code has, and the default is its. None leaves Eq. 6 as it stands: at 112 pixels a path
            then spans 17.5 pixels along x in the median, not 54.5.
        displacement: Delta, the farthest that neighbouring keyframes of a linear path may lie apart on either axis,
            drawn for each tubelet.
        velocity: If given, pixels a frame: replaces `displacement` by this times the frames between the keyframes.
        inside: Whether static and linear motion keep the untransformed patch wholly inside the frame; otherwise only
            its centre.
        keyframe_probabilities: Of two, three, four keyframes.
        keyframe_placement: "uniform" over the inner frames, or "jittered" about equal spacing by up to a third of it.
        shared_keyframes: Whether the tubelets of a sample share their keyframes (and which axes shear).
        easing_probabilities: Of constant speed, acceleration from rest, deceleration to rest, between two keyframes.
        transforms: Any of "scale", "rotation", "shear". Each is the identity in the first frame.
        accumulate: False: values at the keyframes are independent, in `*_range` (Eq. 7). True: from keyframe to
            keyframe they change by up to `*_rate` times the frames between, uniformly.
        scale_range: Factor, drawn for width and height apart.
        rotation_range: Degrees, clockwise on the screen.
        shear_range: Shear factor, drawn for x and y apart; x shears first.
        scale_rate: Of the logarithm of the factor, a frame.
        rotation_rate: Degrees a frame.
        shear_rate: A frame.
        shear_axis_probabilities: Of shear along both axes, x only, y only.
    """

    num_tubelets: int = 2
    reference_size: float = 112
    patch_sides: Pair = (16, 64)
    patch_scales: tuple[float, ...] = ()
    patch_ratios: tuple[float, ...] = (1,)
    patch_jitter: float = 0
    patch_source: PatchSource = "uniform"
    shape_probabilities: Triple = (0.5, 0.35, 0.15)
    soft_edge_probability: float = 0
    edge_range: Pair = (0.1, 0.4)
    opacity_range: Pair = (1, 1)
    motion: Motion = "nonlinear"
    num_points: int = 48
    sigma: float = 6
    extent: Pair | None = (20, 90)
    displacement: Pair = (40, 80)
    velocity: float | None = None
    inside: bool = False
    keyframe_probabilities: Triple = (0, 1, 0)
    keyframe_placement: KeyframePlacement = "uniform"
    shared_keyframes: bool = False
    easing_probabilities: Triple = (1, 0, 0)
    transforms: tuple[Transform, ...] = ("rotation",)
    accumulate: bool = False
    scale_range: Pair = (0.5, 1.5)
    rotation_range: Pair = (-90, 90)
    shear_range: Pair = (-1, 1)
    scale_rate: float = 0.025
    rotation_rate: float = 6
    shear_rate: float = 0.066
    shear_axis_probabilities: Triple = (1, 0, 0)

    def __post_init__(self) -> None:
        make_plain(self)
        check_integer("num_tubelets", self.num_tubelets, 1, 4096)
        check_number("reference_size", self.reference_size, 1, _MAX_LENGTH)
        check_range("patch_sides", self.patch_sides, 1, _MAX_LENGTH)
        check_numbers("patch_scales", self.patch_scales, 0, _MAX_GRID, 1, _MAX_LENGTH)
        check_numbers("patch_ratios", self.patch_ratios, 1, _MAX_GRID, 1e-3, 1e3)
        check_number("patch_jitter", self.patch_jitter, 0, 10)
        check_choice("patch_source", self.patch_source, _PATCH_SOURCES)
        check_probabilities("shape_probabilities", self.shape_probabilities)
        check_number("soft_edge_probability", self.soft_edge_probability, 0, 1)
        check_range("edge_range", self.edge_range, 0, 1)
        check_range("opacity_range", self.opacity_range, 0, 1)
        check_choice("motion", self.motion, _MOTIONS)
        check_integer("num_points", self.num_points, 1, 1024)
        check_number("sigma", self.sigma, 0, 1024)
        if self.extent is not None:
            check_range("extent", self.extent, 0, _MAX_LENGTH)
            if self.extent[1] == 0:
                raise ValueError("extent: got (0, 0), needs a positive size; use motion='static' for a still tubelet")
        check_range("displacement", self.displacement, 0, _MAX_LENGTH)
        if self.velocity is not None:
            check_number("velocity", self.velocity, 1e-6, _MAX_LENGTH)
        for name in ("inside", "shared_keyframes", "accumulate"):
            check_flag(name, getattr(self, name))
        check_probabilities("keyframe_probabilities", self.keyframe_probabilities)
        check_choice("keyframe_placement", self.keyframe_placement, _PLACEMENTS)
        check_probabilities("easing_probabilities", self.easing_probabilities)
        check_transforms("transforms", self.transforms, _TRANSFORMS)
        check_range("scale_range", self.scale_range, 1e-3, 1e3)
        check_range("rotation_range", self.rotation_range, -1e6, 1e6)
        check_range("shear_range", self.shear_range, -1e3, 1e3)
        check_number("scale_rate", self.scale_rate, 0, 10)
        check_number("rotation_rate", self.rotation_rate, 0, 1e3)
        check_number("shear_rate", self.shear_rate, 0, 10)
        check_probabilities("shear_axis_probabilities", self.shear_axis_probabilities)

    @classmethod
    def preset(cls, name: str, **overrides: Any) -> TubeletConfig:
        """A named law, with fields replaced.

        Args:
            name: "paper": section 4.1 and appendix D, non-linear motion and rotation, with one step that is not the
                paper's but the released code's: a path is rescaled to an extent of its own. "paper_equation": the same
                without that step, Eq. 6 as it is printed. "released": what the authors' code draws, which differs from
                the paper in patch sizes, patch source, soft edges, opacity, sigma, keyframes, easing and accumulation.
                "smile": the motion augmentation of SMILE (CVPR 2025), for 224 pixels.
            **overrides: Fields of the config.

        Raises:
            ValueError: There is no such preset or field, or a field's value is out of range.
        """
        if not isinstance(name, str) or name not in _PRESETS:
            raise ValueError(f"preset: got {name!r}, needs one of {tuple(_PRESETS)}")
        unknown = set(overrides) - {field.name for field in dataclasses.fields(cls)}
        if unknown:
            raise ValueError(f"{', '.join(sorted(unknown))}: not a field of {cls.__name__}")
        return cls(**{**_PRESETS[name], **overrides})

    def settings(self) -> list[float]:
        """The list of settings that `tubeletx.ops.sample_tubelets` takes."""
        values: dict[str, float | Sequence[float]] = {
            field.name: value
            for field in dataclasses.fields(self)
            if isinstance(value := getattr(self, field.name), int | float | tuple)
        }
        values |= {
            "num_patch_scales": len(self.patch_scales),
            "patch_scales": _padded(self.patch_scales, _MAX_GRID),
            "num_patch_ratios": len(self.patch_ratios),
            "patch_ratios": _padded(self.patch_ratios, _MAX_GRID),
            "own_box": self.patch_source == "own_box",
            "motion": _MOTIONS.index(self.motion),
            "extent": self.extent or (0, 0),
            "velocity": self.velocity or 0,
            "jittered_keyframes": self.keyframe_placement == "jittered",
            "transforms": [transform in self.transforms for transform in _TRANSFORMS],
        }
        flat: list[float] = []
        for name, length in setting_lengths().items():
            value = values[name]
            numbers = value if isinstance(value, Sequence) else (value,)
            if len(numbers) != length:
                raise RuntimeError(f"setting {name}: got {len(numbers)} numbers, the compiled sampler takes {length}")
            flat.extend(map(float, numbers))
        return flat

    def max_patch_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width that hold every patch drawn for frames of this size, known without drawing any."""
        unit = min(height, width) / self.reference_size
        if not self.patch_scales:
            side = max(1, math.floor(self.patch_sides[1] * unit + 0.5))
            return min(side, height), min(side, width)
        largest = max(self.patch_scales) * unit * math.exp(self.patch_jitter)
        # Rounding up leaves room for the difference between this float arithmetic and the sampler's.
        widest = math.ceil(largest * math.sqrt(max(self.patch_ratios)))
        highest = math.ceil(largest / math.sqrt(min(self.patch_ratios)))
        return max(1, min(highest, height)), max(1, min(widest, width))


_RELEASED: dict[str, Any] = {
    "patch_scales": (16, 24, 28, 32, 48, 64),
    "patch_ratios": (0.5, 0.67, 0.75, 1, 1.33, 1.5, 2),
    "patch_jitter": 0.18,
    "patch_source": "own_box",
    "soft_edge_probability": 0.5,
    "edge_range": (0.1, 0.4),
    "opacity_range": (0.8, 1),
    "sigma": 8,
    "velocity": 5,
    "inside": True,
    "keyframe_probabilities": (0.5, 0.3, 0.2),
    "keyframe_placement": "jittered",
    "shared_keyframes": True,
    "easing_probabilities": (0.7, 0.15, 0.15),
    "accumulate": True,
    "scale_rate": 1e-4,
    "shear_axis_probabilities": (1 / 3, 1 / 3, 1 / 3),
}

_PRESETS: dict[str, dict[str, Any]] = {
    "paper": {},
    "paper_equation": {"extent": None},
    "released": _RELEASED,
    "smile": {
        **_RELEASED,
        "reference_size": 224,
        "patch_scales": (32, 48, 56, 64, 96, 128),
        "patch_source": "uniform",
        "shape_probabilities": (1, 0, 0),
        "soft_edge_probability": 0,
        "opacity_range": (1, 1),
        "extent": (40, 180),
        "velocity": 12,
        "transforms": ("scale", "rotation"),
        "scale_rate": 0.025,
    },
}


def _padded(values: tuple[float, ...], length: int) -> tuple[float, ...]:
    return values + (1,) * (length - len(values))
