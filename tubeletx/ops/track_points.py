"""Where points of a clip lie in its other frames, and whether they show there, as the tubelets have it."""

from __future__ import annotations

import torch
from torch import Tensor

from tubeletx._library import operator
from tubeletx.ops import _arguments as arguments

__all__ = ["track_points"]

_operator = operator("track_points")


def track_points(
    points: Tensor,
    point_frame: Tensor,
    frames: Tensor,
    patch_size: Tensor,
    centers: Tensor,
    linear: Tensor,
    shape: Tensor,
    edge: Tensor,
    opacity: Tensor,
    order: Tensor,
    *,
    height: int,
    width: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Follows points of a clip exactly, from the geometry that its tubelets were painted by.

    A point belongs to the surface that has the largest share of the colour at its place in its frame: a tubelet, with
    which it moves, or the background, with which it rests. Its visibility in another frame is the share of the colour
    there that is its surface's: mask times opacity, times what each tubelet painted later lets through; 0 outside of
    the image. Patches count as opaque: an alpha of their own is not looked at. Computed in float64.

    Args:
        points: (B, N, 2) float32, [x, y] in continuous pixels; any strides, as for the next two, so that expanded ones
            cost nothing.
        point_frame: (B, N) int32, the frame in which each point is given, 0 <= t < T.
        frames: (B, N, S) int32, the frames in which each point is asked for. Outside of 0 <= t < T it is said to
            rest where it was given, and not to be visible.
        patch_size: (B, M, 2) int32, width and height.
        centers: (B, M, T, 2) float32.
        linear: (B, M, T, 2, 2) float32.
        shape: (B, M) int32, 0 rectangle, 1 ellipse, 2 rhombus.
        edge: (B, M) float32.
        opacity: (B, M, T) float32.
        order: (B, M) int32, paint rank.
        height: H of the clip, pixels.
        width: W of the clip, pixels.

    Returns:
        places: (B, N, S, 2) float32, [x, y].
        visibility: (B, N, S) float32, 0 to 1.
        owner: (B, N) int32, the tubelet that each point belongs to, -1 for the background.

    Raises:
        ValueError: an argument has a wrong shape, dtype or device or requires a gradient, or (looked at on the CPU
            only) a `point_frame` or a `shape` is none; the message names it.
        TypeError: an argument is no tensor, or a size no integer.
    """
    tensors = {
        "points": points,
        "point_frame": point_frame,
        "frames": frames,
        "patch_size": patch_size,
        "centers": centers,
        "linear": linear,
        "shape": shape,
        "edge": edge,
        "opacity": opacity,
        "order": order,
    }
    arguments.require_tensors(**tensors)
    arguments.refuse_gradient("track_points", **tensors)
    arguments.refuse_tangents("track_points", **tensors)
    return _operator(  # type: ignore[no-any-return]
        *tensors.values(), arguments.require_integer(height, "height"), arguments.require_integer(width, "width")
    )


def _fake(
    points: Tensor,
    point_frame: Tensor,
    frames: Tensor,
    patch_size: Tensor,
    centers: Tensor,
    linear: Tensor,
    shape: Tensor,
    edge: Tensor,
    opacity: Tensor,
    order: Tensor,
    height: int,
    width: int,
) -> tuple[Tensor, Tensor, Tensor]:
    arguments.check_shape(points, "points", (None, None, 2), "(B, N, 2)")
    arguments.check_dtype(points, "points", torch.float32)
    pair = points.shape[:2]
    arguments.check_shape(centers, "centers", (pair[0], None, None, 2), "(B, M, T, 2)")
    batch, tubelets, clip, _ = centers.shape
    rules = {
        "point_frame": (point_frame, pair, "(B, N)"),
        "frames": (frames, (*pair, None), "(B, N, S)"),
        "patch_size": (patch_size, (batch, tubelets, 2), "(B, M, 2)"),
    }
    for name, (tensor, expected, meaning) in rules.items():
        arguments.check_tensor(tensor, name, torch.int32, expected, meaning, points, "points")
    geometry = (centers, linear, shape, edge, opacity, order)
    arguments.check_geometry(batch, tubelets, clip, *geometry, points, "points")
    arguments.check_positive(height, "height")
    arguments.check_positive(width, "width")
    targets = frames.shape[2]
    return (
        points.new_empty((*pair, targets, 2)),
        points.new_empty((*pair, targets)),
        points.new_empty(pair, dtype=torch.int32),
    )


torch.library.register_fake("tubeletx::track_points", _fake)
